package smtpd

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// deadline is until when a session waits for its client. The connection knows a
// time that is no later, and is told anew only where it must be, as that costs
// more than to take a command; when its time comes too early, the rest is waited
// for.
type deadline struct {
	conn    net.Conn      // as accepted
	stopped chan struct{} // closed by stop

	mu       sync.Mutex
	limit    time.Time // of this wait
	told     time.Time // what the connection knows; zero: unknown
	waiting  bool      // for a command, or in a handshake: may be interrupted
	stopping bool
}

func newDeadline(conn net.Conn) *deadline {
	return &deadline{conn: conn, stopped: make(chan struct{})}
}

// wait begins to wait until limit. It fails when the wait may be interrupted and
// the server is stopping already.
func (d *deadline) wait(limit time.Time, interruptible bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = interruptible
	if d.stopping && d.waiting {
		return errClosing
	}
	d.limit = limit
	if !d.told.IsZero() && !d.told.After(limit) {
		return nil
	}
	return d.tell()
}

func (d *deadline) tell() error {
	d.told = d.limit
	return d.conn.SetReadDeadline(d.limit)
}

// waitAlone is wait for reads that do not ask early.
func (d *deadline) waitAlone(limit time.Time) error {
	d.forget()
	return d.wait(limit, true)
}

// forget is called when somebody else may have told the connection something.
func (d *deadline) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = time.Time{}
}

// early reports whether a read that failed with err is to be tried again,
// because there is time left.
func (d *deadline) early(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping && d.waiting || !time.Now().Before(d.limit) {
		return false
	}
	return d.tell() == nil
}

// waited ends the wait, which ended with err.
func (d *deadline) waited(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = false
	if !d.stopping {
		return err
	}
	d.told = time.Time{} // stop may have said something else
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errClosing
	}
	return err
}

// stop interrupts the wait, now or when one begins.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return
	}
	d.stopping = true
	close(d.stopped)
	if d.waiting {
		d.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// isStopping reports whether stop was called.
func (d *deadline) isStopping() bool {
	select {
	case <-d.stopped:
		return true
	default:
		return false
	}
}
