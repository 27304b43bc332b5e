package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// ErrFailed is returned by everything after a commit whose outcome is unknown.
var ErrFailed = errors.New("kv: a commit failed, its outcome is unknown; the process must end and recover")

var errStale = errors.New("kv: the writer was used after its function had returned")

const (
	queueLength = 1024                 // calls that wait before Update and Go block
	linger      = 2 * time.Millisecond // how long functions of Go wait for company
)

// Base is one state of an engine, held for reading.
type Base interface {
	// Get gives the value of key, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Release ends the use of the state.
	Release()
}

// Engine is what a Committer stands on.
type Engine interface {
	// Hold gives the state after the last Apply that returned; it does not
	// wait. It is never called while an Apply is under way.
	Hold() Base
	// Apply writes the rows, one a key, all or none, and returns nil when they
	// are on stable storage and later readers see them. Any error means that
	// the outcome is unknown. There is only one Apply at a time. The keys and
	// values are the engine's to keep, the slices are not. What the rows need
	// must be stable too when Apply returns nil, and the rows may survive a crash
	// only if it does: an engine waits for it first, or finds out afterwards.
	Apply(rows []Row, needs []Durable) error
}

// Limits are what one Apply can take.
type Limits struct {
	Rows     int
	Bytes    int64    // keys, values and 32 bytes a row
	Reserved [][]byte // keys with one of these prefixes are the engine's own
}

func (l *Limits) fits(rows int, bytes int64) bool { return rows <= l.Rows && bytes <= l.Bytes }

