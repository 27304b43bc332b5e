package habit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/mail"
)

// Options of [Habits]; the zero value works.
type Options struct {
	// Floor is how many new recipients in 24 hours are never unusual for a
	// credential by their number; default 200. A third more still pass. For all
	// credentials of a tenant together it is half as much again, for one
	// credential in all its tenants ten times as much.
	Floor int64
	// Growth is by how much one day may raise what is usual; default 1.15.
	Growth float64
	// MaxProfiles bounds the profiles in memory, about 4 KiB each; default
	// 20,000.
	MaxProfiles int
}

// Habits knows what is usual for each credential of each tenant. Profiles are
// read from the store when first asked for, and written by [Habits.Run]. Its
// methods may be called from many goroutines.
type Habits struct {
	store kv.Store
	o     Options
	wide  [levels]Options // by what a profile is about
	dec   cbor.DecMode

	mu       sync.Mutex
	profiles map[owner]*entry

	flushing sync.Mutex // held while profiles are written
	changed  changes
}

// owner is whose mail a profile counts: a credential's for one tenant, that of
// all credentials of a tenant, or a credential's for all tenants.
type owner struct {
	tenant     mail.TenantID
	credential string
}

// everyTenant begins the name of a credential whose mail for all tenants is
// meant. No username has it.
const everyTenant = "*"

func (w owner) ofTenant() owner   { return owner{tenant: w.tenant} }
func (w owner) everywhere() owner { return owner{credential: everyTenant + w.credential} }

func (w owner) level() level {
	switch {
	case w.credential == "":
		return ofTenant
	case strings.HasPrefix(w.credential, everyTenant):
		return ofPlatform
	}
	return ofCredential
}

// level is what a profile is about.
type level uint8

const (
	ofCredential level = iota
	ofTenant
	ofPlatform
	levels
)

func (l level) String() string {
	return [levels]string{"", " of all credentials of the tenant", " of all tenants of this credential"}[l]
}

// entry is a profile in memory.
//
// A holder of its lock never takes that of Habits; who holds that one only
// tries.
type entry struct {
	mu      sync.Mutex
	changed *changes
	owner   owner
	loaded  bool
	gone    bool   // dropped from memory: open it again
	dirty   bool   // not in the store as it is here, and among the changes
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
	h := &Habits{store: store, o: o, wide: [levels]Options{o, o, o}, dec: dec, profiles: map[owner]*entry{}}
	h.wide[ofTenant].Floor += o.Floor / 2
	h.wide[ofPlatform].Floor *= 10
	return h
}

func (h *Habits) options(of level) *Options { return &h.wide[of] }

// Ask tells how unusual a message is: for its credential, for all credentials of
// the tenant together, and for all tenants of the credential; the worst of these
// counts. Its new recipients count as taken from now until the ticket is settled,
// which must happen exactly once: by Done, or by Drop when the message is not
// taken.
func (h *Habits) Ask(ctx context.Context, q Question) (*Ticket, Answer, error) {
	t := &Ticket{q: q}
	own := owner{q.Tenant, q.Credential}
	whose := [levels]owner{own, own.ofTenant()}
	n := 2
	if q.Everywhere && q.New > 0 {
		whose[n] = own.everywhere()
		n++
	}
	for _, who := range whose[:n] {
		if err := h.ask(ctx, t, who); err != nil {
			t.Drop()
			return nil, Answer{}, err
		}
	}
	t.lean()
	return t, t.answer, nil
}

// ask asks one profile.
func (h *Habits) ask(ctx context.Context, t *Ticket, who owner) error {
	e, err := h.open(ctx, who, t.q.Now)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	s, of, q := &t.shares[t.n], who.level(), &t.q
	t.n++
	s.e = e
	e.flying++
	now := e.p.clock(q.Now)
	s.hour = hourOf(now)
	if of == ofTenant {
		t.answer.TenantHeldOctets = e.p.Octets + e.p.holds
		if q.New == 0 {
			return nil
		}
	}
	if e.p.asked.Hour != s.hour {
		e.p.asked = hourCount{Hour: s.hour}
	}
	e.p.asked.Messages++
	var r *recent
	if q.New > 0 {
		var known *text
		if s.kind, r, known = e.p.Texts.note(&q.Text, q.New, s.hour); known != nil {
			s.like, s.day = known.Like, e.p.Today
		}
		s.strange = e.p.Texts.learnt(q.Text.Like) == nil
	}
	e.p.flying[s.kind] += q.New
	a := e.p.score(q, now, of, s.kind, r, h.options(of))
	s.score = a.Score
	if of == ofCredential || a.Score > t.answer.Score {
		t.answer.Score, t.answer.Reasons, t.answer.NewRecipients = a.Score, a.Reasons, a.NewRecipients
	}
	if of == ofCredential {
		t.answer.HeldOctets = e.p.holds
		if ep := e.p.Episode; ep != nil {
			t.answer.Held = ep.Messages
			t.answer.HeldOctets += ep.Octets
		}
	}
	return nil
}

// Ticket is one message between the question and its fate.
type Ticket struct {
	q       Question
	shares  [levels]share // the first is the credential's
	n       int
	answer  Answer
	leans   bool
	opened  bool
	settled bool
}

// share is what a message took of one profile.
type share struct {
	e       *entry
	hour    uint32
	kind    kind
	score   int64
	like    Likeness // of the known text whose room it took
	day     uint16   // on which it did
	strange bool     // its text has never been learnt
}

// lean notes the octets of a message that is likely to be held, so that many at
// once are not all seen as the first.
func (t *Ticket) lean() {
	if t.leans = t.answer.Score >= Over && t.q.New > 0; !t.leans {
		return
	}
	for i := range t.shares[:t.n] {
		e := t.shares[i].e
		e.mu.Lock()
		e.p.holds += t.q.Size
		e.mu.Unlock()
	}
}

// Opens tells whether a hold of this message begins an episode; of several at
// once one is told so, until it is dropped.
func (t *Ticket) Opens() bool {
	e := t.shares[0].e
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.p.begin(t) {
		t.opened = true
		e.change()
	}
	return t.opened
}

// Done counts a message that was taken: passed of its new recipients go out, and
// held are held because it was unusual.
func (t *Ticket) Done(id mail.ID, passed, held int64) {
	t.end(passed, func(s *share) {
		p, of := &s.e.p, s.e.owner.level()
		count := p.at(s.hour)
		count.New[s.kind] += uint32(passed)
		if held == 0 {
			count.Messages++
			if t.q.New > 0 {
				p.Texts.passed(&t.q.Text, passed, p.Today)
			}
			return
		}
		// Only where it was unusual is a text blamed, and only if it is a new one:
		// who copies a known text must not spoil it.
		if r := p.Texts.find(t.q.Text.Like); r != nil && t.q.New > 0 && s.strange && s.kind != known && s.score >= t.answer.Score {
			r.blame(p.Today)
		}
		switch of {
		case ofCredential:
			p.hold(t, s.kind, id, held)
		case ofTenant:
			p.Octets += t.q.Size
		}
	})
}

// Drop gives back what the question took.
func (t *Ticket) Drop() {
	t.end(0, func(s *share) {
		if p := &s.e.p; t.opened && s.e.owner.level() == ofCredential && p.Episode != nil && p.Episode.Messages == 0 {
			p.Episode = nil
		}
	})
}

// end settles the ticket, once.
func (t *Ticket) end(passed int64, fn func(*share)) {
	if t.settled {
		return
	}
	t.settled = true
	for i := range t.shares[:t.n] {
		t.shares[i].end(t, passed, fn)
	}
}

func (s *share) end(t *Ticket, passed int64, fn func(*share)) {
	e := s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	e.change()
	e.flying--
	e.p.flying[s.kind] -= t.q.New
	if t.leans {
		e.p.holds -= t.q.Size
	}
	if s.like != (Likeness{}) && s.day == e.p.Today {
		if x := e.p.Texts.learnt(s.like); x != nil {
			x.Sent = max(0, x.Sent-t.q.New+passed)
		}
	}
	fn(s)
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
			e.p.turn(hourOf(e.p.clock(now)), h.options(who.level()))
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
		e = &entry{owner: who, changed: &h.changed}
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
