package aside

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// inFlight is how many requests a child may have at a time. Both sides always
// read, so that neither hangs when requests or answers do not fit a pipe.
const inFlight = 128

var (
	errFalse  = errors.New("the helper made a false RSA signature")
	errOther  = errors.New("the helper is of another version of this program")
	errSlow   = errors.New("the helper did not answer in time")
	errEnded  = errors.New("the helper has ended")
	errBusy   = errors.New("the helper has too much to do")
	errForgot = errors.New("the helper forgot a key at once")
)

// refusal is why a helper does not sign with a key.
type refusal string

func (r refusal) Error() string { return string(r) }

// child is a helper that runs.
type child struct {
	generation uint64
	limit      time.Duration // of a caller's wait
	out        outbox
	kill       func()
	slots      chan struct{} // one for each request in flight, whether its caller still waits or not
	version    string        // of the library, once ready
	ready      chan struct{} // closed by its hello
	ended      chan struct{} // closed when no answer comes any more

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan<- answer // nil: ended
	heard time.Time                // of the last answer, or when there was none to give
	cause error                    // why it ended
}

// answer is what came for a request.
type answer struct {
	kind kind
	body []byte
}

// sign asks for a signature. It takes no longer than the limit.
func (c *child) sign(k *key, digest []byte) ([]byte, error) {
	began := time.Now()
	patience := time.NewTimer(c.limit)
	defer patience.Stop()
	a, err := c.ask(k, digest, false, began, patience.C)
	if err == nil && a.kind == kindUnknown {
		a, err = c.ask(k, digest, true, began, patience.C)
	}
	switch {
	case err != nil:
		return nil, err
	case a.kind == kindSignature:
		return a.body, nil
	case a.kind == kindRefused:
		return nil, refusal(a.body)
	}
	return nil, errForgot
}

// ask waits for a slot, sends a request and waits for its answer. The request of
// a caller whose patience ends stays in flight.
func (c *child) ask(k *key, digest []byte, again bool, began time.Time, late <-chan time.Time) (answer, error) {
	select {
	case c.slots <- struct{}{}:
	case <-c.ended:
		return answer{}, errEnded
	case <-late:
		return answer{}, c.impatient(began)
	}
	call := make(chan answer, 1)
	number, ok := c.expect(call, began)
	if !ok {
		return answer{}, errEnded
	}
	k.request(c, number, digest, again)
	if err := c.out.flush(); err != nil {
		c.fail(notWritten(err))
	}
	select {
	case a, ok := <-call:
		if !ok {
			return answer{}, errEnded
		}
		return a, nil
	case <-late:
		return answer{}, c.impatient(began)
	}
}

// impatient tells a caller that began then why it got no signature in time. The
// child is ended only if nobody got an answer since: one that is slow serves others.
func (c *child) impatient(began time.Time) error {
	c.mu.Lock()
	stuck := len(c.calls) > 0 && !c.heard.After(began)
	c.mu.Unlock()
	if !stuck {
		return errBusy
	}
	c.fail(errSlow)
	return errSlow
}

// notWritten says what it means that a write failed.
func notWritten(err error) error {
	switch {
	case errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed):
		return errEnded
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	}
	return fmt.Errorf("write to the helper: %w", err)
}

// expect gives a request of a caller that waits since it began its number; false
// if the child has ended.
func (c *child) expect(call chan<- answer, began time.Time) (number uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil || c.cause != nil {
		return 0, false
	}
	if len(c.calls) == 0 && began.After(c.heard) {
		c.heard = began
	}
	c.last++
	c.calls[c.last] = call
	return c.last, true
}

// fail ends the child, for the first reason that is given.
func (c *child) fail(why error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = why
	}
	c.mu.Unlock()
	c.kill()
}

// read hands answers to those who wait until there are no more.
func (c *child) read(from io.Reader) {
	err := c.answers(&frames{from: from})
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		err = errEnded
	}
	c.fail(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		close(call)
	}
	c.calls = nil
	close(c.ended)
}

// answers reads the hello and then answers. It always ends with an error.
func (c *child) answers(from *frames) error {
	f, err := from.next()
	switch {
	case err != nil:
		return err
	case f.kind != kindHello && f.kind != kindNoLibrary || f.number != protocol:
		return errOther
	case f.kind == kindNoLibrary:
		return noLibrary(f.body)
	}
	c.version = string(f.body)
	close(c.ready)
	for {
		f, err := from.next()
		if err != nil {
			return err
		}
		if err := c.hand(f); err != nil {
			return err
		}
	}
}

// hand gives an answer to who waits for it.
func (c *child) hand(f frame) error {
	if f.kind != kindSignature && f.kind != kindRefused && f.kind != kindUnknown {
		return fmt.Errorf("the helper gave an answer of kind %q", byte(f.kind))
	}
	c.mu.Lock()
	call := c.calls[f.number]
	delete(c.calls, f.number)
	c.heard = time.Now()
	c.mu.Unlock()
	if call == nil {
		return errors.New("the helper answered what was not asked")
	}
	<-c.slots
	call <- answer{f.kind, slices.Clone(f.body)}
	return nil
}
