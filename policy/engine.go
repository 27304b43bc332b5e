package policy

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say where policies are and what asking them may cost. Without Path or
// with no folder there, Defaults are in force.
type Options struct {
	Path     string
	Defaults fs.FS
	Watch    bool // Run reloads a folder that changed
	// Deadline bounds one evaluation; default 100 ms. What exceeded it is tried
	// once more with four times as long, because on a busy machine the clock runs
	// on while nothing is evaluated.
	Deadline time.Duration
	// Concurrency bounds evaluations that run at once; default one a CPU.
	// Waiting for a turn is bounded by the caller's context alone.
	Concurrency int
	// MaxInput bounds the header fields, attachments, hosts and candidates of
	// one message together, of those that the set reads; default 20,000. More is an
	// error.
	MaxInput int
	// Bundles are where policies come from in place of Path and Defaults; without
	// any in it, they are not.
	Bundles Bundles
	// Gate makes a set that changed wait until [Engine.Accept] is called.
	Gate bool
	// Keep is the folder that remembers the set in force and what was in force
	// before; default: nothing is remembered. A gate needs it to outlive a restart.
	Keep string
	// Shadow is the folder of a draft that Run tries on live traffic beside the
	// set in force; default: none. See [Engine.Shadow].
	Shadow  string
	Log     *slog.Logger          // default: nowhere
	Metrics prometheus.Registerer // default: nowhere
}

// Engine asks the policy set in force. Its methods may be called from many
// goroutines.
type Engine struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	turns   chan struct{} // one for each evaluation that may run for live traffic
	aside   chan struct{} // likewise for sets that are tried aside
	set     atomic.Pointer[set]
	failed  failures // of live traffic
	slow    *slow

	folder  watched  // New and then Run alone look at it
	bundles *bundles // nil: a folder, or its stand-in
	shadow  *shadow  // nil: no draft is tried

	changing sync.Mutex // held while the set in force is replaced

	mu       sync.Mutex // guards what follows
	status   Status
	history  []Activation // the newest last
	pending  *pending
	reviewed []reviewed // the newest last
}

// New loads the policies and makes an engine. A set that does not compile is an
// error of type [Problems].
func New(ctx context.Context, o Options) (*Engine, error) {
	if o.Deadline <= 0 {
		o.Deadline = 100 * time.Millisecond
	}
	if o.Concurrency <= 0 {
		o.Concurrency = runtime.GOMAXPROCS(0)
	}
	if o.MaxInput <= 0 {
		o.MaxInput = 20_000
	}
	e := &Engine{o: o, log: o.Log, turns: make(chan struct{}, o.Concurrency), aside: make(chan struct{}, 1), slow: newSlow()}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.folder = watched{path: o.Path, defaults: o.Defaults}
	if o.Shadow != "" {
		e.shadow = newShadow(o.Shadow)
	}
	var err error
	if e.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("policy metrics: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(o.Bundles.Bundles) > 0 {
		if e.bundles, err = newBundles(o.Bundles, o.Keep); err != nil {
			return nil, err
		}
	}
	if err := e.start(ctx); err != nil {
		return nil, fmt.Errorf("loading policies: %w", err)
	}
	return e, nil
}

// Pinned is the engine with one policy set held fast, so that all stages of a
// transaction are judged by the same set and by the facts that it needs.
type Pinned struct {
	e     *Engine
	s     *set
	aside bool // not for live traffic
	draft *set // what is tried beside it; nil: nothing
}

// Pin holds the set that is in force now.
func (e *Engine) Pin() Pinned { return Pinned{e: e, s: e.set.Load(), draft: e.shadow.current()} }

// Needs tells which costly facts the set in force refers to. A set may change
// between this call and a question, and a fact left out counts as empty: use
// [Engine.Pin] to ask the same set.
func (e *Engine) Needs() Needs { return e.Pin().Needs() }

// Sender is [Pinned.Sender] of the set in force.
func (e *Engine) Sender(ctx context.Context, in *SenderInput) (Decision, error) {
	return e.Pin().Sender(ctx, in)
}

// Recipient is [Pinned.Recipient] of the set in force.
func (e *Engine) Recipient(ctx context.Context, in *RecipientInput) (Decision, error) {
	return e.Pin().Recipient(ctx, in)
}

