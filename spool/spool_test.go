package spool

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/kv"
	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
)

func TestAcceptAndDeliver(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		s := openSpool(t, kvs, newBodies(), Options{})
		m, rs := message(s, 7, "a@x.example", "b@x.example", "c@y.example")
		st := accept(t, s, m, rs)
		if st.Young == nil || readBody(t, s, st) != "body of "+m.ID.String() {
			t.Errorf("the young body is %q", st.Young)
		}
		st.Release()
		st.Release()
		if s.buffers.used.Load() != 0 {
			t.Errorf("%d octets of buffers are in use after Release", s.buffers.used.Load())
		}
		st = load(t, s, m.ID)
		if !reflect.DeepEqual(st.Message, m) || !reflect.DeepEqual(st.Recipients, rs) {
			t.Errorf("loaded %+v\n%+v\nwant %+v\n%+v", st.Message, st.Recipients, m, rs)
		}
		if got := readBody(t, s, st); got != "body of "+m.ID.String() {
			t.Errorf("stored body is %q", got)
		}
		// x.example and y.example are two queues of one entry each
		if ds := allDue(t, s); len(ds) != 2 || ds[0].ID != m.ID || !ds[0].At.Equal(m.Accepted) {
			t.Errorf("due: %+v", ds)
		}
		settle(t, s, delivered(st, 0))
		if ds := allDue(t, s); len(ds) != 2 {
			t.Errorf("after one of two: due %+v", ds)
		}
		settle(t, s, deferred(st, 1, m.Accepted.Add(time.Hour)))
		settle(t, s, delivered(st, 2))
		ds := allDue(t, s)
		if len(ds) != 1 || ds[0].Queue.Lane != "mx|x.example|transactional" || !ds[0].At.Equal(m.Accepted.Add(time.Hour)) {
			t.Errorf("after the deferral: due %+v", ds)
		}
		if got := s.Stats(); got.Messages != 1 || got.Unfinished != 1 || got.Recipients[mail.Delivered] != 2 || got.Recipients[mail.Deferred] != 1 {
			t.Errorf("stats: %+v", got)
		}
		settle(t, s, delivered(load(t, s, m.ID), 1))
		if ds := allDue(t, s); len(ds) != 0 {
			t.Errorf("at the end: due %+v", ds)
		}
		es, err := s.Timeline(t.Context(), m.ID)
		if err != nil || types(es) != " accepted delivered deferred delivered delivered" || es[0].Accepted.Client != "192.0.2.1" {
			t.Errorf("timeline: %+v, %v", es, err)
		}
	})
}

// What a restart finds is what was there.
func TestReopen(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		b := newBodies()
		s := openSpool(t, kvs, b, Options{})
		m, rs := message(s, 7, "a@x.example", "b@x.example")
		st := accept(t, s, m, rs)
		settle(t, s, deferred(st, 0, now().Add(time.Hour)))
		before := s.Stats()
		s = openSpool(t, kvs, b, Options{})
		if got := s.Stats(); !reflect.DeepEqual(got, before) {
			t.Errorf("stats: %+v, were %+v", got, before)
		}
		settle(t, s, delivered(load(t, s, m.ID), 1))
		es, _, err := s.Events(t.Context(), 0, 100)
		if err != nil || len(es) != 3 {
			t.Fatalf("events: %+v, %v", es, err)
		}
		if es[2].Seq <= es[1].Seq {
			t.Errorf("the numbers go back: %d after %d", es[2].Seq, es[1].Seq)
		}
	})
}

func TestFinalIsFinal(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	for _, c := range []struct {
		from, to mail.State
		changes  bool
	}{
		{mail.Queued, mail.Queued, true},
		{mail.Queued, mail.Delivered, true},
		{mail.Queued, mail.Held, true},
		{mail.Queued, mail.Bounced, false},
		{mail.Held, mail.Delivered, true}, // an attempt begun before the hold
		{mail.Held, mail.Held, true},
		{mail.Held, mail.Queued, true},
		{mail.Delivered, mail.Bounced, true},
		{mail.Delivered, mail.Queued, false},
		{mail.Delivered, mail.Failed, false},
		{mail.Bounced, mail.Delivered, false},
		{mail.Cancelled, mail.Delivered, false},
		{mail.Expired, mail.Queued, false},
		{mail.Failed, mail.Bounced, false},
	} {
		m, rs := message(s, 1, "a@x.example", "b@x.example")
		rs[0].State = c.from
		st := accept(t, s, m, rs)
		before, _ := s.Timeline(t.Context(), m.ID)
		to := st.Recipients[0]
		to.State, to.Reason = c.to, "changed"
		settle(t, s, Outcome{ID: m.ID, Changes: []Change{{0, to}}, Events: []mail.Event{{Type: mail.EventHeld, Recipients: []int{0}}}})
		got := load(t, s, m.ID).Recipients[0]
		es, _ := s.Timeline(t.Context(), m.ID)
		if changed := got.Reason == "changed"; changed != c.changes || changed != (got.State == c.to && len(es) == len(before)+1) {
			t.Errorf("%s to %s: got %s, changed %v with %d events, want %v", c.from, c.to, got.State, changed, len(es), c.changes)
		}
	}
}

