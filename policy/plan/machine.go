package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// The bounds of one evaluation besides the clock.
const (
	// MaxSteps is how many statements may run.
	MaxSteps = 4_000_000
	// MaxBuilt is how many bytes of values may be made, by estimate.
	MaxBuilt = 64 << 20
	// MaxText is the longest text that a built-in function is given or gives.
	MaxText = 1 << 20
)

// A Limit is an evaluation that came to a bound which does not depend on the
// machine: the same question comes to it again. What says what the policy does,
// as in "takes more than 10 steps".
type Limit struct{ What string }

func (l *Limit) Error() string { return "it " + l.What }

// A Fault is a built-in function that failed, or two values where there may be
// one. OPA may be of another opinion, see the package comment.
type Fault struct {
	At  string // file and line; empty: unknown
	Err error
}

func (f *Fault) Error() string {
	if f.At == "" {
		return f.Err.Error()
	}
	return f.At + ": " + f.Err.Error()
}

func (f *Fault) Unwrap() error { return f.Err }

// Question is what a program is asked.
type Question struct {
	Input, Data *ast.Term
	Deadline    time.Duration // of this evaluation; 0: none
}

// machines keeps machines for the next evaluations.
type machines struct{ sync.Pool }

// machine runs one evaluation at a time.
type machine struct {
	p     *Program
	ctx   context.Context
	start time.Time
	q     Question

	stack   []*ast.Term // variables of the calls under way
	top     int
	memo    []remembered
	owned   map[ast.Value]struct{} // see facts.owns
	answers []*ast.Term
	value   *ast.Term // what the function that just ended gave

	steps  int // left until the clock is looked at
	rounds int // how often it was
	built  int
	err    error // ends the evaluation
	fault  *Fault

	context topdown.BuiltinContext
	timer   *time.Timer
	args    []*ast.Term
	got     []*ast.Term // what the built-in function gave
	take    func(*ast.Term) error
}

// remembered is the value of a pure function.
type remembered struct {
	input, data, value *ast.Term
	known              bool
}

// look is how many statements run between looks at the clock.
const look = 1024

// Eval evaluates all entry points into out, which has their number; nil there:
// undefined, and then all of them are. It fails with a [*Limit], a [*Fault], an error that wraps
// context.DeadlineExceeded when q.Deadline passed, or the context's.
func (p *Program) Eval(ctx context.Context, q Question, out []*ast.Term) (err error) {
	m, _ := p.pool.Get().(*machine)
	if m == nil {
		m = &machine{p: p, stack: make([]*ast.Term, 512), memo: make([]remembered, len(p.functions))}
		m.take = func(t *ast.Term) error {
			m.got = append(m.got, t)
			m.build(16)
			return m.err
		}
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			return // the machine is not used again
		}
		m.reset()
		p.pool.Put(m)
	}()
	m.ctx, m.q, m.answers, m.steps = ctx, q, out, look
	if q.Deadline > 0 {
		m.start = time.Now()
	}
	clear(out)
	if err := ctx.Err(); err != nil {
		return err
	}
	f := m.frame(p.entry.vars)
	f[0], f[1] = q.Input, q.Data
	m.body(p.entry.body, f)
	m.drop(f)
	if m.err != nil {
		return m.err
	}
	if m.fault != nil {
		return m.fault
	}
	return nil
}

func (m *machine) reset() {
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	clear(m.memo)
	clear(m.owned)
	clear(m.args[:cap(m.args)])
	clear(m.got[:cap(m.got)])
	m.rounds, m.built = 0, 0
	m.ctx, m.q, m.answers, m.value, m.err, m.fault = nil, Question{}, nil, nil, nil, nil
	m.context = topdown.BuiltinContext{}
}

// frame takes room for n variables, all undefined: the stack above top is clear.
func (m *machine) frame(n int) []*ast.Term {
	if m.top+n > len(m.stack) {
		// Frames in use keep the old stack.
		m.stack = make([]*ast.Term, 2*(m.top+n))
	}
	f := m.stack[m.top : m.top+n : m.top+n]
	m.top += n
	return f
}

// drop gives back the frame taken last.
func (m *machine) drop(f []*ast.Term) {
	clear(f)
	m.top -= len(f)
}

// body runs a function's blocks.
func (m *machine) body(blocks []block, f []*ast.Term) {
	m.value = nil
	for i := range blocks {
		if s := m.run(blocks[i], f); s >= returned {
			return
		}
	}
}

// call runs a function and gives its value, nil when it is undefined.
func (m *machine) call(fn *function, args []int32, from []*ast.Term) *ast.Term {
	var r *remembered
	if fn.pure {
		r = &m.memo[fn.index]
		if r.known && r.input == m.get(from, args[0]) && r.data == m.get(from, args[1]) {
			return r.value
		}
	}
	f := m.frame(fn.vars)
	for i, l := range fn.params {
		f[l] = m.get(from, args[i])
	}
	m.body(fn.body, f)
	m.drop(f)
	value := m.value
	if r != nil && m.err == nil {
		*r = remembered{input: m.get(from, args[0]), data: m.get(from, args[1]), value: value, known: true}
	}
	return value
}

// tick looks at the clock, the context and the number of steps.
func (m *machine) tick() bool {
	m.steps = look
	m.rounds++
	if m.rounds*look > MaxSteps {
		m.err = &Limit{fmt.Sprintf("takes more than %d steps", MaxSteps)}
	} else if err := m.ctx.Err(); err != nil {
		m.err = err
	} else if m.q.Deadline > 0 && time.Since(m.start) > m.q.Deadline {
		m.err = fmt.Errorf("it took longer than %v: %w", m.q.Deadline, context.DeadlineExceeded)
	}
	return m.err == nil
}

// build counts n bytes that are made.
func (m *machine) build(n int) bool {
	if m.built += n; m.built > MaxBuilt && m.err == nil {
		m.err = &Limit{fmt.Sprintf("builds more than %d MiB", MaxBuilt>>20)}
	}
	return m.err == nil
}

// fail notes the first fault.
func (m *machine) fail(at *ast.Location, err error) {
	if m.fault == nil {
		m.fault = &Fault{Err: err}
		if at != nil && at.File != "" {
			m.fault.At = fmt.Sprintf("%s:%d", at.File, at.Row)
		}
	}
}

var errConflict = errors.New("there are two values where there may be one")

// prepare makes the context of built-in functions, the first time one needs it.
func (m *machine) prepare() {
	if m.context.Cancel != nil {
		return
	}
	cancel := topdown.NewCancel()
	m.context = topdown.BuiltinContext{Context: m.ctx, Metrics: metrics.NoOp(), Cancel: cancel,
		Time:  ast.NumberTerm(json.Number(strconv.FormatInt(time.Now().UnixNano(), 10))),
		Cache: builtins.Cache{}, Capabilities: m.p.capabilities}
	if m.q.Deadline > 0 {
		m.timer = time.AfterFunc(max(0, m.q.Deadline-time.Since(m.start)), cancel.Cancel)
	}
}
