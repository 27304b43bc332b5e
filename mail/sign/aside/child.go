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

// inFlight is how many requests a child may have at a time. They fit the pipe,
// and so do the answers.
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
	slots      chan struct{} // one for each request in flight
	version    string        // of the library, once ready
	ready      chan struct{} // closed by its hello
	ended      chan struct{} // closed when no answer comes any more

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan<- answer // nil: ended
	cause error                    // why it ended
}

// answer is what came for a request.
type answer struct {
	kind kind
	body []byte
}

// sign asks for a signature. It takes no longer than the limit.
func (c *child) sign(k *key, digest []byte) ([]byte, error) {
	patience := time.NewTimer(c.limit)
	defer patience.Stop()
	select {
	case c.slots <- struct{}{}:
	case <-c.ended:
		return nil, errEnded
	case <-patience.C:
		return nil, errBusy
	}
	defer func() { <-c.slots }()
	a, err := c.ask(k, digest, false, patience.C)
	if err == nil && a.kind == kindUnknown {
		a, err = c.ask(k, digest, true, patience.C)
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

// ask sends one request and waits for its answer. A child that lets it wait too
// long is ended.
func (c *child) ask(k *key, digest []byte, again bool, late <-chan time.Time) (answer, error) {
	call := make(chan answer, 1)
	number, ok := c.expect(call)
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
		c.fail(errSlow)
		return answer{}, errSlow
	}
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

// expect gives a request its number; false if the child has ended.
func (c *child) expect(call chan<- answer) (number uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil || c.cause != nil {
		return 0, false
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
	if errors.Is(err, io.EOF) {
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
	c.mu.Unlock()
	if call == nil {
		return errors.New("the helper answered what was not asked")
	}
	call <- answer{f.kind, slices.Clone(f.body)}
	return nil
}
