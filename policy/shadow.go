package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// shadow tries a draft on live traffic: what the set in force has decided is put
// into a queue, and one goroutine asks the draft the same and compares. Nobody
// waits for it: what finds the queue full is counted and forgotten.
type shadow struct {
	folder watched
	draft  atomic.Pointer[set] // nil: none compiles
	queue  chan question
	queued atomic.Int64 // bytes of the inputs in the queue, roughly

	mu     sync.Mutex // guards what follows
	report ShadowReport
	groups map[groupKey]*ShadowGroup
}

// question is what was asked, and what the set in force said.
type question struct {
	draft *set
	stage int
	in    input
	was   Decision
}

// Bounds of what a shadow keeps.
const (
	maxQuestions = 256
	maxQueued    = 16 << 20 // bytes of inputs
	maxGroups    = 500
	maxExamples  = 5
)

// ShadowReport tells what a draft would have decided otherwise. It begins anew
// with another draft or another set in force.
type ShadowReport struct {
	Path   string    `json:"path"`
	Digest string    `json:"digest,omitempty"` // of the draft; empty: none compiles
	Active string    `json:"active,omitempty"` // digest of the set in force that it was compared with
	Since  time.Time `json:"since,omitzero"`   // when the comparison began
	Error  string    `json:"error,omitempty"`  // why the draft as it is now is not tried

	Same    int64 `json:"same"`
	Differs int64 `json:"differs"`
	Failed  int64 `json:"failed"`  // questions that the draft could not decide
	Dropped int64 `json:"dropped"` // questions that came faster than the draft is tried, or whose facts were not to be had

	LastError string        `json:"last_error,omitempty"` // of those that failed
	Groups    []ShadowGroup `json:"groups"`               // the most frequent first
	More      int64         `json:"more"`                 // differences that found no room in Groups
}

// ShadowGroup are differences of one kind.
type ShadowGroup struct {
	Tenant   string          `json:"tenant"`
	Package  string          `json:"package"`
	Was      Action          `json:"was"`
	Would    Action          `json:"would"`
	Rule     string          `json:"rule,omitempty"` // the first that makes the difference, as file:rule
	Count    int64           `json:"count"`
	Examples []ShadowExample `json:"examples"` // the first few
}

// ShadowExample is one question that would be decided otherwise.
type ShadowExample struct {
	At         time.Time `json:"at"`
	Summary    string    `json:"summary"`
	From       string    `json:"from"` // envelope
	Recipient  string    `json:"recipient,omitempty"`
	HeaderFrom string    `json:"header_from,omitempty"`
	Subject    string    `json:"subject,omitempty"`
	MessageID  string    `json:"message_id,omitempty"`
	Size       int64     `json:"size,omitempty"`
}

type groupKey struct {
	tenant, pkg string
	was, would  Action
	rule        string
}

func newShadow(path string) *shadow {
	return &shadow{folder: watched{path: path}, queue: make(chan question, maxQuestions),
		report: ShadowReport{Path: path, Error: "the draft is not loaded yet"}, groups: map[groupKey]*ShadowGroup{}}
}

// current is the draft to try; nil when there is none, or no shadow.
func (s *shadow) current() *set {
	if s == nil {
		return nil
	}
	return s.draft.Load()
}

// offer puts a question into the queue if there is room.
func (s *shadow) offer(q question, m *metrics) {
	size := sizeOf(q.in)
	if s.queued.Add(size) <= maxQueued {
		select {
		case s.queue <- q:
			return
		default:
		}
	}
	s.queued.Add(-size)
	s.drop(m, q.stage)
}

// drop counts a question that the draft is not tried on.
func (s *shadow) drop(m *metrics, stage int) {
	m.shadowed(stage, shadowDropped)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Dropped++
}

// sizeOf is roughly how many bytes an input holds in memory.
func sizeOf(in input) int64 {
	size := 1 << 10
	if m, ok := in.(*MessageInput); ok {
		for _, h := range m.Message.Headers {
			size += 32 + len(h[0]) + len(h[1])
		}
		size += 64*len(m.Message.Attachments) + 64*len(m.Message.URLHosts) + 64*len(m.Candidates)
	}
	return int64(size)
}

// watch takes changes of the draft.
func (s *shadow) watch(ctx context.Context, e *Engine) {
	s.folder.watch(ctx, func(src *source) error {
		if d := s.current(); d != nil && d.digest == src.digest() {
			return nil
		}
		set, problems := compile(src, e.set.Load())
		if len(problems) > 0 {
			return problems
		}
		s.draft.Store(set)
		e.log.Info("a draft of policies is tried beside the set in force", "path", s.folder.path, "digest", set.digest)
		return nil
	}, func(err error) {
		if err != nil {
			// A draft that is not there any more, or broken, is not tried on: a
			// report about something else than the folder would mislead.
			s.draft.Store(nil)
			e.log.Warn("the draft of policies is not tried", "path", s.folder.path, "error", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.report.Error = ""; err != nil {
			s.report.Error = err.Error()
		}
		if d := s.current(); d == nil || d.digest != s.report.Digest {
			s.restart(d, e.set.Load().digest)
		}
	})
}

// restart begins the report anew; the lock is held.
func (s *shadow) restart(draft *set, active string) {
	s.report = ShadowReport{Path: s.report.Path, Error: s.report.Error, Active: active}
	if draft != nil {
		s.report.Digest, s.report.Since = draft.digest, time.Now()
	}
	clear(s.groups)
}

// restful is how long a draft may take for one question without a rest after it.
const restful = 2 * time.Millisecond

// run tries the draft on what is in the queue. After a question that took long it
// rests three times as long, so that a slow draft does not take the processor
// from live traffic.
func (s *shadow) run(ctx context.Context, e *Engine) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-s.queue:
			s.queued.Add(-sizeOf(q.in))
			start := time.Now()
			s.try(ctx, e, q)
			if took := time.Since(start); took > restful {
				select {
				case <-ctx.Done():
				case <-time.After(3 * took):
				}
			}
		}
	}
}

