package policy

import (
	"context"
	"errors"
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
	// one message together; default 20,000. More is an error.
	MaxInput int
	Log      *slog.Logger          // default: nowhere
	Metrics  prometheus.Registerer // default: nowhere
}

// Engine asks the policy set in force. Its methods may be called from many
// goroutines.
type Engine struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	turns   chan struct{}
	set     atomic.Pointer[set]

	mu     sync.Mutex // guards what follows
	status Status
}

// Status tells which set is in force and whether a newer one could not be.
type Status struct {
	Digest  string    // of the set in force
	Loaded  time.Time // when it came into force
	Default bool      // it is the built-in one
	Err     error     // why the folder as it is now is not in force; nil when it is
	Since   time.Time // since when Err stands
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
	e := &Engine{o: o, log: o.Log, turns: make(chan struct{}, o.Concurrency)}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if e.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("policy metrics: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, isDefault, err := openFolder(o.Path, o.Defaults)
	if err == nil && dir == nil {
		err = errors.New("neither a folder nor defaults are given")
	}
	if err == nil {
		err = e.load(dir, isDefault)
	}
	if err != nil {
		return nil, fmt.Errorf("loading policies: %w", err)
	}
	return e, nil
}

// load compiles what is in dir and puts it in force.
func (e *Engine) load(dir fs.FS, isDefault bool) error {
	src, err := readSource(dir)
	if err != nil {
		return err
	}
	return e.install(src, isDefault)
}

// install compiles a set aside and swaps it in.
func (e *Engine) install(src *source, isDefault bool) error {
	s, problems := compile(src)
	if len(problems) > 0 {
		return problems
	}
	e.set.Store(s)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = Status{Digest: s.digest, Loaded: s.loaded, Default: isDefault}
	e.log.Info("policies loaded", "digest", s.digest, "files", len(s.modules), "default", isDefault)
	return nil
}

// Status tells which set is in force.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

// Pinned is the engine with one policy set held fast, so that all stages of a
// transaction are judged by the same set and by the facts that it needs.
type Pinned struct {
	e *Engine
	s *set
}

// Pin holds the set that is in force now.
func (e *Engine) Pin() Pinned { return Pinned{e, e.set.Load()} }

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

// Needs tells which costly facts the set refers to; nobody has to find out the
// others.
func (p Pinned) Needs() Needs { return p.s.needs }

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

// Message asks the message stage. An error is no decision: answer 451 4.3.0.
func (p Pinned) Message(ctx context.Context, in *MessageInput) (Decision, error) {
	m := &in.Message
	if n := len(m.Headers) + len(m.Attachments) + len(m.URLHosts) + len(in.Candidates); n > p.e.o.MaxInput {
		p.e.metrics.failed(stageMessage)
		return Decision{}, fmt.Errorf("policy %s: the message has %d header fields, attachments and hosts; the bound is %d", PackageMessage, n, p.e.o.MaxInput)
	}
	in.stamp()
	return p.ask(ctx, stageMessage, in)
}

func (in *SenderInput) common() *SenderInput { return in }

func (in *SenderInput) stamp() {
	if in.Time == 0 {
		in.Time = time.Now().UnixNano()
	}
}

// ask evaluates one stage. A stage without rules accepts at no cost.
func (p Pinned) ask(ctx context.Context, stage int, in input) (Decision, error) {
	e, program := p.e, p.s.stages[stage]
	if program == nil {
		e.metrics.decided(stage, Accept)
		return Decision{Digest: p.s.digest}, nil
	}
	select {
	case e.turns <- struct{}{}:
		defer func() { <-e.turns }()
	case <-ctx.Done():
		e.metrics.failed(stage)
		return Decision{}, fmt.Errorf("policy %s: waiting for a turn: %w", stages()[stage].name, ctx.Err())
	}
	start := time.Now()
	term := in.term(program.fields)
	d, err := program.evaluate(ctx, p.s, e.o.Deadline, term, nil)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		d, err = program.evaluate(ctx, p.s, 4*e.o.Deadline, term, nil)
	}
	e.metrics.took(stage, time.Since(start))
	if err != nil {
		e.metrics.failed(stage)
		return Decision{}, err
	}
	e.metrics.decided(stage, d.Action)
	return d, nil
}
