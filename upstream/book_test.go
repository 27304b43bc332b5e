package upstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"behalf/mail"
)

// fake counts its closing.
type fake struct{ closed atomic.Int32 }

func (f *fake) Deliver(context.Context, *Job) []Result { return nil }
func (f *fake) Traits() Traits                         { return Traits{} }
func (f *fake) Close() error                           { f.closed.Add(1); return nil }

func build(u Upstream, err error) func(context.Context) (Upstream, error) {
	return func(context.Context) (Upstream, error) { return u, err }
}

func TestBookKeepsAndReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBook(10)
		one, two := &fake{}, &fake{}
		k := Key{1, "connection:office", 1}
		u, done := b.Get(t.Context(), k, build(one, nil))
		if u != one {
			t.Fatal(u)
		}
		if u, d := b.Get(t.Context(), k, build(two, nil)); u != one {
			t.Error("built twice")
		} else {
			d()
		}
		k.Revision = 2
		u2, done2 := b.Get(t.Context(), k, build(two, nil))
		if u2 != two || b.Len() != 1 {
			t.Error("the old revision stayed")
		}
		synctest.Wait()
		if one.closed.Load() != 0 {
			t.Error("closed while in use")
		}
		done()
		done() // once is enough
		synctest.Wait()
		if one.closed.Load() != 1 {
			t.Error("the old revision was not closed")
		}
		done2()
		b.Close()
		if two.closed.Load() != 1 {
			t.Error("not closed with the book")
		}
	})
}

func TestBookIsBounded(t *testing.T) {
	b := NewBook(2)
	ups := make([]*fake, 4)
	get := func(i int) func() {
		_, done := b.Get(t.Context(), Key{Tenant: mail.TenantID(i)}, build(ups[i], nil))
		return done
	}
	for i := range ups {
		ups[i] = &fake{}
	}
	get(0)()
	keep := get(1)
	get(2)()
	get(3)()
	if b.Len() != 2 {
		t.Errorf("%d are kept", b.Len())
	}
	keep()
	b.Close()
	for i, u := range ups {
		if u.closed.Load() != 1 {
			t.Errorf("upstream %d was closed %d times", i, u.closed.Load())
		}
	}
}

func TestBookBuildsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBook(0)
		var built atomic.Int32
		release := make(chan bool)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				u, done := b.Get(t.Context(), Key{Tenant: 1}, func(context.Context) (Upstream, error) {
					built.Add(1)
					<-release
					return &fake{}, nil
				})
				if _, ok := u.(*fake); !ok {
					t.Error(u)
				}
				done()
			})
		}
		synctest.Wait()
		// One that waits for another's build does not wait beyond its own time.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		u, done := b.Get(ctx, Key{Tenant: 1}, nil)
		if rs := u.Deliver(ctx, &Job{To: make([]Target, 2)}); len(rs) != 2 || rs[0].Failure.Scope != mail.OfUs {
			t.Errorf("%+v", rs)
		}
		done()
		close(release)
		wg.Wait()
		if built.Load() != 1 {
			t.Errorf("built %d times", built.Load())
		}
		b.Close()
	})
}

func TestBookFailedBuild(t *testing.T) {
	b := NewBook(0)
	suspended := mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "the connection is suspended; log in again")
	for _, c := range []struct {
		err    error
		reason mail.Reason
		code   int
	}{{errors.New("no such connection"), mail.ReasonUpstreamAbsent, 451}, {suspended, mail.ReasonAuth, 535}} {
		u, done := b.Get(t.Context(), Key{}, build(nil, c.err))
		rs := u.Deliver(t.Context(), &Job{To: make([]Target, 3)})
		if len(rs) != 3 {
			t.Fatalf("%d results", len(rs))
		}
		for _, r := range rs {
			if f := r.Failure; f == nil || f.Scope != mail.OfRoute || f.Reason != c.reason || f.Code != c.code {
				t.Errorf("%+v", f)
			}
		}
		done()
		if b.Len() != 0 {
			t.Error("a failed build is kept")
		}
	}
	if u, done := b.Get(t.Context(), Key{}, build(&fake{}, nil)); u == nil {
		t.Error("no second chance")
	} else {
		done()
	}
}
