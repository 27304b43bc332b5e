package smtpd

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// idleBuffer is what a session holds while it waits for a command. Most
	// commands, and most bursts of them, fit.
	idleBuffer = 512
	// bulkBuffer is what it borrows for long commands and for messages.
	bulkBuffer = 64 << 10
	// maxCommand and maxAuthLine bound a line without its CRLF. RFC 5321 wants
	// 512 and more for extensions; tokens in AUTH are long.
	maxCommand  = 4 << 10
	maxAuthLine = bulkBuffer - 2
	// maxSkipped bounds what is read of a line that is too long, before the
	// connection is closed.
	maxSkipped = 1 << 20
	// maxPending is how many octets of replies wait for the end of a burst.
	maxPending = 4 << 10
)

var (
	errLineTooLong = errors.New("the line is too long")
	errBareLF      = errors.New("the line does not end in CRLF")
	errTooSlow     = errors.New("the client sends too slowly")
	errTooLate     = errors.New("the message took too long from MAIL to its end")
	errFlood       = errors.New("the line never ends")
)

// bulk lends buffers to sessions that are receiving something.
type bulk struct{ pool sync.Pool }

func newBulk() *bulk {
	return &bulk{sync.Pool{New: func() any { return new([bulkBuffer]byte) }}}
}

func (b *bulk) get() *[bulkBuffer]byte  { return b.pool.Get().(*[bulkBuffer]byte) }
func (b *bulk) put(p *[bulkBuffer]byte) { b.pool.Put(p) }

// wire is a connection with its buffers: what came and was not read yet, and
// replies that were not sent yet. Replies leave before any read that may block,
// so those to a pipelined burst leave together (RFC 2920, section 3.2).
type wire struct {
	net.Conn
	lend     *bulk
	big      *[bulkBuffer]byte
	in       []byte // small[:] or big[:]
	r, w     int    // in[r:w] is unread
	out      []byte
	reads    *deadline
	sendTime time.Duration // for one write
	sendBy   time.Time     // what the connection knows of that; zero: unknown
	err      error         // of a write; sticky
	received int64         // octets in all
	poisoned bool          // after a bare LF, up to the next CRLF
	small    [idleBuffer]byte
}

func newWire(c net.Conn, reads *deadline, lend *bulk, sendTime time.Duration) *wire {
	w := &wire{Conn: c, reads: reads, lend: lend, sendTime: sendTime}
	w.in = w.small[:]
	return w
}

// buffered reports whether the client has sent what was not read yet.
func (w *wire) buffered() bool { return w.r < w.w }

// relax gives the big buffer back when nothing is in it.
func (w *wire) relax() {
	if w.buffered() {
		return
	}
	w.r, w.w = 0, 0
	if w.big != nil {
		w.lend.put(w.big)
		w.big, w.in = nil, w.small[:]
	}
}

// release gives back all buffers; the wire is used no more.
func (w *wire) release() {
	w.r, w.w = 0, 0
	w.relax()
}

// grow changes to the big buffer.
func (w *wire) grow() {
	if w.big != nil {
		return
	}
	w.big = w.lend.get()
	w.w = copy(w.big[:], w.in[w.r:w.w])
	w.r, w.in = 0, w.big[:]
}

// room makes place behind what is unread, and reports whether there is any.
func (w *wire) room() bool {
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
	if w.w == len(w.in) {
		if w.big == nil {
			w.grow()
		} else if w.r > 0 {
			w.w = copy(w.in, w.in[w.r:w.w])
			w.r = 0
		}
	}
	return w.w < len(w.in)
}

// fill reads once. The caller has set the deadline of reads.
func (w *wire) fill() error {
	if err := w.flush(); err != nil {
		return err
	}
	if !w.room() {
		return errLineTooLong
	}
	for {
		n, err := w.Read(w.in[w.w:])
		w.w += n
		w.received += int64(n)
		if n > 0 {
			return nil // an error will come again
		}
		if !w.reads.early(err) {
			return err
		}
	}
}

// queued keeps what waits to be sent within its bound.
func (w *wire) queued() {
	if len(w.out) > maxPending {
		w.flush()
	}
}

// flush writes what was queued. Memory for many replies goes at once: a session
// that says nothing holds little.
func (w *wire) flush() error {
	if len(w.out) == 0 || w.err != nil {
		return w.err
	}
	w.armSend()
	_, w.err = w.Write(w.out)
	if w.out = w.out[:0]; cap(w.out) > maxPending/4 {
		w.out = nil
	}
	return w.err
}

