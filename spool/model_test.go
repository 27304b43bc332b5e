package spool

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/kv"
	kvbadger "behalf/internal/kv/badger"
	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
)

// model is what the spool shall hold, in the plainest form.
type model struct {
	msgs map[mail.ID]*modelMessage
	feed []string // type and message of every event, in order
}

type modelMessage struct {
	m      *mail.Message
	rs     []mail.Recipient
	body   string
	gone   bool
	told   int
	done   time.Time
	events []string
}

func (mm *modelMessage) clone() *modelMessage {
	c := *mm
	c.rs, c.events = slices.Clone(mm.rs), slices.Clone(mm.events)
	return &c
}

func (mm *modelMessage) unfinished() (queued, held int) {
	for _, r := range mm.rs {
		switch r.State {
		case mail.Queued:
			queued++
		case mail.Held:
			held++
		}
	}
	return queued, held
}

// apply is Settle by its words: nothing final changes but delivered to bounced.
func (mm *modelMessage) apply(o Outcome) {
	applied := map[int]bool{}
	for _, c := range o.Changes {
		old := mm.rs[c.Index]
		ok := !old.State.Final() && c.Recipient.State != mail.Bounced ||
			old.State == mail.Delivered && c.Recipient.State == mail.Bounced
		if !ok {
			continue
		}
		applied[c.Index] = true
		if c.Recipient.State.Final() && !old.State.Final() && c.Recipient.Done.After(mm.done) {
			mm.done = c.Recipient.Done
		}
		mm.rs[c.Index] = c.Recipient
	}
	for _, e := range o.Events {
		about := e.Recipients
		if len(o.Changes) > len(applied) {
			about = slices.DeleteFunc(slices.Clone(about), func(i int) bool { return !applied[i] })
			if len(about) == 0 {
				continue
			}
		}
		mm.events = append(mm.events, fmt.Sprintf("%s %v", e.Type, about))
		if e.Type == mail.EventDelayed {
			mm.told++
		}
	}
}

// timer is the one timer that the message shall have.
func (mm *modelMessage) timer(o Options) Timer {
	t := Timer{ID: mm.m.ID}
	queued, held := mm.unfinished()
	if queued+held == 0 {
		t.At, t.What = mm.done.Add(o.KeepBodies), TimerBody
		if mm.gone {
			t.At, t.What = mm.done.Add(o.KeepEvents), TimerPurge
		}
		return t
	}
	t.At, t.What = mm.m.Expires, TimerExpire
	for _, r := range mm.rs {
		if r.State == mail.Held && !r.Next.IsZero() && r.Next.Before(t.At) {
			t.At, t.What = r.Next, TimerRelease
		}
	}
	if queued > 0 && mm.told < len(o.Delays) {
		if at := mm.m.Accepted.Add(o.Delays[mm.told]); at.Before(t.At) {
			t.At, t.What = at, TimerDelay
		}
	}
	return t
}

// modelTest drives a spool and its model side by side.
type modelTest struct {
	t      *testing.T
	rnd    *rand.Rand
	s      *Spool
	bodies *bodies
	kvs    kv.Store
	want   model
	ids    []mail.ID
}

