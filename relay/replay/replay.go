package replay

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"behalf/limit"
	"behalf/mail"
	"behalf/policy"
	"behalf/policy/journal"
	"behalf/relay"
)

// The reasons why nothing is replayed.
var (
	ErrBusy = errors.New("a replay is running already; wait for it or stop it")
	ErrOff  = errors.New("nothing is recorded: retention.policy_inputs is 0s")
)

// Set is the policy set to ask; [policy.Pinned] is one.
type Set interface {
	Digest() string
	Needs() policy.Needs
	Sender(context.Context, *policy.SenderInput) (policy.Decision, error)
	Recipient(context.Context, *policy.RecipientInput) (policy.Decision, error)
	Message(context.Context, *policy.MessageInput) (policy.Decision, error)
}

// Options of a replay; the zero value replays all that is recorded.
type Options struct {
	Since, Until time.Time // transactions that began at or after Since and before Until; zero: no bound
	Tenant       string    // only of this tenant
	Examples     int       // in the report, at most 500; default 20
	// Progress is told now and then how far it got.
	Progress func(Progress) error
	// Difference is told every decision that differs, in recorded order.
	Difference func(*Example) error
}

// Progress is how far a replay got.
type Progress struct {
	Done      int64 `json:"done" doc:"Octets of the record that were read."`
	Total     int64 `json:"total" doc:"Of so many."`
	Decisions int   `json:"decisions"`
	Differing int   `json:"differing"`
}

const (
	maxExamples   = 500
	maxOpen       = 10_000 // large transactions whose parts are still to come
	progressEvery = 250 * time.Millisecond
)

// Runner replays one at a time.
type Runner struct {
	Journal *journal.Journal // nil: nothing is recorded
	busy    atomic.Bool
}

// Run asks set all that is recorded. An error of Progress or Difference ends it.
func (r *Runner) Run(ctx context.Context, set Set, o Options) (*Report, error) {
	if r.Journal == nil {
		return nil, ErrOff
	}
	if !r.busy.CompareAndSwap(false, true) {
		return nil, ErrBusy
	}
	defer r.busy.Store(false)
	if o.Examples <= 0 {
		o.Examples = 20
	}
	if o.Until.IsZero() {
		o.Until = time.Now().UTC()
	}
	in, err := r.Journal.Read(o.Since, o.Until)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	p := &replay{set: set, needs: set.Needs(), o: o, t: newTally(min(o.Examples, maxExamples)), open: map[uint64]*transaction{},
		was:   simulation{limit.New(limit.Options{MaxKeys: simKeys}), func(c *LimitCount) *Stops { return &c.Was }},
		would: simulation{limit.New(limit.Options{MaxKeys: simKeys}), func(c *LimitCount) *Stops { return &c.Would }}}
	p.t.Digest, p.t.Since, p.t.Until = set.Digest(), o.Since, o.Until
	if err := p.all(ctx, in); err != nil {
		return nil, err
	}
	return p.report(in), nil
}

// replay is one run.
type replay struct {
	set        Set
	needs      policy.Needs
	o          Options
	t          *tally
	open       map[uint64]*transaction
	was, would simulation
	told       time.Time
}

// transaction is one recorded transaction on both sides. A side is dead once it
// was refused as a whole.
type transaction struct {
	at         time.Time
	tenant     string
	was, would course
	// refused tells that the set refused it as a whole, and passed how many
	// recipients it let pass, limits aside.
	refused bool
	passed  int
}

