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

// bind makes the end of ctx interrupt whatever the session waits for. A session
// that was interrupted is not used again.
func (c *Client) bind(ctx context.Context) (unbind func()) {
	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(past) })
	ctxDone := ctx.Done()
	c.ended = func() bool {
		select {
		case <-ctxDone:
			return true
		default:
			return false
		}
	}
	return func() {
		if !stop() {
			c.broken = true
		}
	}
}

// deadline bounds what is read or written next. The look at ctx comes after, so
// that an interruption in between is not undone.
func (c *Client) deadline(d time.Duration) {
	c.raw.SetDeadline(time.Now().Add(d))
	if c.ended() {
		c.raw.SetDeadline(past)
	}
}

// readReply waits up to d for a reply. After an error the session is broken.
func (c *Client) readReply(d time.Duration) (Reply, error) {
	c.deadline(d)
	r, err := readReply(c.r)
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
	c.deadline(c.cfg.Wait.Greeting)
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.broken = true
		return Reply{}, err
	}
	return c.readReply(c.cfg.Wait.Greeting)
}

// blocks writes to the connection and gives each block its own time.
type blocks struct{ c *Client }

func (b blocks) Write(p []byte) (int, error) {
	b.c.deadline(b.c.cfg.Wait.Block)
	n, err := b.c.conn.Write(p)
	if err != nil {
		b.c.broken = true
	}
	return n, err
}

func (c *Client) borrow() {
	c.w = writeBuffers.Get().(*bufio.Writer)
	c.w.Reset(blocks{c})
}

func (c *Client) giveBack() {
	c.w.Reset(nil)
	writeBuffers.Put(c.w)
	c.w = nil
}

// alive reports whether an idle session looks usable: the server has neither
// closed it nor said anything, which between transactions can only be bad news.
func (c *Client) alive() bool {
	if c.broken || c.r.Buffered() > 0 {
		return false
	}
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = rc.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
	})
	return err == nil && quiet
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
