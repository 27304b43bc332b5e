package smtpclient

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/testkit/smtppeer"
)

// leased takes a lease and dials if it must; it returns whether it did.
func leased(t *testing.T, p *Pool, key string, peer *smtppeer.Peer) (l *Lease, dialled bool) {
	t.Helper()
	l, err := p.Lease(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if l.Client != nil {
		return l, false
	}
	conn, err := net.Dial("tcp", peer.AddrPort.String())
	if err != nil {
		t.Fatal(err)
	}
	if l.Client, err = Open(t.Context(), conn, Config{Host: key, Hello: "us.test"}); err != nil {
		t.Fatal(err)
	}
	return l, true
}

// patience is for what takes no time but on a machine that is busy.
const patience = 20 * time.Second

func pool(t *testing.T, l Limits) (*Pool, *smtppeer.Peer) {
	peer := smtppeer.Start(t, smtppeer.Options{})
	p := NewPool(l)
	t.Cleanup(func() {
		p.Close()
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if peer.Alive() == 0 {
				return
			}
		}
		t.Errorf("%d sessions are open after Close", peer.Alive())
	})
	return p, peer
}

func TestPoolReuses(t *testing.T) {
	p, peer := pool(t, Limits{Messages: 2})
	for i, want := range []bool{true, false, true, false} {
		l, dialled := leased(t, p, "a", peer)
		if dialled != want {
			t.Errorf("lease %d: dialled: %v", i, dialled)
		}
		txns := []Transaction{txn("v@a.test", "1@b.test")}
		l.Client.Send(t.Context(), Envelope{}, hello, txns)
		l.Release()
	}
}

func TestPoolKeepsKeysApart(t *testing.T) {
	p, peer := pool(t, Limits{})
	l, _ := leased(t, p, "a", peer)
	l.Release()
	if l, dialled := leased(t, p, "b", peer); !dialled || l.Client.Host() != "b" {
		t.Error("a session to another place was given")
	} else {
		l.Release()
	}
}

func TestPoolWaitsForItsTurn(t *testing.T) {
	p, peer := pool(t, Limits{PerKey: 1})
	l, _ := leased(t, p, "a", peer)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Lease(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lease: %v", err)
	}
	got := make(chan *Lease)
	go func() {
		l, err := p.Lease(t.Context(), "a")
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	for p.waitingFor() == 0 {
		time.Sleep(time.Millisecond)
	}
	want := l.Client
	l.Release()
	if l := <-got; l.Client != want {
		t.Error("the session was not handed on")
	} else {
		l.Release()
	}
}

func (p *Pool) waitingFor() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

func TestPoolGivesRoomByClosingIdleSessions(t *testing.T) {
	p, peer := pool(t, Limits{Total: 2})
	a, _ := leased(t, p, "a", peer)
	b, _ := leased(t, p, "b", peer)
	a.Release()
	c, _ := leased(t, p, "c", peer)
	if n := p.Open(); n != 2 {
		t.Errorf("%d open", n)
	}
	b.Release()
	c.Release()
	if l, dialled := leased(t, p, "a", peer); !dialled {
		t.Error("the session of a was not closed")
	} else {
		l.Release()
	}
}

func TestPoolKeepsSomeUnused(t *testing.T) {
	p, peer := pool(t, Limits{Kept: 2})
	var held []*Lease
	for _, k := range []string{"a", "b", "c"} {
		l, _ := leased(t, p, k, peer)
		held = append(held, l)
	}
	for _, l := range held {
		l.Release()
	}
	if n := p.Open(); n != 2 {
		t.Errorf("%d are kept, want 2", n)
	}
	for _, k := range []string{"b", "c", "a"} {
		l, dialled := leased(t, p, k, peer)
		if dialled != (k == "a") {
			t.Errorf("%s: dialled: %v", k, dialled)
		}
		defer l.Release()
	}
}

func TestPoolForgetsWhatIdles(t *testing.T) {
	p, peer := pool(t, Limits{Idle: 30 * time.Millisecond})
	for _, k := range []string{"a", "b", "c"} {
		l, _ := leased(t, p, k, peer)
		l.Release()
	}
	for end := time.Now().Add(patience); p.Open() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d are still open", p.Open())
		}
	}
	if len(p.places) != 0 {
		t.Errorf("%d places are remembered", len(p.places))
	}
}

func TestPoolNoticesAClosedSession(t *testing.T) {
	p, peer := pool(t, Limits{})
	l, _ := leased(t, p, "a", peer)
	l.Release()
	peer.Close()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // the kernel tells of it when it can
		var err error
		if l, err = p.Lease(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		dead := l.Client == nil
		l.Release()
		if dead {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a dead session is given")
		}
	}
	if p.Open() != 0 {
		t.Errorf("%d open", p.Open())
	}
}

func TestPoolClosed(t *testing.T) {
	p, peer := pool(t, Limits{PerKey: 1})
	l, _ := leased(t, p, "a", peer)
	failed := make(chan error)
	go func() {
		_, err := p.Lease(t.Context(), "a")
		failed <- err
	}()
	for p.waitingFor() == 0 {
		time.Sleep(time.Millisecond)
	}
	p.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := p.Lease(t.Context(), "b"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	l.Release() // one that outlived the pool
	if p.Open() != 0 {
		t.Error("a session is open")
	}
}

// Waiting until a time gives up then, loses no session that comes at the same
// moment, and waits again in the same memory.
func TestPoolLeaseUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(Limits{PerKey: 1})
		defer p.Close()
		held, err := p.Lease(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			asked := time.Now()
			if _, err := p.LeaseUntil(t.Context(), "a", asked.Add(time.Second)); !errors.Is(err, context.DeadlineExceeded) || time.Since(asked) != time.Second {
				t.Fatalf("%v after %v", err, time.Since(asked))
			}
		}
		if len(p.spare) != 1 || len(p.waiting) != 0 {
			t.Errorf("%d waiters are kept, %d wait", len(p.spare), len(p.waiting))
		}
		for range 100 { // it is released when the other gives up
			until := time.Now().Add(time.Second)
			go func() {
				time.Sleep(time.Until(until))
				held.Release()
			}()
			l, err := p.LeaseUntil(t.Context(), "a", until)
			synctest.Wait()
			if err != nil {
				if l, err = p.LeaseUntil(t.Context(), "a", until.Add(time.Second)); err != nil {
					t.Fatal("the session is lost:", err)
				}
			}
			held = l
		}
		held.Release()
		if n := len(p.spare); n != 1 {
			t.Errorf("%d waiters are kept", n)
		}
	})
}
