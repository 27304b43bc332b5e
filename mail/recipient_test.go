package mail

import (
	"fmt"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	sched = Schedule{Retry: []time.Duration{5 * time.Minute, 10 * time.Minute, time.Hour}, RetryConnect: []time.Duration{15 * time.Second, 45 * time.Second},
		FailoverAfter: 45 * time.Second}
)

// routed is a message with ways through a connection, direct and the platform.
func routed(wishes ...UpstreamID) *Message {
	m := &Message{ID: ID{15: 7}, Stream: StreamTransactional, Accepted: start, Expires: start.Add(96 * time.Hour)}
	for _, u := range wishes {
		m.Wishes = append(m.Wishes, Wish{Upstream: u, Methods: []Method{MethodDomain}})
	}
	return m
}

var threeWays = []UpstreamID{"connection:office", UpstreamMX, UpstreamPlatform}

func queued(wish int) Recipient {
	return Recipient{Address: Address{Local: "b", Domain: "dest.example"}, State: Queued, Wish: wish}
}

func fail(code int, scope Scope, stage Stage) *Failure {
	return &Failure{Code: code, Scope: scope, Stage: stage, Reason: ReasonTemporary}
}

// between reports whether the wait is d, up to a fifth either way.
func between(got, d time.Duration) bool { return got >= d*4/5 && got <= d*6/5 }