// Message is [Pinned.Message] of the set in force.
func (e *Engine) Message(ctx context.Context, in *MessageInput) (Decision, error) {
	return e.Pin().Message(ctx, in)
}

// Digest names the set.
func (p Pinned) Digest() string { return p.s.digest }

// Needs tells which costly facts the set, or the draft that is tried beside it,
// refers to; nobody has to find out the others.
func (p Pinned) Needs() Needs {
	if p.draft != nil {
		return p.s.needs.or(p.draft.needs)
	}
	return p.s.needs
}

// Keeps tells whether a question is still looked at when it has been answered,
// because a draft is tried on it: then its memory must not serve another.
func (p Pinned) Keeps() bool { return p.draft != nil }

// Sender asks the sender stage. An error is no decision: answer 451 4.3.0.
func (p Pinned) Sender(ctx context.Context, in *SenderInput) (Decision, error) {
	in.stamp()
	return p.ask(ctx, stageSender, in)
}

// Recipient asks the recipient stage. An error is no decision: answer 451 4.3.0.
func (p Pinned) Recipient(ctx context.Context, in *RecipientInput) (Decision, error) {
	in.stamp()
	return p.ask(ctx, stageRecipient, in)
}

// Own tells which costly facts the set itself refers to.
func (p Pinned) Own() Needs { return p.s.needs }

// Alone is the set without the draft that is tried beside it, for a question whose
// facts could not be found out for the draft.
func (p Pinned) Alone() Pinned {
	if p.draft != nil {
		p.e.shadow.drop(p.e.metrics, stageMessage)
		p.draft = nil
	}
	return p
}

// Message asks the message stage. An error is no decision: answer 451 4.3.0.
func (p Pinned) Message(ctx context.Context, in *MessageInput) (Decision, error) {
	if err := in.bounded(p.s.needs, p.e.o.MaxInput); err != nil {
		p.lane().metrics.failed(stageMessage)
		return Decision{}, err
	}
	in.stamp()
	return p.ask(ctx, stageMessage, in)
}

// Limited counts that a limit refused what the stage of a package let pass.
func (p Pinned) Limited(pkg string) { p.lane().metrics.limited(stageOf(pkg)) }

// bounded refuses more of what a set reads than one message may have.
func (in *MessageInput) bounded(reads Needs, most int) error {
	n := 0
	for _, one := range []struct {
		read bool
		n    int
	}{{reads.Headers, len(in.Message.Headers)}, {reads.Attachments, len(in.Message.Attachments)}, {reads.URLHosts, len(in.Message.URLHosts)}, {reads.Candidates, len(in.Candidates)}} {
		if one.read {
			n += one.n
		}
	}
	if n > most {
		return fmt.Errorf("policy %s: the message has %d header fields, attachments and hosts; the bound is %d", PackageMessage, n, most)
	}
	return nil
}

func (in *SenderInput) stamp() { stamp(&in.Time) }

// ask evaluates one stage, and lets a draft be tried on the same question. The
// input must not change any more.
func (p Pinned) ask(ctx context.Context, stage int, in input) (Decision, error) {
	d, err := p.evaluate(ctx, stage, in)
	switch {
	case p.aside:
	case err == nil:
		p.e.failed.asked(stage, tenantOf(in))
		if p.draft != nil {
			p.e.shadow.offer(question{p.draft, stage, in, d}, p.e.metrics)
		}
	case ctx.Err() == nil && p.s == p.e.set.Load(): // the client is still there, so it is the fault of the set in force
		p.e.failed.add(stage, tenantOf(in), err)
	}
	return d, err
}

// evaluate asks one stage. A stage without rules accepts at no cost.
func (p Pinned) evaluate(ctx context.Context, stage int, in input) (Decision, error) {
	e, program, lane := p.e, p.s.stages[stage], p.lane()
	if program == nil {
		lane.metrics.decided(stage, Accept)
		return Decision{Digest: p.s.digest}, nil
	}
	if d, ok := lane.known(ctx, p.s, stage, in); ok {
		return d, nil
	}
	d, err := e.decide(ctx, program, p.s, lane, in)
	if err != nil {
		lane.metrics.failed(stage)
		return Decision{}, err
	}
	lane.metrics.decided(stage, d.Action)
	return d, nil
}
