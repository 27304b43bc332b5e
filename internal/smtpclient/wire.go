package smtpclient

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// past is the deadline of what must end at once.
var past = time.Unix(1, 0)

// bind makes the end of ctx interrupt whatever the session waits for, until
// unbind.
func (c *Client) bind(ctx context.Context) {
	c.done = ctx.Done()
	c.unbound = context.AfterFunc(ctx, c.stop)
}

func (c *Client) interrupt() { c.raw.SetDeadline(past) }

// unbind ends bind. A session that was interrupted is not used again.
func (c *Client) unbind() {
	if !c.unbound() {
		c.broken = true
	}
	c.done, c.unbound = nil, nil
}

// ended reports whether the context of this use has.
func (c *Client) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// bound is a deadline for reading or writing. A new one costs as much as a small
// system call: one that differs from it by less than a sixteenth of the time
// that is given is left as it is.
type bound struct{ at time.Time }

// move reports whether the deadline must be set, and to when.
func (b *bound) move(d time.Duration) bool {
	at := time.Now().Add(d)
	if later := at.Sub(b.at); later >= 0 && later < d/16 {
		return false
	}
	b.at = at
	return true
}

// readWithin bounds what is read next. With TLS, reading may have to write. The
// look at the context comes after, so that an interruption in between is not
// undone.
func (c *Client) readWithin(d time.Duration) {
	switch {
	case !c.reading.move(d):
		return
	case c.conn == c.raw:
		c.raw.SetReadDeadline(c.reading.at)
	default:
		c.writing = c.reading
		c.raw.SetDeadline(c.reading.at)
	}
	if c.ended() {
		c.interrupt()
	}
}

// writeWithin bounds what is written next, likewise.
func (c *Client) writeWithin(d time.Duration) {
	if !c.writing.move(d) {
		return
	}
	c.raw.SetWriteDeadline(c.writing.at)
	if c.ended() {
		c.interrupt()
	}
}

// replies reads from the connection. The time for a reply begins when it is
// first waited for: what came together with the one before needs none.
type replies struct{ c *Client }

func (s replies) Read(p []byte) (int, error) {
	if s.c.w != nil && s.c.w.Buffered() == 0 {
		s.c.giveBack()
	}
	if d := s.c.patience; d > 0 {
		s.c.patience = 0
		s.c.readWithin(d)
	}
	return s.c.conn.Read(p)
}

// readReply waits up to d for a reply. After an error the session is broken.
func (c *Client) readReply(d time.Duration, known *phrases) (Reply, error) {
	c.patience = d
	r, err := readReply(c.r, known)
	if err != nil {
		c.broken = true
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Reply{}, err
	}
	c.last = r
	if r.Code == 421 {
		c.broken = true
	}
	return r, nil
}

// ask sends one command of the session's beginning and waits for its reply.
func (c *Client) ask(line string) (Reply, error) {
	c.writeWithin(c.cfg.Wait.Greeting)
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.broken = true
		return Reply{}, err
	}
	return c.readReply(c.cfg.Wait.Greeting, nil)
}

// blocks writes to the connection and gives each block its own time.
type blocks struct{ c *Client }

func (b blocks) Write(p []byte) (int, error) {
	b.c.writeWithin(b.c.cfg.Wait.Block)
	n, err := b.c.conn.Write(p)
	if err != nil {
		b.c.broken = true
	}
	return n, err
}

// out is the buffer for writing. Whoever has waited for a reply asks again: a
// session that waits has none.
func (c *Client) out() *bufio.Writer {
	if c.w == nil {
		c.w = writeBuffers.get()
		c.w.Reset(blocks{c})
	}
	return c.w
}

func (c *Client) giveBack() {
	if c.w == nil {
		return
	}
	writeBuffers.put(c.w)
	c.w = nil
}

// alive reports whether an idle session looks usable: the server has neither
// closed it nor said anything, which between transactions can only be bad news.
func (c *Client) alive() bool {
	if c.broken || c.r.Buffered() > 0 {
		return false
	}
	if c.peek.of == nil {
		sc, ok := c.raw.(syscall.Conn)
		if !ok {
			return true
		}
		rc, err := sc.SyscallConn()
		if err != nil {
			return false
		}
		c.peek.of, c.peek.do = rc, c.peek.look
	}
	c.peek.quiet = false
	return c.peek.of.Control(c.peek.do) == nil && c.peek.quiet
}

// peek looks whether there is anything to read.
type peek struct {
	of    syscall.RawConn
	do    func(fd uintptr)
	b     [1]byte
	quiet bool
}

func (p *peek) look(fd uintptr) {
	_, _, err := syscall.Recvfrom(int(fd), p.b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	p.quiet = err == syscall.EAGAIN
}

// tlsError is trouble with the protection of a session.
type tlsError struct {
	what string
	err  error
}

func (e *tlsError) Error() string {
	if e.err == nil {
		return e.what
	}
	return fmt.Sprintf("%s: %v", e.what, e.err)
}

func (e *tlsError) Unwrap() error { return e.err }

// timeout reports whether err is a deadline that passed.
func timeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}