// TestAfter is contract section 7: who may be tried another way, and when.
func TestAfter(t *testing.T) {
	const now = 0
	for _, c := range []struct {
		name    string
		wish    int
		before  func(*Recipient)
		took    time.Duration
		failure *Failure

		state   State
		wishNow int
		wait    time.Duration // now: due at once; -1: no next
		pinned  bool
	}{
		{name: "taken", failure: nil, state: Delivered, wait: -1},
		{name: "no mailbox", failure: fail(550, OfRecipient, StageSession), state: Failed, wait: -1},
		{name: "message refused", failure: fail(554, OfMessage, StageSession), state: Failed, wait: -1},
		{name: "cannot be rendered", failure: fail(554, OfMessage, StagePrepare), state: Failed, wait: -1},
		{name: "blocked for reputation", failure: fail(550, OfDestination, StageSession), state: Failed, wait: -1},
		{name: "no such domain", failure: fail(550, OfRecipient, StageConnect), state: Failed, wait: -1},

		{name: "credential refused", failure: fail(535, OfRoute, StageSession), state: Queued, wishNow: 1, wait: now},
		{name: "account down", failure: fail(421, OfRoute, StageConnect), state: Queued, wishNow: 1, wait: now},
		{name: "quota", failure: fail(451, OfRoute, StageSession), state: Queued, wishNow: 1, wait: now},
		{name: "ours at the route", failure: fail(451, OfUs, StageConnect), state: Queued, wishNow: 1, wait: now},
		{name: "ours in session", failure: fail(451, OfUs, StageSession), state: Queued, wishNow: 1, wait: now},
		{name: "ours before anything", failure: fail(451, OfUs, StagePrepare), state: Queued, wishNow: 0, wait: 15 * time.Second},
		{name: "ours for good, before anything", failure: fail(554, OfUs, StagePrepare), state: Queued, wishNow: 0, wait: 15 * time.Second},

		{name: "4xx from the destination", failure: fail(451, OfDestination, StageSession), state: Queued, wishNow: 0, wait: 5 * time.Minute, pinned: true},
		{name: "mailbox full", failure: fail(452, OfRecipient, StageSession), state: Queued, wishNow: 0, wait: 5 * time.Minute, pinned: true},
		{name: "message put off", failure: fail(451, OfMessage, StageSession), state: Queued, wishNow: 0, wait: 5 * time.Minute, pinned: true},
		{name: "no answer to the final dot", failure: fail(451, OfDestination, StageFinal), state: Queued, wishNow: 0, wait: 5 * time.Minute, pinned: true},
		{name: "no answer to the final dot of a route", failure: fail(451, OfRoute, StageFinal), state: Queued, wishNow: 0, wait: 5 * time.Minute, pinned: true},
		{name: "no answer to the final dot, ours", failure: fail(451, OfUs, StageFinal), state: Queued, wishNow: 0, wait: 15 * time.Second, pinned: true},
		{name: "route fails once pinned", before: func(r *Recipient) { r.Pinned = true }, failure: fail(535, OfRoute, StageSession), state: Queued, wishNow: 0, wait: 5 * time.Minute, pinned: true},
		{name: "unreachable once pinned", before: func(r *Recipient) { r.Pinned, r.Trouble = true, start.Add(-time.Hour) }, failure: fail(451, OfDestination, StageConnect),
			state: Queued, wishNow: 0, wait: 15 * time.Second, pinned: true},

		{name: "no session yet", failure: fail(451, OfDestination, StageConnect), state: Queued, wishNow: 0, wait: 15 * time.Second},
		{name: "no session, attempt lasted", took: 45 * time.Second, failure: fail(451, OfDestination, StageConnect), state: Queued, wishNow: 1, wait: now},
		{name: "no session for long", before: func(r *Recipient) { r.Trouble = start.Add(-45 * time.Second) }, failure: fail(451, OfDestination, StageConnect),
			state: Queued, wishNow: 1, wait: now},
		{name: "no session, failover soon", before: func(r *Recipient) { r.Trouble, r.Step = start.Add(-40*time.Second), 1 }, failure: fail(451, OfDestination, StageConnect),
			state: Queued, wishNow: 0, wait: 5 * time.Second},

		{name: "last way: route fails", wish: 2, failure: fail(535, OfRoute, StageSession), state: Queued, wishNow: 0, wait: 5 * time.Minute},
		{name: "last way: no session for long", wish: 2, before: func(r *Recipient) { r.Trouble = start.Add(-time.Hour) }, failure: fail(451, OfDestination, StageConnect),
			state: Queued, wishNow: 0, wait: 15 * time.Second},
		{name: "last way: 4xx", wish: 2, failure: fail(451, OfDestination, StageSession), state: Queued, wishNow: 2, wait: 5 * time.Minute, pinned: true},

		{name: "peer names a wait", failure: &Failure{Code: 451, Scope: OfDestination, Stage: StageSession, RetryAfter: 20 * time.Minute}, state: Queued, wait: 20 * time.Minute, pinned: true},
		{name: "peer names no time", failure: &Failure{Code: 451, Scope: OfDestination, Stage: StageSession, RetryAfter: time.Millisecond}, state: Queued, wait: 30 * time.Second, pinned: true},
		{name: "peer names a year", failure: &Failure{Code: 451, Scope: OfDestination, Stage: StageSession, RetryAfter: 9000 * time.Hour}, state: Queued, wait: 4 * time.Hour, pinned: true},
		{name: "third 4xx", before: func(r *Recipient) { r.Pinned, r.Step = true, 2 }, failure: fail(451, OfDestination, StageSession), state: Queued, wait: time.Hour, pinned: true},
		{name: "tenth 4xx", before: func(r *Recipient) { r.Pinned, r.Step = true, 9 }, failure: fail(451, OfDestination, StageSession), state: Queued, wait: time.Hour, pinned: true},

		{name: "first 4xx after connects failed", before: func(r *Recipient) { r.Step = 9 }, failure: fail(451, OfDestination, StageSession), state: Queued, wait: 5 * time.Minute, pinned: true},

		{name: "life ended", took: 97 * time.Hour, failure: fail(451, OfDestination, StageSession), state: Expired, wait: -1, pinned: true},
		{name: "life ended with the route down", took: 96 * time.Hour, failure: fail(535, OfRoute, StageSession), state: Expired, wait: -1},
		{name: "taken after its life", took: 97 * time.Hour, failure: nil, state: Delivered, wait: -1},
		{name: "held meanwhile, taken", before: func(r *Recipient) { r.State = Held }, failure: nil, state: Delivered, wait: -1},
		{name: "held meanwhile, put off", before: func(r *Recipient) { r.State = Held }, failure: fail(451, OfDestination, StageSession), state: Queued, wait: 5 * time.Minute, pinned: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := queued(c.wish)
			if c.before != nil {
				c.before(&r)
			}
			m := routed(threeWays...)
			got := r.After(Attempt{At: start, Took: c.took, Failure: c.failure}, m, sched)
			ends := start.Add(c.took)
			if got.State != c.state || got.Tries != 1 || got.Last != c.failure || got.Pinned != c.pinned {
				t.Errorf("state %s after %d tries, pinned %v; want %s, 1, %v", got.State, got.Tries, got.Pinned, c.state, c.pinned)
			}
			if c.state == Queued && (got.Wish != c.wishNow || !got.Done.IsZero()) {
				t.Errorf("wish %d, done %v; want %d, not done", got.Wish, got.Done, c.wishNow)
			}
			if c.state != Queued && !got.Done.Equal(ends) {
				t.Errorf("done at %v, want %v", got.Done, ends)
			}
			if c.state == Queued && got.Wish != c.wish && got.Lane != LaneFor(m.Wishes[got.Wish].Upstream, "dest.example", m.Stream) {
				t.Errorf("lane %s for wish %d", got.Lane, got.Wish)
			}
			switch wait := got.Next.Sub(ends); {
			case c.wait < 0 && !got.Next.IsZero():
				t.Errorf("next at %v, want none", got.Next)
			case c.wait == now && wait != 0, c.wait > 0 && !between(wait, c.wait):
				t.Errorf("next in %v, want about %v", wait, c.wait)
			}
		})
	}
}

