package kvtest

import (
	"errors"
	"testing"
	"time"

	"behalf/internal/kv"
)

// durable is stable when the test says so.
type durable struct {
	asked chan struct{}
	done  chan error
}

func newDurable() *durable {
	return &durable{asked: make(chan struct{}, 1), done: make(chan error, 1)}
}

func (d *durable) Wait() error {
	d.asked <- struct{}{}
	return <-d.done
}

func (d *durable) Token() []byte { return []byte("token") }

func needs(t *testing.T, s kv.Store) {
	d := newDurable()
	outcome := make(chan error, 2)
	s.Go(func(w kv.Writer) error {
		w.Needs(d)
		return w.Put([]byte("a"), []byte("1"))
	}, func(err error) { outcome <- err })
	<-d.asked
	s.Go(func(w kv.Writer) error {
		if v, err := w.Get([]byte("a")); err != nil || string(v) != "1" {
			t.Errorf("the function after it reads %q: %v", v, err)
		}
		return nil
	}, func(err error) { outcome <- err })
	select {
	case err := <-outcome:
		t.Fatalf("an outcome is told too early: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	want(t, s, "a", "-")
	d.done <- nil
	soon(t, "commit", func() {
		for range 2 {
			if err := <-outcome; err != nil {
				t.Error(err)
			}
		}
	})
	want(t, s, "a", "1")
	refused := errors.New("refused")
	err := s.Update(bg, func(w kv.Writer) error {
		w.Needs(newDurable()) // would never be done
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("what a refused function needed gives %v", err)
	}
}

func needFails(t *testing.T, s kv.Store) {
	put(t, s, "a", "1")
	d, fault := newDurable(), errors.New("a dead disk")
	d.done <- fault
	err := s.Update(bg, func(w kv.Writer) error {
		w.Needs(d)
		return w.Put([]byte("a"), []byte("2"))
	})
	if !errors.Is(err, fault) {
		t.Errorf("the outcome is %v", err)
	}
	select {
	case <-s.Failed():
	default:
		t.Error("it goes on, and the outcome of a commit is unknown")
	}
	want(t, s, "a", "1")
}
