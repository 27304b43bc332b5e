package load

import (
	"bytes"
	"context"
	"fmt"
	"net/mail"
	"strings"
	"testing"
	"time"

	"behalf/internal/testkit/cmd/bench/sink"
)

func server(t *testing.T) (*sink.Sink, *sink.Arrivals, Load) {
	t.Helper()
	a := sink.NewArrivals()
	s, err := sink.Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, a, Load{Addr: fmt.Sprintf("127.0.0.1:%d", s.Port()), Accounts: []Account{{From: "a@one.test"}, {From: "b@two.test"}}, Sessions: 4, Size: 4096}
}

// Each message of a run is sent once, in as many sessions as are asked for, in
// one batch after the other.
func TestCrew(t *testing.T) {
	_, a, l := server(t)
	for _, c := range []struct {
		each, size, recipients int
		rate                   float64
	}{{0, 4096, 1, 0}, {3, 600, 1, 0}, {0, 4096, 5, 0}, {0, 200_000, 1, 0}, {7, 1000, 1, 2000}} {
		l.Each, l.Size, l.Recipients = c.each, c.size, c.recipients
		crew := NewCrew(l)
		for range 2 {
			run := a.Open(60, c.recipients)
			sent, err := crew.Send(t.Context(), run, c.rate)
			if err != nil || sent.Accepted != 60 || run.Arrived() != 60 || run.Twice() != 0 {
				t.Fatalf("%+v: %d accepted, %d arrived, %d twice: %v", c, sent.Accepted, run.Arrived(), run.Twice(), err)
			}
			for i := range 60 {
				if sent.Took[i] <= 0 || run.Came(i) < sent.Began[i] {
					t.Errorf("%+v: message %d took %v and came at %d, begun at %d", c, i, sent.Took[i], run.Came(i), sent.Began[i])
				}
			}
			if least := time.Duration(59 / max(c.rate, 1e9) * float64(time.Second)); sent.Lasted < least {
				t.Errorf("%+v: %v is faster than the rate", c, sent.Lasted)
			}
			a.Close(run)
		}
		crew.Close()
	}
	if a.Stray() != 0 {
		t.Errorf("%d messages of no run", a.Stray())
	}
}

// At a rate messages begin when they are due, not when the one before was
// answered.
func TestPace(t *testing.T) {
	_, a, l := server(t)
	crew := NewCrew(l)
	defer crew.Close()
	sent, err := crew.Send(t.Context(), a.Open(20, 1), 100)
	if err != nil || sent.Lasted < 190*time.Millisecond {
		t.Fatalf("20 messages at 100 a second took %v: %v", sent.Lasted, err)
	}
	for i, began := range sent.Began {
		if due := sent.Start.Add(time.Duration(i) * 10 * time.Millisecond).UnixNano(); began != due {
			t.Errorf("message %d counts from %d, not from %d", i, began, due)
		}
	}
}

// A refusal ends the batch with what was said.
func TestRefusal(t *testing.T) {
	s, a, l := server(t)
	s.Set(sink.Defers)
	crew := NewCrew(l)
	defer crew.Close()
	_, err := crew.Send(t.Context(), a.Open(100, 1), 0)
	if err == nil || !strings.Contains(err.Error(), "451 4.3.2 not now instead of 250") {
		t.Errorf("the error is %v", err)
	}
}

// A server that says nothing is left when the caller wants to end.
func TestCancel(t *testing.T) {
	s, a, l := server(t)
	s.Set(sink.Hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	crew := NewCrew(l)
	defer crew.Close()
	if _, err := crew.Send(ctx, a.Open(10, 1), 0); err == nil {
		t.Error("no error")
	}
}

// A message has the size that was asked for, lines that end in CRLF, and its
// number where it is looked for.
func TestMessage(t *testing.T) {
	for _, size := range []int{1024, 4096, 65536} {
		h := newHead("billing@sender.test", "abc", time.Now())
		h.number(1234)
		whole := append(bytes.Clone(h.b), text(size-len(h.b))...)
		m, err := mail.ReadMessage(bytes.NewReader(whole))
		if err != nil || len(whole) != size || m.Header.Get("Message-ID") != "<abc.00001234@bench.test>" || m.Header.Get("List-Unsubscribe") != "<https://sender.test/u/abc/00001234>" {
			t.Errorf("%d octets, %v: %v", len(whole), m, err)
		}
		if n := bytes.Count(whole, []byte("\n")); n != bytes.Count(whole, []byte("\r\n")) || n != bytes.Count(whole, []byte("\r")) || bytes.Contains(whole, []byte("\n.")) {
			t.Error("a line does not end in CRLF, or begins with a dot")
		}
	}
}
