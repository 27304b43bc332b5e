package api

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"behalf/mail"
)

// Requests in JSON pay for memory as their octets come. When there is no more,
// the next is sent away after a while, and what has ended is given back.
func TestReadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &API{memory: semaphore.NewWeighted(8 * jsonStep)}
		large := strings.Repeat("x", 3*jsonStep) // four steps, the last of them for the end
		text, done, err := a.read(t.Context(), strings.NewReader(large))
		if err != nil || text != large {
			t.Fatalf("%d octets, %v", len(text), err)
		}
		began := time.Now()
		_, none, err := a.read(t.Context(), strings.NewReader("{}"))
		none()
		var f *mail.Failure
		if !errors.As(err, &f) || f.Reason != mail.ReasonRate || f.RetryAfter == 0 || time.Since(began) != jsonWait {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.AfterFunc(time.Second, done)
		if _, again, err := a.read(t.Context(), strings.NewReader(large)); err != nil {
			t.Error(err)
		} else {
			again()
		}
		// A client that goes away gives back what it held.
		_, gone, err := a.read(t.Context(), io.MultiReader(strings.NewReader(large), brokenReader{}))
		gone()
		if !errors.Is(err, io.ErrUnexpectedEOF) || !a.memory.TryAcquire(8*jsonStep) {
			t.Errorf("%v; memory is not given back", err)
		}
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestPeekFrom(t *testing.T) {
	const long = "Subject: a\n"
	for _, c := range []struct{ in, from string }{
		{"From: a@b.example\n\nx", "a@b.example"},
		{"From: a@b.example\r\n\r\nFrom: c@d.example\r\n\r\n", "a@b.example"},
		{"From: A\n <a@b.example>\n\n", "a@b.example"},
		{"From: a@b.example", "a@b.example"},
		{strings.Repeat(long, 900) + "From: a@b.example\n\nx", "a@b.example"},
		{"Subject: x\n\nFrom: a@b.example\n\n", ""},
		{"", ""},
		{"\n\n", ""},
		{"From: a@b.example, c@d.example\n\n", ""},
	} {
		for _, r := range []io.Reader{strings.NewReader(c.in), oneByOne{strings.NewReader(c.in)}} {
			whole, from, err := peekFrom(r)
			if (err == nil) != (c.from != "") || from.String() != c.from && err == nil {
				t.Errorf("%.60q: %s %v", c.in, from, err)
				continue
			}
			if err != nil {
				continue
			}
			if got, err := io.ReadAll(whole); err != nil || string(got) != c.in {
				t.Errorf("%.60q: read again as %.60q, %v", c.in, got, err)
			}
		}
	}
}

// oneByOne gives an octet at a time.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }
