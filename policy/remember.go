package policy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/policy/plan"
)

// A plan always does the same with what it reads. So a question has the answer of
// an earlier one to the same set if it is the same in all that was read for that,
// whatever else is in it. Most questions read little: the tenant, the credential,
// whether there are attachments, not the message itself.

// sight is what a rule saw that read one field: two that are equal are the same to
// it.
type sight struct {
	text, more string
	number     int64
	flag       bool
	session    *Session
	tenant     *Tenant
	strange    bool // never the same as another
}

// glance is one field that was read: the places of members on the way to it.
type glance struct {
	path  [4]uint8
	depth int
	sight sight
}

// trail is what one evaluation read.
type trail struct {
	at      glance // on the way
	reads   []glance
	strange bool // not everything is in reads
}

// teller is an object whose fields are made one by one.
type teller interface{ tell(t *trail) }

// seer is an input of which one can tell what a rule sees that reads the field at
// path.
type seer interface{ see(path []uint8) sight }

func (in *SenderInput) see(path []uint8) sight { return ofSenderInput[path[0]].seen(in, path[1:]) }
func (in *RecipientInput) see(path []uint8) sight {
	return ofRecipientInput[path[0]].seen(in, path[1:])
}
func (in *MessageInput) see(path []uint8) sight { return ofMessageInput[path[0]].seen(in, path[1:]) }

// tell adds what was read of an object to the trail.
func (o *object[T]) tell(t *trail) {
	whole := o.Read(func(name string, term *ast.Term) {
		i := slices.IndexFunc(o.members, func(m member[T]) bool { return string(m.key.Value.(ast.String)) == name })
		if i < 0 {
			return // there never is one
		}
		if t.at.depth == len(t.at.path) {
			t.strange = true
			return
		}
		t.at.path[t.at.depth] = uint8(i)
		t.at.depth++
		if part := partOf(term); part != nil {
			part.tell(t)
		} else {
			t.add(o.members[i].seen(o.v, nil))
		}
		t.at.depth--
	})
	t.strange = t.strange || whole
}

// partOf is the object whose fields are made one by one that a term stands for; nil:
// it does not.
func partOf(t *ast.Term) teller {
	if t == nil {
		return nil
	}
	lazy, ok := t.Value.(*plan.Lazy)
	if !ok {
		return nil
	}
	return lazy.Source().(teller)
}

// Bounds of what is remembered.
const (
	maxReads     = 24
	maxText      = 256  // of a text that was read
	maxParts     = 16   // of each list of a decision
	maxOfTenant  = 16   // answers
	maxOfStage   = 1024 // answers, twice: those of late, and those before
	trust, doubt = 256, 64
)

func (t *trail) add(s sight) {
	if s.strange || len(s.text) > maxText || len(s.more) > maxText || len(t.reads) == maxReads {
		t.strange = true
		return
	}
	one := t.at
	one.sight = s
	t.reads = append(t.reads, one)
}

// remembered is a decision and what was read for it.
type remembered struct {
	reads    []glance
	decision Decision
}

// answers remembers what one set decided at one stage. It is bounded, and forgets
// in two steps: what was not asked for since the last step goes.
type answers struct {
	mu            sync.Mutex
	recent, older map[*Tenant][]*remembered // lists are replaced, never changed
	count         int                       // in recent
	// credit grows with each question that was known and falls with each that was
	// not: where none ever is, little is kept.
	credit, asked int
}

// find gives the decision that was made of a question like this. The slices in it
// are not to be changed; appending to them copies.
func (a *answers) find(t *Tenant, in seer) (Decision, bool) {
	for _, one := range a.of(t) {
		if one.answers(in) {
			a.known()
			return one.decision, true
		}
	}
	return Decision{}, false
}

// answers tells whether all that was read is the same in a question.
func (m *remembered) answers(in seer) bool {
	for i := range m.reads {
		if r := &m.reads[i]; in.see(r.path[:r.depth]) != r.sight {
			return false
		}
	}
	return true
}

// of are the answers to a tenant's questions.
func (a *answers) of(t *Tenant) []*remembered {
	a.mu.Lock()
	defer a.mu.Unlock()
	list, ok := a.recent[t]
	if !ok {
		if list, ok = a.older[t]; ok {
			a.put(t, list, len(list))
		}
	}
	return list
}

func (a *answers) known() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.credit = min(a.credit+2, trust)
}

// put replaces a tenant's answers, which are n more than they were; the lock is
// held.
func (a *answers) put(t *Tenant, list []*remembered, n int) {
	if a.count+n > maxOfStage {
		a.older, a.recent, a.count, n = a.recent, map[*Tenant][]*remembered{}, 0, len(list)
	}
	a.recent[t] = list
	a.count += n
}

// wanted tells whether an answer is to be kept.
func (a *answers) wanted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.recent == nil {
		a.recent, a.credit = map[*Tenant][]*remembered{}, trust
	}
	if a.asked++; a.credit == 0 {
		return a.asked%doubt == 0
	}
	a.credit--
	return true
}

// keep remembers a decision with what was read of the input for it.
func (a *answers) keep(t *Tenant, input *ast.Term, d Decision) {
	in := partOf(input)
	if in == nil || !d.small() || !a.wanted() {
		return
	}
	trail := trail{reads: make([]glance, 0, 12)}
	if in.tell(&trail); trail.strange {
		return
	}
	for i := range trail.reads { // the input is not kept
		s := &trail.reads[i].sight
		s.text, s.more = strings.Clone(s.text), strings.Clone(s.more)
	}
	one := &remembered{trail.reads, d.clipped()}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.recent[t]
	list := append(slices.Clone(before[max(0, len(before)-maxOfTenant+1):]), one)
	a.put(t, list, len(list)-len(before))
}

// small tells whether a decision is worth its memory.
func (d *Decision) small() bool {
	return len(d.Rules) <= maxParts && len(d.Limits) <= maxParts && len(d.Route) <= maxParts && len(d.Methods) <= maxParts && len(d.Tags) <= maxParts &&
		len(d.Edits) <= maxParts && len(d.Warnings) <= maxParts && len(d.Points) <= maxParts
}

// clipped is the decision with lists that nobody can append to in place.
func (d Decision) clipped() Decision {
	d.Rules, d.Limits, d.Route, d.Methods = slices.Clip(d.Rules), slices.Clip(d.Limits), slices.Clip(d.Route), slices.Clip(d.Methods)
	d.Tags, d.Edits, d.Warnings, d.Points = slices.Clip(d.Tags), slices.Clip(d.Edits), slices.Clip(d.Warnings), slices.Clip(d.Points)
	return d
}

// known gives the decision if the set made it of late.
func (l lane) known(ctx context.Context, s *set, stage int, in input) (Decision, bool) {
	kept, t := l.kept(s, stage), tenantIn(in)
	if kept == nil || t == nil || ctx.Err() != nil {
		return Decision{}, false
	}
	start := time.Now()
	d, ok := kept.find(t, in.(seer))
	if ok {
		l.metrics.took(stage, time.Since(start))
		l.metrics.decided(stage, d.Action)
	}
	return d, ok
}