func (l *Limits) reserved(key []byte) bool {
	for _, prefix := range l.Reserved {
		if bytes.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// Committer merges the functions of many callers into few commits of an
// engine. It is the part of Store that all engines share.
//
// One goroutine runs the functions, in the order in which they came, each into
// an overlay of its own that is merged into the batch when the function
// succeeds. A second one syncs. While a batch is synced, the functions of the
// next are run over it already, and the next batch leaves as soon as the sync
// is done. So functions read what is not yet stable, and therefore nobody is
// told any outcome, an error too, before all that his function could have read
// is stable. When a sync fails, everything after it fails as well.
type Committer struct {
	engine Engine
	limits Limits

	intake  sync.RWMutex // held for reading while a call is put in the queue
	closing chan struct{}
	close   sync.Once
	closed  bool // under intake
	queue   chan *call
	ended   chan struct{} // both goroutines are gone

	failed   chan struct{}
	failOnce sync.Once
	cause    error // set before failed is closed

	work   chan *batch   // to the syncing goroutine, one at a time
	synced chan struct{} // from it

	// What follows belongs to the goroutine that runs the functions.
	batch    *batch
	spare    *batch // empty, to be used again
	carry    *call  // ran, but its rows go into the next batch
	writer   *overlay
	base     Base
	syncing  *batch
	timer    *time.Timer
	lingered bool
}

// batch is functions that have run, and what they wrote.
type batch struct {
	rows   rows
	needs  []Durable
	calls  []*call
	urgent bool // somebody waits
	sealed bool
}

func (b *batch) reset() {
	b.rows.reset()
	clear(b.calls)
	clear(b.needs)
	*b = batch{rows: b.rows, needs: b.needs[:0], calls: b.calls[:0]}
}

// States of a call.
const (
	waiting int32 = iota
	started
	dropped
)

// call is one function on its way.
type call struct {
	fn    func(Writer) error
	done  func(error) // of Go; nil for Update
	reply chan error  // of Update
	state atomic.Int32
	err   error
}

// NewCommitter starts the two goroutines; Close ends them.
func NewCommitter(e Engine, l Limits) *Committer {
	c := &Committer{
		engine: e, limits: l,
		closing: make(chan struct{}),
		queue:   make(chan *call, queueLength),
		ended:   make(chan struct{}),
		failed:  make(chan struct{}),
		work:    make(chan *batch, 1),
		synced:  make(chan struct{}, 1),
		batch:   &batch{},
		timer:   time.NewTimer(time.Hour),
	}
	c.timer.Stop()
	c.writer = &overlay{limits: &c.limits}
	syncer := make(chan struct{})
	go func() {
		defer close(syncer)
		c.syncAll()
	}()
	go func() {
		defer close(c.ended)
		defer func() { <-syncer }()
		defer close(c.work)
		c.run()
	}()
	return c
}

// Update is Store.Update.
func (c *Committer) Update(ctx context.Context, fn func(Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	call := &call{fn: fn, reply: make(chan error, 1)}
	if err := c.enqueue(ctx, call); err != nil {
		return err
	}
	select {
	case err := <-call.reply:
		return err
	case <-ctx.Done():
		if call.state.CompareAndSwap(waiting, dropped) {
			return ctx.Err()
		}
		return <-call.reply
	}
}

// Go is Store.Go.
func (c *Committer) Go(fn func(Writer) error, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	if err := c.enqueue(context.Background(), &call{fn: fn, done: done}); err != nil {
		done(err)
	}
}

// Failed is Store.Failed.
func (c *Committer) Failed() <-chan struct{} { return c.failed }

// Fail says that the engine broke: nothing is committed any more.
func (c *Committer) Fail(err error) {
	c.failOnce.Do(func() {
		c.cause = err
		close(c.failed)
	})
}

// Err is nil, or why the committer failed.
func (c *Committer) Err() error {
	select {
	case <-c.failed:
		return fmt.Errorf("%w: %w", ErrFailed, c.cause)
	default:
		return nil
	}
}

// Close commits what was queued before it and ends the goroutines. Callers that
// still wait for room in the queue get ErrClosed.
func (c *Committer) Close() {
	c.shut()
	<-c.ended
}

func (c *Committer) shut() {
	c.close.Do(func() {
		close(c.closing) // sends away those who wait for room
		c.intake.Lock()
		defer c.intake.Unlock()
		c.closed = true
		close(c.queue)
	})
}

// enqueue puts a call in the queue, waiting for room. Nothing is sent once the
// queue is closed, so no call is ever forgotten in it.
func (c *Committer) enqueue(ctx context.Context, call *call) error {
	if err := c.Err(); err != nil {
		return err
	}
	c.intake.RLock()
	defer c.intake.RUnlock()
	if c.closed {
		return ErrClosed
	}
	select {
	case c.queue <- call:
		return nil
	default:
	}
	select {
	case c.queue <- call:
		return nil
	case <-c.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run takes calls until the queue is closed and everything is handed over.
func (c *Committer) run() {
	clean := false
	defer func() {
		if !clean { // a function ended our goroutine (runtime.Goexit)
			c.abandon()
		}
	}()
	queue := c.queue
	for queue != nil || len(c.batch.calls) > 0 || c.carry != nil || c.syncing != nil {
		intake := queue
		if c.batch.sealed {
			intake = nil
		}
		select {
		case call, ok := <-intake:
			if !ok {
				queue, c.batch.urgent = nil, true
				break
			}
			c.take(call)
		case <-c.synced:
			c.afterSync()
		case <-c.timer.C:
			c.lingered = true
		}
		if !c.drain(queue) {
			queue, c.batch.urgent = nil, true
		}
		if c.due() {
			c.handOver()
		}
		if queue == nil {
			c.batch.urgent = true
		}
	}
	c.releaseBase()
	clean = true
}

// drain takes what is at hand without waiting; false means that the queue is
// closed.
func (c *Committer) drain(queue chan *call) bool {
	for yielded := false; queue != nil && !c.batch.sealed; {
		select {
		case call, ok := <-queue:
			if !ok {
				return false
			}
			c.take(call)
		default:
			// Callers that were answered a moment ago get the processor once, so
			// that they come along instead of waiting for the next sync.
			if yielded || c.syncing != nil || len(c.batch.calls) == 0 {
				return true
			}
			yielded = true
			runtime.Gosched()
		}
	}
	return true
}

func (c *Committer) due() bool {
	b := c.batch
	return c.syncing == nil && len(b.calls) > 0 && (b.urgent || b.sealed || c.lingered)
}

// take runs one function and merges what it wrote.
func (c *Committer) take(call *call) {
	if !call.state.CompareAndSwap(waiting, started) {
		return
	}
	if c.base == nil {
		c.base = c.engine.Hold()
	}
	call.err = c.try(call.fn)
	if call.err == nil && !c.room() {
		c.carry, c.batch.sealed = call, true
		return
	}
	if call.err == nil {
		c.merge()
	}
	c.join(call)
}

// merge moves what a function wrote into the batch.
func (c *Committer) merge() {
	c.batch.rows.merge(&c.writer.own)
	c.batch.needs = append(c.batch.needs, c.writer.needs...)
	c.writer.reset()
}

// room reports whether the overlay fits into the batch.
func (c *Committer) room() bool {
	own, all := &c.writer.own, &c.batch.rows
	return len(all.list) == 0 || c.limits.fits(len(own.list)+len(all.list), own.bytes+all.bytes)
}

func (c *Committer) join(call *call) {
	b := c.batch
	b.calls = append(b.calls, call)
	if call.done == nil {
		b.urgent = true
	} else if len(b.calls) == 1 {
		c.timer.Reset(linger)
	}
	// Sealed at half of the limits, so that a function nearly always finds room.
	b.sealed = len(b.rows.list) >= c.limits.Rows/2 || b.rows.bytes >= c.limits.Bytes/2
}

// try runs fn into the overlay; a panic becomes an error.
func (c *Committer) try(fn func(Writer) error) (err error) {
	w := c.writer
	w.reset()
	w.batch, w.synced, w.base, w.err, w.used = &c.batch.rows, nil, c.base, nil, true
	if c.syncing != nil {
		w.synced = &c.syncing.rows
	}
	defer func() {
		w.used = false
		if r := recover(); r != nil {
			err = fmt.Errorf("kv: a transaction panicked: %v\n%s", r, debug.Stack())
		}
	}()
	if err := fn(w); err != nil {
		return err
	}
	return w.err
}

// handOver gives the batch to the syncing goroutine, which is idle. Until the
// sync is done, functions stand on the state before it and the rows in it.
func (c *Committer) handOver() {
	c.releaseBase()
	c.base = c.engine.Hold()
	c.syncing, c.batch = c.batch, c.emptyBatch()
	c.lingered = false
	c.timer.Stop()
	c.work <- c.syncing
	if call := c.carry; call != nil {
		c.carry = nil
		c.merge()
		c.join(call)
	}
}

// afterSync moves the base on to the state that was synced, when next needed.
func (c *Committer) afterSync() {
	c.releaseBase()
	c.syncing.reset()
	c.syncing, c.spare = nil, c.syncing
}

func (c *Committer) emptyBatch() *batch {
	if b := c.spare; b != nil {
		c.spare = nil
		return b
	}
	return &batch{}
}

func (c *Committer) releaseBase() {
	if c.base != nil {
		c.base.Release()
		c.base = nil
	}
}

// syncAll commits batch after batch and tells the callers.
func (c *Committer) syncAll() {
	for b := range c.work {
		err := c.Err()
		if err == nil && (len(b.rows.list) > 0 || len(b.needs) > 0) {
			if cause := c.engine.Apply(b.rows.list, b.needs); cause != nil {
				c.Fail(cause)
				err = c.Err()
			}
		}
		answer(b.calls, err)
		c.synced <- struct{}{}
	}
}

// Await waits for what rows need; an engine that cannot tell after a crash
// whether it was there calls it first.
func Await(needs []Durable) error {
	for _, d := range needs {
		if err := d.Wait(); err != nil {
			return fmt.Errorf("wait for what the rows need: %w", err)
		}
	}
	return nil
}

func answer(calls []*call, err error) {
	for _, c := range calls {
		outcome := c.err
		if err != nil {
			outcome = err
		}
		if c.done != nil {
			c.done(outcome)
		} else {
			c.reply <- outcome
		}
	}
}

// abandon fails everybody: the goroutine that runs functions was ended by one.
func (c *Committer) abandon() {
	c.Fail(errors.New("a transaction ended the goroutine of the committer"))
	c.shut()
	if c.syncing != nil {
		<-c.synced
	}
	err := c.Err()
	answer(c.batch.calls, err)
	if c.carry != nil {
		answer([]*call{c.carry}, err)
	}
	for late := range c.queue {
		if late.state.CompareAndSwap(waiting, started) {
			answer([]*call{late}, err)
		}
	}
	c.releaseBase()
}
