package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"behalf/mail"
)

// After a power cut, what was acknowledged is there although the tails of the
// logs behind it are torn: zeroed, cut off or full of rubbish. Nothing of what
// came later is there.
func TestTornTails(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, Options{})
	defer s.close(t)
	put := func(n int) (ids []mail.ID) {
		for range n {
			m, rs := message(s.Spool, 1, "a@x.example")
			for n == 1 && len(bodyOf(m.ID)) > 1<<20 { // it would be a file of its own, which is synced first
				m, rs = message(s.Spool, 1, "a@x.example")
			}
			st, err := s.Put(t.Context(), draft(t, s.Spool, bodyOf(m.ID)), m, rs, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if n > 1 {
				settle(t, s.Spool, deferred(st, 0, now()))
			}
			st.Release()
			ids = append(ids, m.ID)
		}
		return ids
	}
	acked := put(40)
	ends := tails(t, dir)
	later := put(1) // one commit: there is never more than one that is not synced
	for round := range 12 {
		// The body and the commit are synced at once: either can be on disk
		// without the other, and each can be torn.
		tearLog, tearBodies := round%3 != 1, round%3 != 0
		copied := copyTorn(t, dir, ends, tearLog, tearBodies)
		checkTorn(t, copied, acked, later)
	}
}

// What is torn behind what was acknowledged: nothing of it may be there.
func checkTorn(t *testing.T, dir string, acked, later []mail.ID) {
	t.Helper()
	s := openDisk(t, dir, Options{})
	defer s.close(t)
	for _, id := range acked {
		st := load(t, s.Spool, id)
		if st.Recipients[0].Tries != 1 {
			t.Errorf("message %s: an acknowledged settle is lost", id)
		}
		if got := readBody(t, s.Spool, st); got != bodyOf(id) {
			t.Errorf("message %s: the body is damaged", id)
		}
	}
	for _, id := range later {
		if _, err := s.Load(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("message %s is there, and its commit or its body is torn: %v", id, err)
		}
	}
	consistent(t, s.Spool)
	m, rs := message(s.Spool, 1, "a@x.example")
	accept(t, s.Spool, m, rs) // and it goes on
	if got := readBody(t, s.Spool, load(t, s.Spool, m.ID)); !strings.HasPrefix(got, "body of") {
		t.Errorf("after the recovery: %q", got)
	}
}

// tails tells where the data in each file ends: logs are laid out in advance
// and end in zeros.
func tails(t *testing.T, dir string) map[string]int {
	t.Helper()
	ends := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		ends[rel] = len(bytes.TrimRight(b, "\x00"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ends
}

// copyTorn copies the directory with damage behind the given ends: in the log
// of the store, in the segments of bodies, or in both.
func copyTorn(t *testing.T, dir string, ends map[string]int, tearLog, tearBodies bool) string {
	t.Helper()
	to := t.TempDir()
	torn := 0
	for rel, end := range tails(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, rel))
		if err != nil {
			t.Fatal(err)
		}
		was, known := ends[rel]
		switch {
		case end <= was || !known:
		case strings.HasSuffix(rel, ".log") && tearLog:
			torn++
			tear(b[was+logZeros : end])
		case strings.Contains(rel, "segments") && tearBodies:
			torn++
			if tear(b[was:end]); rand.IntN(2) == 0 {
				b = b[:was+rand.IntN(end-was)]
			}
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, rel), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if torn == 0 {
		t.Fatal(fmt.Sprint("nothing was torn: ", ends))
	}
	return to
}

// logZeros is more than the zeros in which a record of the log may end, and less
// than its header.
const logZeros = 16

// tear damages a tail from a random place on.
func tear(tail []byte) {
	from := rand.IntN(len(tail))
	switch rand.IntN(3) {
	case 0:
		clear(tail[from:])
	case 1:
		for i := from; i < len(tail); i++ {
			tail[i] ^= byte(1 + rand.IntN(255))
		}
	case 2:
		tail[from] ^= 1 << rand.IntN(8) // one bit, and what follows is whole
	}
}