func TestAfterLeavesFinalStatesAlone(t *testing.T) {
	for _, s := range []State{Delivered, Failed, Bounced, Expired, Cancelled, Suppressed, Discarded} {
		r := queued(0)
		r.State = s
		if got := r.After(Attempt{At: start}, routed(threeWays...), sched); got != r {
			t.Errorf("%s became %+v", s, got)
		}
	}
}

// A way that is down, then one that answers 4xx: the second is kept.
func TestAfterFailsOverThenStays(t *testing.T) {
	m, r, at := routed(threeWays...), queued(0), start
	for range 20 {
		r = r.After(Attempt{At: at, Took: 10 * time.Second, Wish: r.Wish, Failure: fail(451, OfDestination, StageConnect)}, m, sched)
		at = r.Next
		if r.Wish != 0 {
			break
		}
	}
	if r.Wish != 1 || at.Sub(start) > time.Minute {
		t.Fatalf("wish %d after %v, want the second within a minute", r.Wish, at.Sub(start))
	}
	for range 5 {
		r = r.After(Attempt{At: at, Failure: fail(451, OfDestination, StageSession)}, m, sched)
		r = r.After(Attempt{At: r.Next, Failure: fail(535, OfRoute, StageSession)}, m, sched)
		at = r.Next
	}
	if r.Wish != 1 || !r.Pinned {
		t.Errorf("wish %d, pinned %v", r.Wish, r.Pinned)
	}
}