// An event about some who changed and some who could not tells of the first.
func TestEventsTellWhatHappened(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	for _, named := range [][]int{{0, 1, 2}, nil} {
		m, rs := message(s, 1, "a@x.example", "b@x.example", "c@x.example")
		st := accept(t, s, m, rs)
		settle(t, s, delivered(st, 1))
		var o Outcome
		o.ID = m.ID
		for i := range 3 {
			o.Changes = append(o.Changes, Change{i, st.Recipients[i].End(mail.Cancelled, "no more", now())})
		}
		o.Events = []mail.Event{{Type: mail.EventCancelled, Recipients: named}}
		settle(t, s, o)
		es, err := s.Timeline(t.Context(), m.ID)
		if err != nil || len(es) != 3 || !slices.Equal(es[2].Recipients, []int{0, 2}) {
			t.Errorf("named %v: %+v, %v", named, es, err)
		}
	}
}

func TestWhoARecipientIsStays(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	m, rs := message(s, 1, "a@x.example")
	accept(t, s, m, rs)
	settle(t, s, Outcome{ID: m.ID, Changes: []Change{{0, mail.Recipient{State: mail.Held, Reason: "why"}}}})
	if r := load(t, s, m.ID).Recipients[0]; r.Address.String() != "a@x.example" || r.State != mail.Held {
		t.Errorf("got %+v", r)
	}
}

func TestWhatIsRefused(t *testing.T) {
	b := newBodies()
	s := openSpool(t, memStore(t), b, Options{})
	for name, spoil := range map[string]func(*mail.Message, *[]mail.Recipient){
		"no recipients":     func(_ *mail.Message, rs *[]mail.Recipient) { *rs = nil },
		"another partition": func(m *mail.Message, _ *[]mail.Recipient) { m.ID[1] = 1 },
		"another tenant":    func(m *mail.Message, _ *[]mail.Recipient) { m.Tenant = 9 },
		"no way out":        func(m *mail.Message, _ *[]mail.Recipient) { m.Wishes = nil },
		"NUL in the lane":   func(_ *mail.Message, rs *[]mail.Recipient) { (*rs)[0].Lane = "mx|\x00|t" },
		"an odd state":      func(_ *mail.Message, rs *[]mail.Recipient) { (*rs)[0].State = "lost" },
		"no time":           func(m *mail.Message, _ *[]mail.Recipient) { m.Accepted = time.Time{} },
	} {
		m, rs := message(s, 1, "a@x.example")
		spoil(m, &rs)
		d := draft(t, s, "x")
		if _, err := s.Put(t.Context(), d, m, rs, nil, nil); err == nil {
			t.Errorf("%s: was accepted", name)
		}
		if d.Size() != 1 {
			t.Errorf("%s: the draft is gone", name)
		}
		d.Discard()
	}
	m, rs := message(s, 1, "a@x.example")
	accept(t, s, m, rs)
	d := draft(t, s, "second")
	if _, err := s.Put(t.Context(), d, m, rs, nil, nil); err == nil {
		t.Error("an id was taken twice")
	}
	d.Discard()
	broken := errors.New("broken")
	m, rs = message(s, 1, "a@x.example")
	d = draft(t, s, "third")
	if _, err := s.Put(t.Context(), d, m, rs, nil, func(kv.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the error of extra came out as %v", err)
	}
	if got, ok := d.Bytes(); !ok || string(got) != "third" {
		t.Error("the draft is not the caller's after an error")
	}
	d.Discard()
	if b.len() != 1 {
		t.Errorf("%d bodies are stored, want that of the one message", b.len())
	}
	if _, err := s.Load(t.Context(), m.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("load of what was refused: %v", err)
	}
	if err := s.SettleNow(t.Context(), []Outcome{{ID: m.ID}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("settle of what is not there: %v", err)
	}
}

func TestStartsHeldOrDiscarded(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	m, rs := message(s, 1, "a@x.example")
	rs[0].State, rs[0].Reason = mail.Discarded, "policy"
	accept(t, s, m, rs)
	if r := load(t, s, m.ID).Recipients[0]; r.State != mail.Discarded || !r.Done.Equal(m.Accepted) {
		t.Errorf("got %+v", r)
	}
	m, rs = message(s, 1, "a@x.example")
	rs[0].State = mail.Held
	accept(t, s, m, rs)
	if ds := allDue(t, s); len(ds) != 0 {
		t.Errorf("due: %+v", ds)
	}
	if st := s.Stats(); st.Unfinished != 1 || st.Recipients[mail.Held] != 1 || !st.Oldest.IsZero() {
		t.Errorf("stats: %+v", st)
	}
}

func TestManyRecipients(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		s := openSpool(t, kvs, newBodies(), Options{})
		var to []string
		for i := range MaxRecipients {
			to = append(to, fmt.Sprintf("user%d@d%d.example", i, i%2000))
		}
		m, rs := message(s, 1, to...)
		st := accept(t, s, m, rs)
		if got := load(t, s, m.ID); !reflect.DeepEqual(got.Recipients, rs) {
			t.Error("the recipients differ")
		}
		var os []Outcome
		for i := range rs { // the first ones each for itself, the others by and by
			if i < 600 {
				os = append(os, delivered(st, i))
				continue
			}
			last := &os[len(os)-1]
			if o := delivered(st, i); len(last.Changes) > 99 || i == 600 {
				os = append(os, o)
			} else {
				last.Changes = append(last.Changes, o.Changes...)
			}
		}
		slices.Reverse(os)
		os[0].Changes = append(os[0].Changes, os[1].Changes[0], os[50].Changes[0]) // out of order, over chunks
		if err := s.SettleNow(t.Context(), os); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats(); got.Unfinished != 0 || got.Recipients[mail.Delivered] != MaxRecipients {
			t.Errorf("stats: %+v", got)
		}
		if ds := allDue(t, s); len(ds) != 0 {
			t.Errorf("%d are due", len(ds))
		}
		es, err := s.Timeline(t.Context(), m.ID)
		if err != nil || len(es) != keepFirst+keepLast || es[0].Type != mail.EventAccepted {
			t.Errorf("timeline of %d events, %v", len(es), err)
		}
	})
}

