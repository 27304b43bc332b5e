// Package upstreamtest is what every upstream must do: one result for each
// recipient in order, whatever the peer does, soon after its context ended, and
// without a goroutine left behind.
package upstreamtest

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"behalf/mail"
	"behalf/upstream"
)

// Content is a message with everything that transport can spoil: dots that
// begin lines, an empty line at the end, a line of 998 octets.
const Content = "From: Anna <anna@a.test>\r\nTo: b@b.test\r\nSubject: dots\r\nMessage-ID: <1@a.test>\r\n\r\n" +
	".\r\n..\r\n.hidden\r\nfrom . here\r\n" + "x234567890x234567890x234567890x234567890x234567890\r\n\r\n"

// Mail is a rendered message for tests, and counts what is done with it.
type Mail struct {
	Data        string
	Eight, Wide bool  // needs 8BITMIME, SMTPUTF8
	Bad         error // of Prepare
	Cut         int   // octets after which WriteTo fails; 0: never
	OnPrepare   func()
	Prepared    atomic.Int32
	Written     atomic.Int32
}

// Size of the message.
func (m *Mail) Size() int64 { return int64(len(m.Data)) }

// EightBit as set.
func (m *Mail) EightBit() bool { return m.Eight }

// UTF8 as set.
func (m *Mail) UTF8() bool { return m.Wide }

// Prepare counts the call.
func (m *Mail) Prepare(context.Context) error {
	m.Prepared.Add(1)
	if m.OnPrepare != nil {
		m.OnPrepare()
	}
	return m.Bad
}

// WriteTo writes Data in two slices.
func (m *Mail) WriteTo(w io.Writer) (int64, error) {
	m.Written.Add(1)
	half := len(m.Data) / 2
	if m.Cut > 0 {
		n, err := io.WriteString(w, m.Data[:m.Cut])
		if err == nil {
			err = errors.New("the body cannot be read")
		}
		return int64(n), err
	}
	n, err := io.WriteString(w, m.Data[:half])
	if err != nil {
		return int64(n), err
	}
	k, err := io.WriteString(w, m.Data[half:])
	return int64(n + k), err
}

// Signed is a fixed signature.
func (m *Mail) Signed() []string { return []string{"d=a.test s=b1 a=rsa-sha256"} }

// Job is an attempt at m for recipients written "from>to"; a part left out is
// from@a.test. All recipients are of the domain b.test unless they say other.
func Job(m *Mail, pairs ...string) *upstream.Job {
	j := &upstream.Job{
		Message: &mail.Message{ID: mail.NewID(0, 7, time.Now()), Tenant: 7, Envelope: mail.Envelope{EnvID: "env+1", Ret: mail.RetHeaders}},
		Hop:     &mail.Hop{},
		Domain:  "b.test",
		Render:  func(context.Context, upstream.Caps) (upstream.Rendered, error) { return m, nil },
	}
	for i, p := range pairs {
		from, to, ok := strings.Cut(p, ">")
		if !ok {
			from, to = "from@a.test", p
		}
		j.To = append(j.To, upstream.Target{Index: i, To: address(to), From: address(from)})
	}
	return j
}

func address(s string) mail.Address {
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err) // the test itself is wrong
	}
	return a
}

// patience is for what takes no time but on a machine that is busy with other
// things. It is less than the time-outs that must not have been waited for.
const patience = 20 * time.Second

// NoLeaks fails the test if, once it is over and cleaned up, more goroutines run
// than at the call.
func NoLeaks(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if runtime.NumGoroutine() <= before {
				return
			}
		}
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines at the end, %d at the start:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
	})
}