// armSend sets the deadline of a write. One that leaves nearly as much time is
// left alone.
func (w *wire) armSend() {
	now := time.Now()
	if left := w.sendBy.Sub(now); left > w.sendTime || left < w.sendTime-w.sendTime/8 {
		w.sendBy = now.Add(w.sendTime)
		w.SetWriteDeadline(w.sendBy)
	}
}

// hasLine reports whether line needs to read nothing.
func (w *wire) hasLine() bool { return bytes.IndexByte(w.in[w.r:w.w], '\n') >= 0 }

// line reads one line of at most limit octets and returns it without its CRLF;
// it is valid until the next read. After errLineTooLong and errBareLF the
// session can go on: the offending line is gone. What follows a bare LF, up to
// the next CRLF, gives errBareLF too, so that nothing hidden behind one is run.
func (w *wire) line(limit int) ([]byte, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(w.in[w.r+seen:w.w], '\n'); i >= 0 {
			line := w.in[w.r : w.r+seen+i]
			w.r += seen + i + 1
			return w.ended(line, limit)
		}
		seen = w.w - w.r
		if seen > limit+1 {
			return nil, w.skip()
		}
		if err := w.fill(); err != nil {
			return nil, err
		}
	}
}

// ended judges a line that an LF has ended.
func (w *wire) ended(line []byte, limit int) ([]byte, error) {
	n := len(line) - 1
	if n < 0 || line[n] != '\r' {
		w.poisoned = true
		return nil, errBareLF
	}
	if w.poisoned {
		w.poisoned = false
		return nil, errBareLF
	}
	if n > limit {
		return nil, errLineTooLong
	}
	return line[:n], nil
}

// skip drops the rest of a line up to its CRLF.
func (w *wire) skip() error {
	cr := false
	for total := 0; total < maxSkipped; {
		for w.r < w.w {
			c := w.in[w.r]
			w.r++
			total++
			if cr && c == '\n' {
				return errLineTooLong
			}
			cr = c == '\r'
		}
		if err := w.fill(); err != nil {
			return err
		}
	}
	return errFlood
}

// pace bounds how long a message may take: a least rate over each window, and
// a total. It moves the connection's deadline once a window, not once a read.
type pace struct {
	window time.Duration
	least  int64 // octets a window
	until  time.Time
	got    int64
}

// fillPaced reads once while p allows.
func (w *wire) fillPaced(p *pace) error {
	for {
		before := w.received
		err := w.fill()
		p.got += w.received - before
		if err == nil || w.err != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if !time.Now().Before(p.until) {
			return errTooLate
		}
		if p.got < p.least {
			return errTooSlow
		}
		if err := w.arm(p); err != nil {
			return err
		}
	}
}

// arm begins a window.
func (w *wire) arm(p *pace) error {
	p.got = 0
	return w.reads.wait(earlier(time.Now().Add(p.window), p.until), false)
}

// sink takes a message in slices, which are good for the call only.
type sink interface{ take(p []byte) error }

// content reads dot-stuffed data to its end, giving the message to a sink in
// slices of the buffer. It returns with the whole message read, or with an
// error after which the connection is of no use.
func (w *wire) content(d *dots, p *pace, to sink) error {
	if err := w.arm(p); err != nil {
		return err
	}
	for {
		for w.buffered() {
			run, used, end := d.next(w.in[w.r:w.w])
			if len(run) > 0 {
				if bytes.IndexByte(run, 0) >= 0 {
					d.found(faultNUL)
				}
				if err := to.take(run); err != nil {
					return err
				}
			}
			w.r += used
			if end {
				return nil
			}
			if used == 0 {
				break
			}
		}
		w.grow()
		if err := w.fillPaced(p); err != nil {
			return err
		}
	}
}

// octets reads exactly n octets and gives them to a sink.
func (w *wire) octets(n int64, p *pace, to sink) error {
	if err := w.arm(p); err != nil {
		return err
	}
	for n > 0 {
		if !w.buffered() {
			w.grow()
			if err := w.fillPaced(p); err != nil {
				return err
			}
		}
		run := w.in[w.r:min(w.w, w.r+int(min(n, bulkBuffer)))]
		if err := to.take(run); err != nil {
			return err
		}
		w.r += len(run)
		n -= int64(len(run))
	}
	return nil
}