// With every way down all are tried again and again, with waits that do not
// become a busy loop, and the message ends when its life does.
func TestAfterGoesRoundUntilExpiry(t *testing.T) {
	for name, f := range map[string]*Failure{"routes": fail(535, OfRoute, StageSession), "connect": fail(451, OfDestination, StageConnect), "us": fail(451, OfUs, StageConnect)} {
		m, r, at := routed(threeWays...), queued(0), start
		seen := map[int]bool{}
		tries := 0
		for r.State == Queued && tries < 100000 {
			seen[r.Wish] = true
			r = r.After(Attempt{At: at, Took: time.Second, Wish: r.Wish, Failure: f}, m, sched)
			at = r.Next
			tries++
		}
		if r.State != Expired || len(seen) != 3 {
			t.Errorf("%s: %s after %d tries of ways %v", name, r.State, tries, seen)
		}
		// 96 hours of the longest connect wait, three tries each.
		if most := int(96*time.Hour/(30*time.Second)) * 4; tries > most {
			t.Errorf("%s: %d tries, want at most %d", name, tries, most)
		}
		if late := r.Done.Sub(m.Expires); late < 0 || late > 10*time.Second {
			t.Errorf("%s: ended %v after its life", name, late)
		}
	}
}

func TestAfterOneWayOnly(t *testing.T) {
	m, r := routed(UpstreamMX), queued(0)
	r = r.After(Attempt{At: start, Failure: fail(535, OfRoute, StageSession)}, m, sched)
	if r.State != Queued || r.Wish != 0 || !between(r.Next.Sub(start), 5*time.Minute) {
		t.Errorf("%+v", r)
	}
}

func TestAfterNeverWaitsBeyondExpiry(t *testing.T) {
	m := routed(UpstreamMX)
	m.Expires = start.Add(time.Minute)
	r := queued(0).After(Attempt{At: start, Failure: fail(451, OfDestination, StageSession)}, m, sched)
	if !r.Next.Equal(m.Expires) {
		t.Errorf("next %v, expires %v", r.Next, m.Expires)
	}
}

func TestAfterWithAnEmptySchedule(t *testing.T) {
	r := queued(0).After(Attempt{At: start, Failure: fail(451, OfDestination, StageSession)}, routed(UpstreamMX), Schedule{})
	if !between(r.Next.Sub(start), 5*time.Minute) {
		t.Errorf("next in %v", r.Next.Sub(start))
	}
}

func TestJitterIsStableAndSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 200 {
		id := ID{15: byte(i)}
		d := sched.jitter(id, 3, time.Hour)
		if d != sched.jitter(id, 3, time.Hour) || !between(d, time.Hour) {
			t.Fatalf("jitter of %d: %v", i, d)
		}
		seen[d] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d different waits for 200 messages", len(seen))
	}
}

func TestStates(t *testing.T) {
	all := []State{Queued, Held, Delivered, Failed, Bounced, Expired, Cancelled, Suppressed, Discarded}
	allowed := map[State][]State{
		Queued:    {Queued, Held, Delivered, Failed, Expired, Cancelled, Suppressed, Discarded},
		Held:      {Queued, Cancelled, Expired},
		Delivered: {Bounced},
	}
	for _, from := range all {
		if from.Final() != (from != Queued && from != Held) {
			t.Errorf("%s: final %v", from, from.Final())
		}
		want := map[State]bool{}
		for _, to := range allowed[from] {
			want[to] = true
		}
		for _, to := range all {
			if from.CanBecome(to) != want[to] {
				t.Errorf("%s to %s: %v", from, to, !want[to])
			}
			r := queued(0)
			r.State, r.Next = from, start
			got := r.End(to, "why", start.Add(time.Hour))
			if moved := want[to] && to.Final(); moved && (got.State != to || got.Reason != "why" || !got.Next.IsZero() || !got.Done.Equal(start.Add(time.Hour))) || !moved && got != r {
				t.Errorf("End from %s to %s: %+v", from, to, got)
			}
		}
	}
}

func TestHoldAndRelease(t *testing.T) {
	r := queued(1)
	h := r.Hold("policy", start)
	if h.State != Held || h.Reason != "policy" || !h.Next.Equal(start) {
		t.Errorf("%+v", h)
	}
	if again := h.Hold("other", time.Time{}); again != h {
		t.Errorf("held twice: %+v", again)
	}
	back := h.Release(start.Add(time.Hour))
	if back.State != Queued || back.Reason != "" || !back.Next.Equal(start.Add(time.Hour)) || back.Wish != 1 {
		t.Errorf("%+v", back)
	}
	for _, x := range []Recipient{r, {State: Delivered}} {
		if x.Release(start) != x {
			t.Errorf("%s was released", x.State)
		}
	}
	if d := (Recipient{State: Failed}); d.Hold("x", start) != d {
		t.Error("a failed one was held")
	}
}

func TestShown(t *testing.T) {
	for _, c := range []struct {
		r    Recipient
		want State
	}{{Recipient{State: Queued}, Queued}, {Recipient{State: Queued, Tries: 1}, Deferred}, {Recipient{State: Held, Tries: 1}, Held}, {Recipient{State: Failed, Tries: 3}, Failed}} {
		if got := c.r.Shown(); got != c.want {
			t.Errorf("%+v: %s", c.r, got)
		}
	}
}

func TestNotifyWants(t *testing.T) {
	for _, c := range []struct {
		n    Notify
		want string
	}{{0, "failure delay "}, {NotifyNever, ""}, {NotifySuccess, "success "}, {NotifyFailure | NotifySuccess, "success failure "}, {NotifyDelay, "delay "}, {NotifyNever | NotifyFailure, ""}} {
		got := ""
		for _, x := range []struct {
			n    Notify
			name string
		}{{NotifySuccess, "success "}, {NotifyFailure, "failure "}, {NotifyDelay, "delay "}} {
			if c.n.Wants(x.n) {
				got += x.name
			}
		}
		if got != c.want {
			t.Errorf("%b wants %q, want %q", c.n, got, c.want)
		}
	}
}

func TestLanes(t *testing.T) {
	for _, c := range []struct {
		u      UpstreamID
		domain string
		want   Lane
	}{{UpstreamMX, "dest.example", "mx|dest.example|news"}, {UpstreamPlatform, "", "platform||news"}, {"connection:office", "", "connection:office||news"}} {
		l := LaneFor(c.u, "dest.example", "news")
		if l != c.want {
			t.Errorf("%s, want %s", l, c.want)
		}
		if u, d, s := l.Parts(); u != c.u || d != c.domain || s != "news" {
			t.Errorf("%s: %s %s %s", l, u, d, s)
		}
	}
}

// Whatever comes back from attempts, a recipient ends, keeps to valid wishes,
// counts its tries, and once pinned never changes its way.
func FuzzAfter(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 250})
	f.Add([]byte{0x11, 0x47, 0xff, 0x80, 0x22})
	f.Fuzz(func(t *testing.T, script []byte) {
		m, r, at := routed(threeWays...), queued(0), start
		for i, b := range script {
			was := r
			code := []int{451, 550}[b&1]
			failure := fail(code, Scope(b>>1%5), Stage(b>>4&3))
			if b == 255 {
				failure = nil
			}
			r = r.After(Attempt{At: at, Took: time.Duration(b) * time.Second, Failure: failure}, m, sched)
			if r.Tries != i+1 || r.Wish < 0 || r.Wish >= len(m.Wishes) || was.Pinned && r.Wish != was.Wish {
				t.Fatalf("%+v became %+v", was, r)
			}
			if r.State.Final() {
				if r.Done.IsZero() || !r.Next.IsZero() {
					t.Fatalf("%+v", r)
				}
				return
			}
			if r.State != Queued || r.Next.Before(at) || r.Next.After(m.Expires) || failure != nil && !failure.Temporary() && failure.Scope != OfRoute && failure.Scope != OfUs {
				t.Fatalf("%+v became %+v", was, r)
			}
			at = r.Next
		}
	})
}

func ExampleLaneFor() {
	fmt.Println(LaneFor(UpstreamMX, "dest.example", StreamBroadcast))
	// Output: mx|dest.example|broadcast
}
