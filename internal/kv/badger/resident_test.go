package badger

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/kv"
)

// residentTables adds up what /proc/self/smaps says of the store's tables.
func residentTables(t *testing.T, s *Store) (octets int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := realPath(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		switch {
		case strings.Contains(line, ".sst"):
			ours = strings.HasPrefix(fields[len(fields)-1], dir)
		case ours && fields[0] == "Rss:":
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			octets += kib << 10
			ours = false
		}
	}
	return octets
}

func residentValue(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 16<<10) }

// fillTables leaves rows in tables, all of which are mapped.
func fillTables(t *testing.T, s *Store, rows int) {
	t.Helper()
	for from := range rows / 100 {
		err := s.Update(t.Context(), func(w kv.Writer) (err error) {
			for i := from * 100; i < from*100+100 && err == nil; i++ {
				err = w.Put(fmt.Appendf(nil, "row/%06d", i), residentValue(i))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.tidy.sendOn()
	for deadline := time.Now().Add(20 * time.Second); s.flushing(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the table is not flushed")
		}
	}
	if err := s.tidy.fill(); err != nil {
		t.Fatal(err)
	}
}

func checkRow(s *Store, t *testing.T, i int) error {
	return s.View(t.Context(), func(r kv.Reader) error {
		v, err := r.Get(fmt.Appendf(nil, "row/%06d", i))
		if err == nil && !bytes.Equal(v, residentValue(i)) {
			err = fmt.Errorf("row %d has another value", i)
		}
		return err
	})
}

func TestPagesOfTablesAreGivenBack(t *testing.T) {
	const rows = 4000
	real := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(link, "store"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.pager.close()
	defer func() { s.pager = newPager(s, time.Hour, 0) }()
	fillTables(t, s, rows)
	readAll := func() {
		for i := range rows {
			if err := checkRow(s, t, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	readAll()
	if n := residentTables(t, s); n < rows*16<<10*3/4 {
		t.Fatalf("%d octets of tables in memory after all were read", n)
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // Badger may be merging some
		if err := s.unmapTables(); err != nil {
			t.Fatal(err)
		}
		n := residentTables(t, s)
		if n <= 1<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d octets of tables in memory after they were given back", n)
		}
	}
	readAll()
}

func TestPagerKeepsToItsRoom(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fillTables(t, s, 4000)
	s.pager.close()
	s.pager = newPager(s, time.Millisecond, 1<<20)
	for deadline := time.Now().Add(20 * time.Second); residentTables(t, s) > 8<<20; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d octets of tables stay in memory", residentTables(t, s))
		}
	}
}

// Tables come and go while pages are given back and rows are read.
func TestPagesGivenBackBesideMerges(t *testing.T) {
	s, err := Open(t.TempDir(), Options{logSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const rows = 1000
	fillTables(t, s, rows)
	s.pager.close()
	s.pager = newPager(s, time.Millisecond, 0)
	var work sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := checkRow(s, t, rand.IntN(rows)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		fillTables(t, s, rows)
		if err := s.db.Flatten(1); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	work.Wait()
}