func TestDueIsInOrderAndPaged(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		s := openSpool(t, kvs, newBodies(), Options{})
		at := now()
		for i := range 20 {
			m, rs := message(s, 3, "a@x.example")
			rs[0].Next = at.Add(time.Duration((i*7)%20) * time.Second)
			accept(t, s, m, rs)
		}
		q := Queue{"mx|x.example|transactional", 3}
		var got []Due
		var behind *Due
		for {
			ds, err := s.Due(t.Context(), q, behind, 7)
			if err != nil {
				t.Fatal(err)
			}
			if len(ds) == 0 {
				break
			}
			got = append(got, ds...)
			behind = &got[len(got)-1]
		}
		if len(got) != 20 {
			t.Fatalf("%d entries, want 20", len(got))
		}
		for i, d := range got {
			if !d.At.Equal(at.Add(time.Duration(i) * time.Second)) {
				t.Errorf("entry %d is due at %v", i, d.At)
			}
		}
		ds, err := s.Due(t.Context(), q, &Due{At: at.Add(15 * time.Second)}, 100)
		if err != nil || len(ds) != 5 {
			t.Errorf("from a time on: %d entries, %v", len(ds), err)
		}
		if ds, _ := s.Due(t.Context(), Queue{q.Lane, 4}, nil, 100); len(ds) != 0 {
			t.Errorf("another tenant sees %+v", ds)
		}
	})
}

// A lane whose name begins another's is a queue of its own.
func TestQueues(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		s := openSpool(t, kvs, newBodies(), Options{})
		want, old := map[Queue]int{}, map[Queue]int{}
		began := now()
		for i := range 900 {
			m, rs := message(s, mail.TenantID(1+i%3), fmt.Sprintf("a@x%s.example", strings.Repeat("y", i%5)))
			if i%4 == 0 {
				m.ID = s.NewID(m.Tenant, began.Add(-time.Minute))
			}
			rs[0].Lane = mail.Lane("l" + strings.Repeat("o", i%5))
			accept(t, s, m, rs)
			want[Queue{rs[0].Lane, m.Tenant}]++
			if i%4 == 0 {
				old[Queue{rs[0].Lane, m.Tenant}]++
			}
		}
		got := map[Queue]int{}
		err := s.Queues(t.Context(), began, func(q Queue, next time.Time, n int) bool {
			if next.IsZero() {
				t.Errorf("queue %v: no next", q)
			}
			got[q] += n
			return true
		})
		if err != nil || !reflect.DeepEqual(got, old) {
			t.Errorf("of messages from before: got %v, %v\nwant %v", got, err, old)
		}
		got = map[Queue]int{}
		calls := 0
		err = s.Queues(t.Context(), later, func(q Queue, next time.Time, n int) bool {
			if next.IsZero() || n < 1 {
				t.Errorf("queue %v: %d entries, next %v", q, n, next)
			}
			got[q] += n
			calls++
			return true
		})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v\nwant %v", got, err, want)
		}
		calls = 0
		s.Queues(t.Context(), later, func(Queue, time.Time, int) bool { calls++; return false })
		if calls != 1 {
			t.Errorf("%d calls after one that said to stop", calls)
		}
	})
}

