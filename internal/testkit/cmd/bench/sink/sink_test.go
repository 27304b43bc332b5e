package sink

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// A message is counted once for each of its recipients, however it is split, and
// a recipient that had it before is one that had it twice.
func TestArrivals(t *testing.T) {
	a := NewArrivals()
	r := a.Open(3, 2)
	take := func(number, recipients int) {
		a.took(fmt.Appendf(nil, "%s.%08d@bench.test", r.ID, number), recipients, false)
	}
	take(0, 2)
	take(1, 1)
	if r.Arrived() != 1 || r.Came(0) == 0 || r.Came(1) != 0 {
		t.Errorf("%d arrived, times %d, %d", r.Arrived(), r.Came(0), r.Came(1))
	}
	take(1, 1)
	take(0, 1)
	if r.Arrived() != 2 || r.Twice() != 1 || a.Stray() != 0 {
		t.Errorf("%d arrived, %d twice, %d stray", r.Arrived(), r.Twice(), a.Stray())
	}
	take(3, 1)
	a.took([]byte("other.1@bench.test"), 1, false)
	a.Close(r)
	take(2, 2)
	if a.Stray() != 3 || r.Arrived() != 2 {
		t.Errorf("%d stray, %d arrived", a.Stray(), r.Arrived())
	}
}

// A message ends with its final dot, wherever reads are cut.
func TestMessageEnds(t *testing.T) {
	for _, body := range []string{"", "a\r\n", "\r\n", "..\r\n", "x\r\n..\r\n\r\n", "\r\n.x\r\n", strings.Repeat("line\r\n", 10_000)} {
		in := "Message-Id: <a.1@b>\r\nDKIM-Signature: v=1\r\n\r\n" + body + ".\r\nQUIT\r\n"
		for name, cut := range map[string]io.Reader{"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
			r := bufio.NewReader(cut)
			id, signed, err := readHeader(r)
			if err != nil || string(id) != "a.1@b" || !signed {
				t.Errorf("%s: id %q, signed %v, %v", name, id, signed, err)
			}
			if err := skipBody(r); err != nil {
				t.Errorf("%s, %.10q: %v", name, body, err)
			}
			if rest, _ := r.ReadString('\n'); rest != "QUIT\r\n" {
				t.Errorf("%s: after %.10q comes %q", name, body, rest)
			}
		}
	}
}

// In each of its modes the server does to a client what it says.
func TestModes(t *testing.T) {
	a := NewArrivals()
	run := a.Open(1, 1)
	s, err := Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	burst := "EHLO a\r\nMAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n"
	message := "Message-ID: <" + run.ID + ".0@b>\r\n\r\ntext\r\n.\r\nQUIT\r\n"
	if got := talk(t, s, burst+message); !strings.HasSuffix(got, "354 go ahead\r\n250 2.0.0 taken\r\n221 2.0.0 bye\r\n") || run.Arrived() != 1 {
		t.Errorf("up: %q, %d arrived", got, run.Arrived())
	}
	s.Set(Defers)
	if got := talk(t, s, burst+"QUIT\r\n"); !strings.HasSuffix(got, "451 4.3.2 not now\r\n503 5.5.1 no recipients\r\n221 2.0.0 bye\r\n") {
		t.Errorf("defers: %q", got)
	}
	s.Set(Down)
	if got := talk(t, s, burst); got != "" {
		t.Errorf("down: %q", got)
	}
	s.Set(Hangs)
	c := dial(t, s)
	defer c.Close()
	if _, err := io.WriteString(c, burst); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { s.Set(Up) })
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("hangs: %q", got)
	}
}

func talk(t *testing.T, s *Sink, lines string) string {
	c := dial(t, s)
	defer c.Close()
	_, _ = io.WriteString(c, lines) // a server that is down has closed it
	got, _ := io.ReadAll(c)
	return string(got)
}

func dial(t *testing.T, s *Sink) net.Conn {
	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
