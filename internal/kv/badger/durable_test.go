package badger_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/badger"
	"behalf/internal/kv/journal"
)

var bg = context.Background()

func TestMain(m *testing.M) {
	if dir := os.Getenv("BEHALF_TEST_CRASH"); dir != "" {
		crash(dir)
		return
	}
	os.Exit(m.Run())
}

// crash writes until it is killed, and says what was acknowledged.
func crash(dir string) {
	s, err := badger.Open(dir, badger.Options{})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var out sync.Mutex
	for g := range uint64(20) {
		go func() {
			for i := uint64(0); ; i++ {
				n := g<<32 | i
				if err := s.Update(bg, func(w kv.Writer) error { return accept(w, n) }); err != nil {
					fmt.Println("error", err)
					return
				}
				out.Lock()
				fmt.Println(n)
				out.Unlock()
			}
		}()
	}
	select {}
}

func TestKilled(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[uint64]bool{}
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "BEHALF_TEST_CRASH="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(200*time.Millisecond+time.Duration(rand.IntN(400))*time.Millisecond, func() { _ = child.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var n uint64
			if _, err := fmt.Sscan(lines.Text(), &n); err == nil {
				acknowledged[n] = true
			} else if bytes.HasPrefix(lines.Bytes(), []byte("error")) {
				t.Error(lines.Text())
			}
		}
		_ = child.Wait()
		checkAll(t, dir, acknowledged)
	}
	if len(acknowledged) == 0 {
		t.Error("nothing was acknowledged")
	}
}

// checkAll finds the four rows of each acknowledged number, and of no number a part.
func checkAll(t *testing.T, dir string, acknowledged map[uint64]bool) {
	t.Helper()
	s, err := badger.Open(dir, badger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	parts := map[uint64]int{}
	err = s.View(bg, func(r kv.Reader) error {
		return r.Scan(kv.Range{KeysOnly: true}, func(k, _ []byte) bool {
			parts[binary.BigEndian.Uint64(k[8:])]++
			return true
		})
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	for n, count := range parts {
		if count != 4 {
			t.Errorf("of %d there are %d rows: a part of a transaction", n, count)
		}
	}
	for n := range acknowledged {
		if parts[n] == 0 {
			t.Errorf("%d was acknowledged and is lost", n)
		}
	}
}

// After a power cut the end of the log may be anything, behind what was synced.
func TestTornLog(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		s := open(t, dir)
		for n := range uint64(50) {
			if err := s.Update(bg, func(w kv.Writer) error { return accept(w, n) }); err != nil {
				t.Fatal(err)
			}
		}
		copied := t.TempDir()
		log := copyStore(t, dir, copied) // as it is now, open
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		tear(t, log, round)
		if round == 0 { // the tear goes through acknowledged rows
			if s, err := badger.Open(copied, badger.Options{}); !errors.Is(err, journal.ErrDamaged) {
				t.Errorf("a log with damage in its middle opens: %v", err)
				if err == nil {
					_ = s.Close()
				}
			}
			continue
		}
		acknowledged := map[uint64]bool{}
		for n := range uint64(50) {
			acknowledged[n] = true
		}
		checkAll(t, copied, acknowledged)
	}
}

func copyStore(t *testing.T, from, to string) (log string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "LOCK" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, e.Name())
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(path) == ".log" {
			log = path
		}
	}
	return log
}

// tear writes noise behind the end of the log, or in round 0 through its middle.
func tear(t *testing.T, log string, round int) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(b, "\x00")) + 400 // keys and values end in zeros
	at, noise := end+rand.IntN(64), make([]byte, 1+rand.IntN(4000))
	if round == 0 {
		at = end / 2
	}
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	copy(b[at:], noise)
	if err := os.WriteFile(log, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[uint64]bool{}
	for round := range uint64(4) {
		s := open(t, dir)
		if err := s.Update(bg, func(w kv.Writer) error { return accept(w, round) }); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		acknowledged[round] = true
		checkAll(t, dir, acknowledged)
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if s, err := badger.Open(dir, badger.Options{}); err == nil {
		_ = s.Close()
		t.Error("the same directory was opened twice")
	}
}

func TestLoad(t *testing.T) {
	s := open(t, t.TempDir())
	const n = 10_000
	for i := range uint64(n) {
		s.Go(func(w kv.Writer) error { return accept(w, i) }, nil)
	}
	err := s.Update(bg, func(w kv.Writer) error {
		return errors.Join(w.PutFor([]byte("a life to come"), nil, time.Hour), w.PutFor([]byte("a short life to be"), nil, time.Second))
	})
	if err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	if err := s.Backup(bg, &dump); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := badger.Load(bg, dir, bytes.NewReader(dump.Bytes()), badger.Options{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2100 * time.Millisecond)
	loaded := open(t, dir)
	rows := 0
	err = loaded.View(bg, func(r kv.Reader) error {
		_, err := r.Get([]byte("a life to come"))
		if _, gone := r.Get([]byte("a short life to be")); !errors.Is(gone, kv.ErrNotFound) {
			t.Errorf("a life that ended came back: %v", gone)
		}
		return errors.Join(err, r.Scan(kv.Range{}, func(_, _ []byte) bool { rows++; return true }))
	})
	if err != nil || rows != 4*n+1 {
		t.Errorf("%d rows of %d are back: %v", rows, 4*n+1, err)
	}
	if err := loaded.Update(bg, func(w kv.Writer) error { return accept(w, n) }); err != nil {
		t.Error(err)
	}
	if err := badger.Load(bg, dir, bytes.NewReader(dump.Bytes()), badger.Options{}); err == nil {
		t.Error("a backup was loaded over a store")
	}
	if err := badger.Load(bg, t.TempDir(), bytes.NewReader(dump.Bytes()[:dump.Len()/2]), badger.Options{}); !errors.Is(err, kv.ErrDump) {
		t.Errorf("half a backup gives %v", err)
	}
}