func TestModel(t *testing.T) {
	steps, seeds := 300, 4
	if testing.Short() {
		steps, seeds = 200, 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("mem %d", seed), func(t *testing.T) {
			st := kvmem.New(kvmem.Options{Sync: 100 * time.Microsecond})
			x := newModelTest(t, uint64(seed), st)
			cut := func() {
				old := x.kvs.(*kvmem.Store)
				x.kvs = old.Cut(x.rnd.IntN(2) == 0)
				old.Close()
			}
			x.run(steps, cut)
			x.kvs.Close()
		})
	}
	t.Run("badger", func(t *testing.T) {
		dir := t.TempDir()
		open := func() kv.Store {
			st, err := kvbadger.Open(dir, kvbadger.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		x := newModelTest(t, 99, open())
		x.run(150, func() {
			x.kvs.Close()
			x.kvs = open()
		})
		x.kvs.Close()
	})
}

func newModelTest(t *testing.T, seed uint64, st kv.Store) *modelTest {
	x := &modelTest{t: t, rnd: rand.New(rand.NewPCG(seed, 4711)), bodies: newBodies(), kvs: st, want: model{msgs: map[mail.ID]*modelMessage{}}}
	x.s = openSpool(t, st, x.bodies, Options{})
	return x
}

func (x *modelTest) run(steps int, restart func()) {
	for i := range steps {
		switch n := x.rnd.IntN(100); {
		case n < 25 || len(x.ids) == 0:
			x.put()
		case n < 75:
			o := x.outcome(x.pick())
			settle(x.t, x.s, o)
			x.apply(o)
		case n < 80:
			x.drop()
		case n < 85:
			x.purge()
		case n < 88:
			x.storm(restart)
		case n < 92:
			if err := x.s.Reclaim(x.t.Context()); err != nil {
				x.t.Fatal(err)
			}
		}
		if i%50 == 0 {
			x.check()
		}
		if x.t.Failed() {
			x.t.Fatalf("after step %d", i)
		}
	}
	x.check()
}

func (x *modelTest) pick() mail.ID { return x.ids[x.rnd.IntN(len(x.ids))] }

// fresh makes a message, some of whose recipients start held or done with.
func (x *modelTest) fresh() *modelMessage {
	var to []string
	n := 1 + x.rnd.IntN(4)
	if x.rnd.IntN(10) == 0 {
		n = 60 + x.rnd.IntN(100)
	}
	for i := range n {
		to = append(to, fmt.Sprintf("u%d@d%d.example", i, x.rnd.IntN(3)))
	}
	m, rs := message(x.s, mail.TenantID(x.rnd.IntN(3)), to...)
	for i := range rs {
		if x.rnd.IntN(8) == 0 {
			rs[i].State = []mail.State{mail.Held, mail.Suppressed, mail.Discarded}[x.rnd.IntN(3)]
		}
	}
	return &modelMessage{m: m, rs: rs, body: m.ID.String(), events: []string{"message.accepted []"}}
}

func (x *modelTest) enter(mm *modelMessage) {
	if q, h := mm.unfinished(); q+h == 0 {
		mm.done = mm.m.Accepted
	}
	x.want.msgs[mm.m.ID] = mm
	x.ids = append(x.ids, mm.m.ID)
	mm.events = append(mm.events[:1], notOnTheirWay(mm.rs)...)
	for _, e := range mm.events {
		x.want.feed = append(x.want.feed, e+mm.m.ID.String())
	}
}

// notOnTheirWay is what the timeline says at once of recipients that were
// accepted held, suppressed or discarded: those of one kind together.
func notOnTheirWay(rs []mail.Recipient) (events []string) {
	var kinds []string
	who := map[string][]int{}
	for i, r := range rs {
		if r.State != mail.Held && r.State != mail.Suppressed && r.State != mail.Discarded {
			continue
		}
		k := fmt.Sprintf("%s|%s|%d", r.State, r.Reason, r.Next.UnixMilli())
		if who[k] == nil {
			kinds = append(kinds, k)
		}
		who[k] = append(who[k], i)
	}
	for _, k := range kinds {
		state, _, _ := strings.Cut(k, "|")
		events = append(events, fmt.Sprintf("message.%s %v", state, who[k]))
	}
	return events
}

func (x *modelTest) put() {
	mm := x.fresh()
	st, err := x.s.Put(x.t.Context(), draft(x.t, x.s, mm.body), mm.m, mm.rs, nil, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	st.Release()
	mm.rs = slices.Clone(mm.rs) // as the spool filled them in
	x.enter(mm)
}

// outcome changes a few recipients to anything, allowed or not.
func (x *modelTest) outcome(id mail.ID) Outcome {
	mm := x.want.msgs[id]
	o := Outcome{ID: id}
	at := now()
	states := []mail.State{mail.Queued, mail.Queued, mail.Held, mail.Delivered, mail.Delivered, mail.Failed, mail.Bounced, mail.Expired, mail.Cancelled}
	to := states[x.rnd.IntN(len(states))]
	indices := x.rnd.Perm(len(mm.rs))[:1+x.rnd.IntN(min(3, len(mm.rs)))]
	if x.rnd.IntN(5) == 0 {
		indices = x.rnd.Perm(len(mm.rs))
	}
	for _, i := range indices {
		r := mm.rs[i]
		r.State, r.Next, r.Done, r.Reason = to, time.Time{}, time.Time{}, ""
		switch {
		case to == mail.Queued:
			r.Tries++
			r.Next = at.Add(time.Duration(1+x.rnd.IntN(1000)) * time.Second)
			if x.rnd.IntN(3) == 0 {
				r.Lane = mail.LaneFor(mail.UpstreamPlatform, "", mm.m.Stream)
			}
		case to == mail.Held:
			r.Reason = "held"
			if x.rnd.IntN(2) == 0 {
				r.Next = at.Add(time.Duration(1+x.rnd.IntN(1000)) * time.Second)
			}
		default:
			r.Done = at
		}
		o.Changes = append(o.Changes, Change{i, r})
	}
	o.Events = []mail.Event{{At: at, Type: "message." + mail.EventType(to), Recipients: slices.Sorted(slices.Values(indices))}}
	if x.rnd.IntN(6) == 0 {
		o = Outcome{ID: id, Events: []mail.Event{{At: at, Type: mail.EventDelayed}}}
	}
	return o
}

func (x *modelTest) apply(o Outcome) {
	mm := x.want.msgs[o.ID]
	n := len(mm.events)
	mm.apply(o)
	for _, e := range mm.events[n:] {
		x.want.feed = append(x.want.feed, e+o.ID.String())
	}
}

func (x *modelTest) drop() {
	id := x.pick()
	q, h := x.want.msgs[id].unfinished()
	err := x.s.DropBody(x.t.Context(), []mail.ID{id})
	if errors.Is(err, ErrBusy) != (q+h > 0) {
		x.t.Errorf("drop of the body with %d queued and %d held: %v", q, h, err)
	}
	if err == nil {
		x.want.msgs[id].gone = true
	}
}

func (x *modelTest) purge() {
	id := x.pick()
	q, h := x.want.msgs[id].unfinished()
	err := x.s.Purge(x.t.Context(), []mail.ID{id})
	if errors.Is(err, ErrBusy) != (q+h > 0) {
		x.t.Errorf("purge with %d queued and %d held: %v", q, h, err)
	}
	if err == nil {
		delete(x.want.msgs, id)
		x.ids = slices.DeleteFunc(x.ids, func(i mail.ID) bool { return i == id })
		x.want.feed = slices.DeleteFunc(x.want.feed, func(e string) bool { return e[len(e)-mail.IDLen:] == id.String() })
	}
}

// storm lets settles and puts be under way when the power goes. Those that
// were answered must be there; of the others any that came earlier than one
// that is there must be there too; none may be there by half.
func (x *modelTest) storm(restart func()) {
	type flight struct {
		o       Outcome
		mm      *modelMessage // of a put
		before  *modelMessage // of a settle
		err     error
		settled bool
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var settles, puts []*flight
	for _, i := range x.rnd.Perm(len(x.ids))[:min(len(x.ids), 1+x.rnd.IntN(8))] {
		f := &flight{o: x.outcome(x.ids[i]), before: x.want.msgs[x.ids[i]].clone()}
		settles = append(settles, f)
		wg.Add(1)
		x.s.Settle(f.o, func(err error) {
			mu.Lock()
			f.err, f.settled = err, true
			mu.Unlock()
			wg.Done()
		})
	}
	for range x.rnd.IntN(4) {
		f := &flight{mm: x.fresh()}
		d := draft(x.t, x.s, f.mm.body)
		puts = append(puts, f)
		wg.Go(func() {
			_, err := x.s.Put(x.t.Context(), d, f.mm.m, f.mm.rs, nil, nil)
			mu.Lock()
			f.err = err
			mu.Unlock()
		})
	}
	time.Sleep(time.Duration(x.rnd.IntN(600)) * time.Microsecond)
	restart()
	wg.Wait()
	x.s = openSpool(x.t, x.kvs, x.bodies, Options{})

	for _, f := range puts {
		_, err := x.s.Load(x.t.Context(), f.mm.m.ID)
		if f.err == nil && err != nil {
			x.t.Errorf("an acknowledged message is gone: %v", err)
		}
		if err == nil {
			f.mm.rs = slices.Clone(f.mm.rs)
			x.enter(f.mm)
		}
	}
	lost := false
	for _, f := range settles {
		es, err := x.s.Timeline(x.t.Context(), f.o.ID)
		if err != nil {
			x.t.Fatal(err)
		}
		after := f.before.clone()
		after.apply(f.o)
		there := len(es) == len(after.events)
		if len(after.events) == len(f.before.events) {
			continue // it changes nothing
		}
		if f.err == nil && !there {
			x.t.Errorf("an acknowledged settle is gone")
		}
		if there && lost {
			x.t.Errorf("a settle is there though an earlier one is lost")
		}
		lost = lost || !there
		if there {
			x.apply(f.o)
		}
	}
	// The order of what was under way is the spool's to choose.
	x.want.feed = x.readFeed()
	x.check()
}

func (x *modelTest) readFeed() []string {
	var out []string
	last := uint64(0)
	for from := uint64(0); ; {
		es, next, err := x.s.Events(x.t.Context(), from, 100)
		if err != nil {
			x.t.Fatal(err)
		}
		for _, e := range es {
			if e.Seq <= last {
				x.t.Errorf("event %d after %d", e.Seq, last)
			}
			last = e.Seq
			out = append(out, fmt.Sprintf("%s %v%s", e.Type, e.Recipients, e.Message))
		}
		if len(es) == 0 {
			return out
		}
		from = next
	}
}

// check compares everything that can be read with the model.
func (x *modelTest) check() {
	x.t.Helper()
	var stats Stats
	stats.Recipients = map[mail.State]int64{}
	for _, n := range stateNames() {
		stats.Recipients[n] = 0
	}
	var dues, timers []string
	for id, mm := range x.want.msgs {
		x.checkMessage(id, mm)
		stats.Messages++
		if q, h := mm.unfinished(); q+h > 0 {
			stats.Unfinished++
			if b := mm.m.Accepted.Truncate(10 * time.Second); q > 0 && (stats.Oldest.IsZero() || b.Before(stats.Oldest)) {
				stats.Oldest = b
			}
		}
		for i, r := range mm.rs {
			stats.Recipients[r.Shown()]++
			if r.State == mail.Queued {
				dues = append(dues, fmt.Sprint(Due{Queue{r.Lane, mm.m.Tenant}, r.Next, id, i / chunkSize}))
			}
		}
		timers = append(timers, fmt.Sprint(mm.timer(x.s.o)))
	}
	got := x.s.Stats()
	stats.LastEvent = got.LastEvent
	if !reflect.DeepEqual(got, stats) {
		x.t.Errorf("stats: %+v\nwant %+v", got, stats)
	}
	var gotDues []string
	for _, d := range allDue(x.t, x.s) {
		gotDues = append(gotDues, fmt.Sprint(d))
	}
	same(x.t, "due index", gotDues, slices.Compact(slices.Sorted(slices.Values(dues))))
	ts, err := x.s.Timers(x.t.Context(), time.Now().Add(200*24*time.Hour), 1<<20)
	if err != nil {
		x.t.Fatal(err)
	}
	var gotTimers []string
	for _, t := range ts {
		gotTimers = append(gotTimers, fmt.Sprint(t))
	}
	same(x.t, "timers", gotTimers, timers)
	if feed := x.readFeed(); !slices.Equal(feed, x.want.feed) {
		x.t.Errorf("feed: %d events, want %d", len(feed), len(x.want.feed))
	}
	var listed []string
	for _, id := range listAll(x.t, x.s, Filter{}, 100) {
		listed = append(listed, id.String())
	}
	var ids []string
	for id := range maps.Keys(x.want.msgs) {
		ids = append(ids, id.String())
	}
	same(x.t, "list", listed, ids)
}

func (x *modelTest) checkMessage(id mail.ID, mm *modelMessage) {
	x.t.Helper()
	st, err := x.s.Load(x.t.Context(), id)
	if err != nil {
		x.t.Fatal(err)
	}
	if !reflect.DeepEqual(st.Recipients, mm.rs) {
		x.t.Errorf("message %s: %+v\nwant %+v", id, st.Recipients, mm.rs)
	}
	es, err := x.s.Timeline(x.t.Context(), id)
	if err != nil {
		x.t.Fatal(err)
	}
	var events []string
	for _, e := range es {
		events = append(events, fmt.Sprintf("%s %v", e.Type, e.Recipients))
	}
	if len(mm.events) <= keepFirst+keepLast && !slices.Equal(events, mm.events) {
		x.t.Errorf("message %s: timeline %v\nwant %v", id, events, mm.events)
	}
	b, err := x.s.OpenBody(x.t.Context(), st)
	if mm.gone {
		if !errors.Is(err, ErrBodyGone) {
			x.t.Errorf("message %s: the body was dropped: %v", id, err)
		}
		return
	}
	if err != nil {
		x.t.Fatal(err)
	}
	if string(b.(youngBody)) != mm.body {
		x.t.Errorf("message %s: another body", id)
	}
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: %d entries, want %d\ngot  %.2000v\nwant %.2000v", what, len(got), len(want), got, want)
	}
}
