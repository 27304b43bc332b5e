package spool

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/blob/files"
	kvbadger "behalf/internal/kv/badger"
	"behalf/mail"
)

// disk is a spool on Badger and files in one directory.
type disk struct {
	*Spool
	kv     *kvbadger.Store
	bodies *files.Store
}

func openDisk(t testing.TB, dir string, o Options) *disk {
	t.Helper()
	b, err := files.Open(filepath.Join(dir, "bodies"), files.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := kvbadger.Open(filepath.Join(dir, "kv"), kvbadger.Options{Whole: b.Whole})
	if err != nil {
		t.Fatal(err)
	}
	return &disk{openSpool(t, st, b, o), st, b}
}

func (d *disk) close(t testing.TB) {
	t.Helper()
	if err := d.kv.Close(); err != nil {
		t.Error(err)
	}
	if err := d.bodies.Close(); err != nil {
		t.Error(err)
	}
}

// bodyOf is the body of a crash test's message: its size and bytes follow from
// the id.
func bodyOf(id mail.ID) string {
	n := 100 + int(id[15])*16
	if id[14]%50 == 0 {
		n = 1<<20 + 512<<10 // a file of its own, gathered in a temporary file
	}
	return strings.Repeat(id.String()+"\r\n", n/28+1)
}

const crashDir = "BEHALF_TEST_CRASH_DIR"

// TestCrashChild is the process that is killed: it takes and settles messages
// as fast as it can and says so once each is acknowledged.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("is run by TestCrash")
	}
	s := openDisk(t, dir, Options{KeepBodies: 300 * time.Millisecond, KeepEvents: time.Hour})
	var mu sync.Mutex
	say := func(what string, id mail.ID) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, id)
	}
	for i := range 8 {
		go func() {
			for {
				m, rs := message(s.Spool, mail.TenantID(i), "a@x.example", "b@y.example")
				st, err := s.Put(context.Background(), draft(t, s.Spool, bodyOf(m.ID)), m, rs, nil, nil)
				if err != nil {
					panic(err)
				}
				say("accepted", m.ID)
				st.Release()
				if rand.IntN(2) == 0 {
					continue
				}
				o := delivered(st, 0)
				o.Changes = append(o.Changes, delivered(st, 1).Changes...)
				o.Events[0].Recipients = []int{0, 1}
				s.Settle(o, func(err error) {
					if err != nil {
						panic(err)
					}
					say("settled", m.ID)
				})
			}
		}()
	}
	for {
		if err := s.Tidy(context.Background()); err != nil {
			panic(err)
		}
		if err := s.Reclaim(context.Background()); err != nil {
			panic(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// However the process dies, every acknowledged message is there with its body,
// and so is every acknowledged settle; and the indexes agree with the messages.
func TestCrash(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	accepted, settled := map[mail.ID]bool{}, map[mail.ID]bool{}
	for range rounds {
		runAndKill(t, dir, accepted, settled)
		checkDisk(t, dir, accepted, settled)
		if t.Failed() {
			return
		}
	}
	if len(accepted) < 10*rounds || len(settled) == 0 {
		t.Errorf("only %d accepted and %d settled: this proves nothing", len(accepted), len(settled))
	}
	t.Logf("%d accepted, %d settled in %d rounds", len(accepted), len(settled), rounds)
}

func runAndKill(t *testing.T, dir string, accepted, settled map[mail.ID]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	first := true
	for lines.Scan() {
		if first { // it is at work: the time until its death begins
			first = false
			time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { cmd.Process.Kill() })
		}
		what, text, _ := strings.Cut(lines.Text(), " ")
		id, err := mail.ParseID(text)
		switch {
		case err != nil: // a line that the death cut short, or the test's own
		case what == "accepted":
			accepted[id] = true
		case what == "settled":
			settled[id] = true
		}
	}
	if first {
		t.Error("the child said nothing")
	}
	cmd.Wait()
}

func checkDisk(t *testing.T, dir string, accepted, settled map[mail.ID]bool) {
	t.Helper()
	s := openDisk(t, dir, Options{KeepBodies: 300 * time.Millisecond, KeepEvents: time.Hour})
	defer s.close(t)
	for id := range accepted {
		st, err := s.Load(t.Context(), id)
		if err != nil {
			t.Fatalf("an acknowledged message: %v", err)
		}
		done := st.Recipients[0].State == mail.Delivered
		if settled[id] && !done {
			t.Errorf("message %s: an acknowledged settle is lost", id)
		}
		if done {
			continue // its body may be dropped
		}
		if got := readBody(t, s.Spool, st); got != bodyOf(id) {
			t.Errorf("message %s: the body is damaged", id)
		}
	}
	consistent(t, s.Spool)
}

// consistent checks that the indexes and counts tell what the messages tell.
func consistent(t *testing.T, s *Spool) {
	t.Helper()
	var dues []string
	stats := map[mail.State]int64{}
	n := int64(0)
	cursor := ""
	for {
		sts, next, err := s.List(t.Context(), Filter{}, cursor, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range sts {
			n++
			for i, r := range st.Recipients {
				stats[r.Shown()]++
				if r.State == mail.Queued {
					dues = append(dues, fmt.Sprint(Due{Queue{r.Lane, st.Message.Tenant}, r.Next, st.Message.ID, i / chunkSize}))
				}
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	var got []string
	for _, d := range allDue(t, s) {
		got = append(got, fmt.Sprint(d))
	}
	same(t, "due index", got, slices.Compact(slices.Sorted(slices.Values(dues))))
	have := s.Stats()
	if have.Messages != n {
		t.Errorf("%d messages are counted, %d listed", have.Messages, n)
	}
	for state, n := range have.Recipients {
		if stats[state] != n {
			t.Errorf("%d recipients are counted %s, %d are", n, state, stats[state])
		}
	}
	var last uint64
	for from := uint64(0); ; {
		es, next, err := s.Events(t.Context(), from, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if e.Seq <= last {
				t.Fatalf("event %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
		if from = next; len(es) == 0 {
			break
		}
	}
}