// try asks the draft one question and notes how its answer differs.
func (s *shadow) try(ctx context.Context, e *Engine, q question) {
	if q.draft != s.current() {
		return // asked before the draft changed
	}
	would, err := Decision{Digest: q.draft.digest}, error(nil)
	if m, ok := q.in.(*MessageInput); ok {
		err = m.bounded(q.draft.needs, e.o.MaxInput)
	}
	if program := q.draft.stages[q.stage]; program != nil && err == nil {
		would, err = program.decide(ctx, q.draft, e.o.Deadline, q.in, nil)
	}
	if ctx.Err() != nil {
		return
	}
	pkg := stages()[q.stage].name
	var d *Difference
	if err == nil {
		d = Compare(pkg, &q.was, &would)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.draft.digest != s.report.Digest || q.was.Digest != s.report.Active {
		s.restart(q.draft, q.was.Digest)
	}
	switch {
	case err != nil:
		e.metrics.shadowed(q.stage, shadowError)
		s.report.Failed++
		s.report.LastError = err.Error()
	case d == nil:
		e.metrics.shadowed(q.stage, shadowSame)
		s.report.Same++
	default:
		e.metrics.shadowed(q.stage, shadowDiffers)
		s.report.Differs++
		s.note(pkg, q, &would, d)
	}
}

// note files a difference; the lock is held.
func (s *shadow) note(pkg string, q question, would *Decision, d *Difference) {
	common, example := facts(q.in)
	key := groupKey{orEmpty(common.Tenant).Name, pkg, q.was.Action, would.Action, cmp.Or(d.WouldRule, d.WasRule)}
	g := s.groups[key]
	if g == nil {
		if len(s.groups) == maxGroups {
			s.report.More++
			return
		}
		g = &ShadowGroup{Tenant: key.tenant, Package: pkg, Was: key.was, Would: key.would, Rule: key.rule}
		s.groups[key] = g
	}
	if g.Count++; len(g.Examples) < maxExamples {
		example.Summary = line(d.Summary)
		g.Examples = append(g.Examples, example)
	}
}

// facts are what a question was about, for people.
func facts(in input) (*SenderInput, ShadowExample) {
	var x ShadowExample
	var common *SenderInput
	switch in := in.(type) {
	case *SenderInput:
		common = in
	case *RecipientInput:
		common, x.Recipient = &in.SenderInput, in.Recipient.Address
	case *MessageInput:
		m := &in.Message
		common, x.HeaderFrom, x.Subject, x.MessageID, x.Size = &in.SenderInput, m.From, line(m.Subject), line(m.MessageID), m.Size
	default:
		panic(fmt.Sprintf("policy: a draft is tried on %T", in)) // only submissions are live
	}
	x.At, x.From = time.Unix(0, common.Time).UTC(), common.Envelope.From
	return common, x
}

// Shadow tells what the draft that is tried beside the set in force would have
// decided otherwise; false when none was asked for.
func (e *Engine) Shadow() (ShadowReport, bool) {
	s := e.shadow
	if s == nil {
		return ShadowReport{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.report
	r.Groups = make([]ShadowGroup, 0, len(s.groups))
	for _, g := range s.groups {
		one := *g
		one.Examples = slices.Clone(g.Examples)
		r.Groups = append(r.Groups, one)
	}
	slices.SortFunc(r.Groups, func(a, b ShadowGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Package, b.Package),
			cmp.Compare(a.Was, b.Was), cmp.Compare(a.Would, b.Would), cmp.Compare(a.Rule, b.Rule))
	})
	return r, true
}

// or is what either needs.
func (n Needs) or(o Needs) Needs {
	return Needs{
		Sender: n.Sender || o.Sender, Recipient: n.Recipient || o.Recipient, Message: n.Message || o.Message,
		Usage: n.Usage || o.Usage, CredentialUsage: n.CredentialUsage || o.CredentialUsage,
		FirstTime: n.FirstTime || o.FirstTime, Suppressed: n.Suppressed || o.Suppressed,
		Headers: n.Headers || o.Headers, Attachments: n.Attachments || o.Attachments, URLHosts: n.URLHosts || o.URLHosts,
		Candidates: n.Candidates || o.Candidates, ReverseDNS: n.ReverseDNS || o.ReverseDNS, Bulk: n.Bulk || o.Bulk, Unusual: n.Unusual || o.Unusual,
	}
}