func TestIdempotency(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		s := openSpool(t, kvs, newBodies(), Options{})
		key := strings.Repeat("long", 500)
		if _, _, found, err := s.Idempotent(t.Context(), 1, key); found || err != nil {
			t.Fatalf("found %v, %v", found, err)
		}
		var wg sync.WaitGroup
		ids := make([]mail.ID, 8)
		errs := make([]error, 8)
		for i := range ids {
			wg.Go(func() {
				m, rs := message(s, 1, "a@x.example")
				d := draft(t, s, "x")
				defer d.Discard()
				ids[i] = m.ID
				_, errs[i] = s.Put(t.Context(), d, m, rs, nil, func(w kv.Writer) error {
					return s.PutIdempotency(w, 1, key, m.ID, [32]byte{byte(i)})
				})
			})
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			if err == nil {
				if won >= 0 {
					t.Error("two submissions won")
				}
				won = i
			}
		}
		if won < 0 {
			t.Fatalf("nobody won: %v", errs)
		}
		for i, err := range errs {
			var r *ErrRepeated
			if i != won && (!errors.As(err, &r) || r.ID != ids[won] || r.Hash != [32]byte{byte(won)}) {
				t.Errorf("submission %d: %v", i, err)
			}
		}
		id, hash, found, err := s.Idempotent(t.Context(), 1, key)
		if id != ids[won] || hash != [32]byte{byte(won)} || !found || err != nil {
			t.Errorf("look-up: %v %v %v %v", id, hash, found, err)
		}
		if _, _, found, _ := s.Idempotent(t.Context(), 2, key); found {
			t.Error("another tenant sees the key")
		}
		if s.Stats().Messages != 1 {
			t.Errorf("%d messages", s.Stats().Messages)
		}
	})
}

func TestEvents(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		s := openSpool(t, kvs, newBodies(), Options{})
		changed := s.Changed()
		if es, next, err := s.Events(t.Context(), 0, 10); len(es) != 0 || next != 0 || err != nil {
			t.Errorf("an empty feed gave %v, %d, %v", es, next, err)
		}
		m, rs := message(s, 1, "a@x.example")
		st := accept(t, s, m, rs)
		select {
		case <-changed:
		default:
			t.Error("Changed is not closed after an event")
		}
		err := s.Update(t.Context(), func(w kv.Writer) error {
			return s.Append(w, mail.Event{Type: mail.EventReported, Message: m.ID, Related: "dsn"}, mail.Event{Type: "tenant.changed"})
		})
		if err != nil {
			t.Fatal(err)
		}
		settle(t, s, delivered(st, 0))
		var all []mail.Event
		for from := uint64(0); ; {
			es, next, err := s.Events(t.Context(), from, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(es) == 0 {
				break
			}
			all, from = append(all, es...), next
		}
		if len(all) != 4 || all[1].Related != "dsn" || all[2].Type != "tenant.changed" {
			t.Errorf("feed: %+v", all)
		}
		es, err := s.Timeline(t.Context(), m.ID)
		if err != nil || types(es) != " accepted reported delivered" {
			t.Errorf("timeline:%s, %v", types(es), err)
		}
	})
}

// Appended in somebody else's transaction, an event is published by Run.
func TestAppendElsewhere(t *testing.T) {
	kvs := memStore(t)
	s := openSpool(t, kvs, newBodies(), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	changed := s.Changed()
	if err := kvs.Update(ctx, func(w kv.Writer) error { return s.Append(w, mail.Event{Type: "x.y"}) }); err != nil {
		t.Fatal(err)
	}
	<-changed
	if es, _, _ := s.Events(ctx, 0, 10); len(es) != 1 {
		t.Errorf("feed: %+v", es)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func memStore(t testing.TB) *kvmem.Store {
	st := kvmem.New(kvmem.Options{})
	t.Cleanup(func() { st.Close() })
	return st
}