func (p *replay) all(ctx context.Context, in *journal.Reader) error {
	for in.Next() {
		e := in.Entry()
		if e.Tenant == nil || p.o.Tenant != "" && e.Tenant.Name != p.o.Tenant {
			continue
		}
		t := p.open[e.Transaction]
		if t == nil {
			t = &transaction{at: e.Time, tenant: e.Tenant.Name}
			p.t.Transactions++
			if e.End == nil && len(p.open) < maxOpen {
				p.open[e.Transaction] = t
			}
		}
		for i := range e.Asks {
			if err := p.ask(ctx, t, e, &e.Asks[i]); err != nil {
				return err
			}
			if err := p.progress(in, false); err != nil {
				return err
			}
			runtime.Gosched() // live traffic goes first
		}
		if e.End != nil {
			p.end(t, e.End)
			delete(p.open, e.Transaction)
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return p.progress(in, true)
}

func (p *replay) progress(in *journal.Reader, last bool) error {
	if p.o.Progress == nil || !last && time.Since(p.told) < progressEvery {
		return nil
	}
	p.told = time.Now()
	done, total := in.Progress()
	return p.o.Progress(Progress{done, total, p.t.Decisions, p.t.Differing})
}

// ask puts one recorded question to the set, unless the transaction would not
// have come so far.
func (p *replay) ask(ctx context.Context, t *transaction, e *journal.Entry, a *journal.Ask) error {
	pkg := a.Package()
	count := p.t.tenant(t.tenant)
	p.t.Decisions, count.Decisions = p.t.Decisions+1, count.Decisions+1
	p.follow(&p.was, &t.was, t.at, a, a.Err != "", &a.Decision)
	if t.refused || pkg == policy.PackageMessage && t.passed == 0 {
		p.t.NotReached++
		t.would.dead = true
		return nil
	}
	if names := missing(pkg, p.needs, e.Needs); len(names) > 0 {
		for _, name := range names {
			p.t.facts[name]++
		}
		p.t.Undecidable, count.Undecidable = p.t.Undecidable+1, count.Undecidable+1
		p.decided(t, a, a.Err != "", &a.Decision) // as it was, for want of better
		return nil
	}
	d, err := put(ctx, p.set, a)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.decided(t, a, err != nil, &d)
	diff := difference(pkg, a, &d, err)
	if diff == nil {
		p.t.Same++
		return nil
	}
	p.t.Differing, count.Differing = p.t.Differing+1, count.Differing+1
	of := RuleCount{Package: pkg, Was: a.Decision.Action.String(), WasRule: diff.WasRule, Would: d.Action.String(), WouldRule: diff.WouldRule}
	if a.Err != "" {
		of.Was = "error"
	}
	if err != nil {
		of.Would = "error"
		p.t.Errors++
	}
	x := example(e, a, diff)
	p.t.differs(of, x)
	if p.o.Difference != nil {
		return p.o.Difference(&x)
	}
	return nil
}

// put asks the set what was asked then.
func put(ctx context.Context, set Set, a *journal.Ask) (policy.Decision, error) {
	switch {
	case a.Recipient != nil:
		return set.Recipient(ctx, a.Recipient)
	case a.Message != nil:
		return set.Message(ctx, a.Message)
	}
	return set.Sender(ctx, a.Sender)
}

// decided follows what the set decided, or is taken to have.
func (p *replay) decided(t *transaction, a *journal.Ask, failed bool, d *policy.Decision) {
	p.follow(&p.would, &t.would, t.at, a, failed, d)
	switch refused := failed || d.Failure() != nil; {
	case a.Recipient != nil && !refused:
		t.passed++
	case a.Recipient == nil && refused:
		t.refused = true
	}
}

// follow lets the limits of one side count.
func (p *replay) follow(s *simulation, c *course, at time.Time, a *journal.Ask, failed bool, d *policy.Decision) {
	if c.dead {
		return
	}
	stage := relay.Stage{Package: a.Package(), Recipients: c.recipients}
	if a.Message == nil {
		stage.Declared = a.Common().Envelope.Size
	} else if stage.Size = a.Message.Message.Size; c.recipients == 0 {
		c.dead = true
		return
	}
	passes := !failed && s.ask(c, at, stage, d)
	switch {
	case a.Recipient == nil:
		c.dead = !passes
	case passes:
		c.recipients++
	}
}

// difference compares what was decided with what the set says, errors included.
func difference(pkg string, a *journal.Ask, d *policy.Decision, err error) *policy.Difference {
	if a.Err == "" && err == nil {
		return policy.Compare(pkg, &a.Decision, d)
	}
	if a.Err != "" && err != nil {
		return nil
	}
	diff := &policy.Difference{WasRule: lead(&a.Decision), WouldRule: lead(d)}
	was, would := a.Decision.Action.String(), d.Action.String()
	diff.Summary = was + " -> error: "
	if err != nil {
		diff.WouldRule, would = "", "error"
		diff.Summary += err.Error()
	} else {
		was, diff.Summary = "error", "error: "+a.Err+" -> "+would
	}
	diff.Changes = []policy.Change{{Field: "action", Was: was, Would: would}}
	return diff
}

// lead is the rule that decided; an accept has none.
func lead(d *policy.Decision) string {
	if d.Action == policy.Accept || len(d.Rules) == 0 {
		return ""
	}
	return d.Rules[0]
}

func example(e *journal.Entry, a *journal.Ask, diff *policy.Difference) Example {
	x := Example{Time: e.Time, Package: a.Package(), Tenant: e.Tenant.Name, From: a.Common().Envelope.From, Difference: diff}
	if e.Credential != nil {
		x.Credential = e.Credential.Username
	}
	if e.End != nil {
		x.Message = e.End.Message
	}
	if a.Recipient != nil {
		x.Recipient = a.Recipient.Recipient.Address
	}
	if a.Message != nil {
		x.From, x.Subject = a.Message.Message.From, a.Message.Message.Subject
	}
	return x
}

// end ends a transaction on both sides. What a limit or a rule refused then may
// have been taken by the other side; what the client gave up was taken by none.
func (p *replay) end(t *transaction, e *journal.End) {
	kept := e.Accepted || e.Reason == string(mail.ReasonPolicy) || e.Reason == string(mail.ReasonRate)
	p.was.end(&t.was, kept, t.at, t.tenant, p.t)
	p.would.end(&t.would, kept, t.at, t.tenant, p.t)
}

func (p *replay) report(in *journal.Reader) *Report {
	for _, t := range p.open {
		p.end(t, &journal.End{})
	}
	p.t.Unreadable, p.t.Skipped = in.Skipped()
	for _, s := range []*simulation{&p.was, &p.would} {
		if _, dropped := s.limiter.Keys(); dropped > 0 {
			p.t.Approximate = true
		}
	}
	return p.t.report()
}
