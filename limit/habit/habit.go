package habit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/mail"
)

// Options of [Habits]; the zero value works.
type Options struct {
	// Floor is how many new recipients in 24 hours are never unusual for a
	// credential by their number; default 200. A third more still pass.
	Floor int64
	// Growth is by how much one day may raise what is usual; default 1.15.
	Growth float64
	// MaxProfiles bounds the credentials in memory, about 2 KiB each; default
	// 20,000.
	MaxProfiles int
}

// Habits knows what is usual for each credential of each tenant. Profiles are
// read from the store when first asked for, and written by [Habits.Run]. Its
// methods may be called from many goroutines.
type Habits struct {
	store kv.Store
	o     Options
	dec   cbor.DecMode

	mu       sync.Mutex
	profiles map[owner]*entry
}

// owner is a credential in its use for one tenant.
type owner struct {
	tenant     mail.TenantID
	credential string
}

// entry is a profile in memory.
//
// A holder of its lock never takes that of Habits; who holds that one only
// tries.
type entry struct {
	mu      sync.Mutex
	owner   owner
	loaded  bool
	gone    bool // dropped from memory: open it again
	dirty   bool
	writing bool   // what changed is on its way to the store
	flying  int    // tickets that are not settled
	touched uint32 // hour of the last use
	p       profile
}

// New makes Habits over store.
func New(store kv.Store, o Options) *Habits {
	if o.Floor <= 0 {
		o.Floor = 200
	}
	if o.Growth <= 1 {
		o.Growth = 1.15
	}
	if o.MaxProfiles <= 0 {
		o.MaxProfiles = 20_000
	}
	dec, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return &Habits{store: store, o: o, dec: dec, profiles: map[owner]*entry{}}
}

// Ask tells how unusual a message is. Its new recipients count as taken from now
// until the ticket is settled, which must happen exactly once: by Done, or by
// Drop when the message is not taken.
func (h *Habits) Ask(ctx context.Context, q Question) (*Ticket, Answer, error) {
	e, err := h.open(ctx, owner{q.Tenant, q.Credential}, q.Now)
	if err != nil {
		return nil, Answer{}, err
	}
	defer e.mu.Unlock()
	hour := hourOf(q.Now)
	if e.p.asked.Hour != hour {
		e.p.asked = hourCount{Hour: hour}
	}
	e.p.asked.Messages++
	k, r := known, (*recent)(nil)
	if q.New > 0 {
		k, r = e.p.Texts.note(q.Text, hour)
	}
	e.p.flying[k] += q.New
	e.flying++
	a := e.p.score(&q, k, r, &h.o)
	return &Ticket{e: e, q: q, kind: k, answer: a}, a, nil
}

// Ticket is one message between the question and its fate.
type Ticket struct {
	e       *entry
	q       Question
	kind    kind
	answer  Answer
	opened  bool
	settled bool
}

// Opens tells whether a hold of this message begins an episode; of several at
// once one is told so, until it is dropped.
func (t *Ticket) Opens() bool {
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	p := &t.e.p
	if p.Episode == nil {
		p.Episode = &Episode{Since: t.q.Now.UTC(), Credential: t.e.owner.credential, Score: t.answer.Score, Reasons: t.answer.Reasons}
		t.opened, t.e.dirty = true, true
	}
	return t.opened
}

// Done counts a message that was taken: passed of its new recipients go out, and
// held are held because it was unusual.
func (t *Ticket) Done(id mail.ID, passed, held int64) {
	t.end(func(p *profile) {
		s := p.at(hourOf(t.q.Now))
		s.New[t.kind] += uint32(passed)
		var r *recent
		if t.q.New > 0 {
			r = p.Texts.find(t.q.Text)
		}
		if held == 0 {
			s.Messages++
			if r != nil {
				r.Passed++
			}
			return
		}
		if r != nil && t.kind != known {
			r.Held++
		}
		p.hold(t, id, held)
	})
}

// Drop gives back what the question took.
func (t *Ticket) Drop() {
	t.end(func(p *profile) {
		if t.opened && p.Episode != nil && p.Episode.Messages == 0 {
			p.Episode = nil
		}
	})
}

func (t *Ticket) end(fn func(*profile)) {
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	if t.settled {
		return
	}
	t.settled, t.e.dirty = true, true
	t.e.p.flying[t.kind] -= t.q.New
	t.e.flying--
	fn(&t.e.p)
}

// open gives a profile, loaded and locked; days that are over by now, unless
// that is zero, have taught.
func (h *Habits) open(ctx context.Context, who owner, now time.Time) (*entry, error) {
	for {
		e := h.entry(who)
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			continue
		}
		if !e.loaded {
			if err := h.load(ctx, e); err != nil {
				e.mu.Unlock()
				return nil, fmt.Errorf("reading the habits of %s: %w", who.credential, err)
			}
		}
		if !now.IsZero() {
			e.touched = hourOf(now)
			e.p.turn(hourOf(now), &h.o)
		}
		return e, nil
	}
}

func (h *Habits) entry(who owner) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.profiles[who]
	if e == nil {
		if len(h.profiles) >= h.o.MaxProfiles {
			h.makeRoom()
		}
		e = &entry{owner: who}
		h.profiles[who] = e
	}
	return e
}

// makeRoom drops, of some profiles that the map gives at random, the one that
// was used longest ago and is stored and not in use; h.mu is held. When none is,
// none is dropped: the next flush frees them.
func (h *Habits) makeRoom() {
	const sample = 16
	var victim *entry
	seen := 0
	for _, e := range h.profiles {
		if e.mu.TryLock() {
			if e.dirty || e.writing || e.flying > 0 || victim != nil && e.touched >= victim.touched {
				e.mu.Unlock()
			} else {
				if victim != nil {
					victim.mu.Unlock()
				}
				victim = e
			}
		}
		if seen++; seen == sample {
			break
		}
	}
	if victim != nil {
		victim.gone = true
		victim.mu.Unlock()
		delete(h.profiles, victim.owner)
	}
}
