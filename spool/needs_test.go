package spool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
)

// slowBodies are bodies in memory whose sync the test ends.
type slowBodies struct {
	*bodies
	end   chan error // one for each body
	known error      // what is known of the sync when the rows are written
}

type slowBody struct {
	wait  func() error
	known error
	token string
}

func (p *slowBody) Wait() error   { return p.wait() }
func (p *slowBody) Err() error    { return p.known }
func (p *slowBody) Token() []byte { return []byte(p.token) }

func (b *slowBodies) Begin(ctx context.Context, owner blob.Owner, src blob.Source) (blob.Ref, blob.Pending, error) {
	ref, err := b.Put(ctx, owner, src)
	return ref, &slowBody{sync.OnceValue(func() error { return <-b.end }), b.known, mail.ID(owner).String()}, err
}

func slowSpool(t *testing.T) (*Spool, *slowBodies, kv.Store) {
	st := kvmem.New(kvmem.Options{})
	t.Cleanup(func() { _ = st.Close() })
	b := &slowBodies{bodies: newBodies(), end: make(chan error, 10)}
	return openSpool(t, st, b, Options{}), b, st
}

func TestPutWaitsForTheBody(t *testing.T) {
	s, b, _ := slowSpool(t)
	m, rs := message(s, 1, "a@x.example")
	acknowledged := make(chan error, 1)
	go func() {
		_, err := s.Put(context.Background(), draft(t, s, "x"), m, rs, nil, nil)
		acknowledged <- err
	}()
	select {
	case err := <-acknowledged:
		t.Fatalf("acknowledged before the body is stable: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := s.Load(t.Context(), m.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("it is there already: %v", err)
	}
	b.end <- nil
	if err := <-acknowledged; err != nil {
		t.Fatal(err)
	}
	load(t, s, m.ID)
}

// A body whose sync fails after its rows were committed fails the store: nobody
// is told that the message was taken, and it is not there.
func TestBodyThatCannotBeSynced(t *testing.T) {
	s, b, st := slowSpool(t)
	fault := errors.New("disk on fire")
	b.end <- fault
	m, rs := message(s, 1, "a@x.example")
	if _, err := s.Put(t.Context(), draft(t, s, "x"), m, rs, nil, nil); !errors.Is(err, fault) || !errors.Is(err, kv.ErrFailed) {
		t.Errorf("Put gives %v", err)
	}
	select {
	case <-st.Failed():
	default:
		t.Error("the store goes on")
	}
	if _, err := s.Load(t.Context(), m.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if b.len() != 1 {
		t.Error("the outcome is unknown, and the body was deleted")
	}
}

// A body whose sync has failed before its rows are written fails its message
// alone.
func TestBodyKnownToBeLost(t *testing.T) {
	s, b, _ := slowSpool(t)
	b.known = errors.New("disk on fire")
	m, rs := message(s, 1, "a@x.example")
	if _, err := s.Put(t.Context(), draft(t, s, "x"), m, rs, nil, nil); !errors.Is(err, b.known) || errors.Is(err, kv.ErrFailed) {
		t.Errorf("Put gives %v", err)
	}
	if b.len() != 0 {
		t.Error("its body is still there")
	}
	b.known = nil
	b.end <- nil
	m, rs = message(s, 1, "a@x.example")
	if _, err := s.Put(t.Context(), draft(t, s, "x"), m, rs, nil, nil); err != nil {
		t.Errorf("the store does not go on: %v", err)
	}
}

// What ends before the commit deletes the body, and nobody waits for its sync.
func TestRefusedBeforeTheCommit(t *testing.T) {
	s, b, st := slowSpool(t)
	refused := errors.New("refused")
	for name, put := range map[string]func(m *mail.Message, rs []mail.Recipient) error{
		"by extra": func(m *mail.Message, rs []mail.Recipient) error {
			_, err := s.Put(t.Context(), draft(t, s, "x"), m, rs, nil, func(kv.Writer) error { return refused })
			return err
		},
		"as too big": func(m *mail.Message, rs []mail.Recipient) error {
			_, err := s.Put(t.Context(), draft(t, s, "x"), m, rs, nil, func(w kv.Writer) error {
				for n := range 10 { // each can be stored, all at once cannot
					if err := w.Put([]byte{'z', byte(n)}, make([]byte, kv.MaxValue)); err != nil {
						return err
					}
				}
				return nil
			})
			if errors.Is(err, kv.ErrTooBig) {
				err = refused
			}
			return err
		},
		"by the end of its context": func(m *mail.Message, rs []mail.Recipient) error {
			ctx, cancel := context.WithCancel(t.Context())
			held, free := make(chan struct{}), make(chan struct{})
			st.Go(func(kv.Writer) error { close(held); <-free; return nil }, nil)
			<-held
			ended := make(chan error)
			go func() {
				_, err := s.Put(ctx, draft(t, s, "x"), m, rs, nil, nil)
				ended <- err
			}()
			for b.len() == 0 {
				time.Sleep(time.Millisecond)
			}
			cancel()
			err := <-ended
			close(free)
			if errors.Is(err, context.Canceled) {
				err = refused
			}
			return err
		},
	} {
		m, rs := message(s, 1, "a@x.example")
		if err := put(m, rs); !errors.Is(err, refused) {
			t.Errorf("%s: %v", name, err)
		}
		if b.len() != 0 || s.coming.has(m.ID) {
			t.Errorf("%s: %d bodies are left", name, b.len())
		}
		b.end <- nil
		next, rs := message(s, 1, "a@x.example") // and the store goes on
		st, err := s.Put(t.Context(), draft(t, s, "y"), next, rs, nil, nil)
		if err != nil {
			t.Fatalf("%s: after it %v", name, err)
		}
		if err := b.Delete(blob.Owner(next.ID), st.Body); err != nil {
			t.Fatal(err)
		}
		st.Release()
	}
}

// Messages of one commit are one record, and counts are read in it as those
// before left them. When the body of one is torn all of them go, none of which
// was acknowledged; the record is the last, so nothing can be missing under
// what comes later.
func TestOneTornBodyTakesItsCommit(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, Options{})
	defer s.close(t)
	var acked, later []mail.ID
	for range 5 {
		m, rs := message(s.Spool, 1, "a@x.example")
		accept(t, s.Spool, m, rs)
		acked = append(acked, m.ID)
	}
	// While a commit waits for this, all that comes gathers for the next one.
	asked, gate := make(chan struct{}), make(chan struct{})
	s.kv.Go(func(w kv.Writer) error {
		w.Needs(&slowBody{wait: func() error { close(asked); <-gate; return nil }, token: "gate"})
		return w.Put([]byte("zz gate"), nil)
	}, nil)
	<-asked
	const together = 8
	var ran atomic.Int32
	var all sync.WaitGroup
	segment := filepath.Join("bodies", "segments", "0000000000000001.seg")
	first := tails(t, dir)[segment]
	for range together {
		m, rs := message(s.Spool, 1, "a@x.example")
		later = append(later, m.ID)
		d := draft(t, s.Spool, "body of "+m.ID.String())
		all.Go(func() {
			_, err := s.Put(context.Background(), d, m, rs, nil, func(kv.Writer) error { ran.Add(1); return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	for ran.Load() < together {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	all.Wait()
	end := tails(t, dir)[segment]
	for _, torn := range []bool{true, false} {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if torn {
			path := filepath.Join(copied, segment)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tear(b[first : first+(end-first)/together]) // one of the bodies, which are of one size
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		checkCommit(t, copied, acked, later, !torn)
	}
}

func checkCommit(t *testing.T, dir string, acked, later []mail.ID, there bool) {
	t.Helper()
	s := openDisk(t, dir, Options{})
	defer s.close(t)
	for _, id := range acked {
		if got := readBody(t, s.Spool, load(t, s.Spool, id)); got != "body of "+id.String() {
			t.Errorf("message %s: %q", id, got)
		}
	}
	for _, id := range later {
		st, err := s.Load(t.Context(), id)
		if there && err == nil {
			if got := readBody(t, s.Spool, st); got != "body of "+id.String() {
				t.Errorf("message %s: %q", id, got)
			}
		} else if there || !errors.Is(err, ErrNotFound) {
			t.Errorf("message %s, of the last commit: %v", id, err)
		}
	}
	consistent(t, s.Spool)
	m, rs := message(s.Spool, 1, "a@x.example")
	accept(t, s.Spool, m, rs)
	consistent(t, s.Spool)
}
