package smtpclient

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
)

// slow is a server that takes its time. All that it says of an envelope comes at
// once.
func slow(conn net.Conn, greeting, envelope, final time.Duration) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	time.Sleep(greeting)
	io.WriteString(conn, "220 slow.test\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch line[:4] {
		case "EHLO":
			io.WriteString(conn, "250-slow.test\r\n250 PIPELINING\r\n")
		case "DATA":
			time.Sleep(envelope)
			io.WriteString(conn, "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n")
			for line != ".\r\n" {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			time.Sleep(final)
			io.WriteString(conn, "250 2.0.0 taken\r\n")
		}
	}
}

// Each step has its time in full, whatever the steps and the transactions before
// it took, and no step has more than that.
func TestEachStepHasItsTime(t *testing.T) {
	wait := Timeouts{Greeting: 10 * time.Second, Command: 16 * time.Second, Block: 20 * time.Second, Final: 32 * time.Second}
	for name, c := range map[string]struct {
		greeting, envelope, final, rest time.Duration
		sent                            int
	}{
		"in time":              {greeting: 9 * time.Second, envelope: 14 * time.Second, final: 29 * time.Second, sent: 5},
		"in time, with rests":  {envelope: 14 * time.Second, final: 29 * time.Second, rest: 15 * time.Second, sent: 5},
		"back to back":         {envelope: time.Millisecond, final: time.Millisecond, sent: 5},
		"envelope too slow":    {envelope: 17 * time.Second},
		"final reply too slow": {final: 33 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				var server sync.WaitGroup
				defer server.Wait()
				server.Go(func() { slow(far, c.greeting, c.envelope, c.final) })
				cl, err := Open(t.Context(), near, Config{Peer: SmartHost, Host: "slow.test", Hello: "us.test", Wait: wait})
				if err != nil {
					t.Fatal(err)
				}
				defer cl.Close()
				for n := range 5 {
					began := time.Now()
					txn := []Transaction{{From: mail.Address{Local: "a", Domain: "a.test"}, To: []Rcpt{{To: mail.Address{Local: "b", Domain: "b.test"}}}}}
					cl.Send(t.Context(), Envelope{}, text(strings.Repeat("x\r\n", 10)), txn)
					took := time.Since(began)
					if f := txn[0].Answers[0].Failure; (f == nil) != (n < c.sent) {
						t.Errorf("transaction %d: %v after %v", n, f, took)
					}
					if c.sent == 0 {
						limit := wait.Command
						if c.final > 0 {
							limit = wait.Final
						}
						if took > limit || took < limit*15/16 {
							t.Errorf("gave up after %v of %v", took, limit)
						}
						return
					}
					time.Sleep(c.rest)
				}
			})
		})
	}
}

// What a server repeats is kept once; what it says once does not push that out
// of a session for ever, and nothing is taken for something else.
func TestPhrases(t *testing.T) {
	var p phrases
	for range 3 {
		for _, s := range []string{"250 2.1.0 Ok", "250 2.1.5 Ok", "354 go", "250 2.1.0 Ok", "", "250 b\tc", strings.Repeat("x", maxPhrase+1)} {
			if got := p.text([]byte(s)); got != clean([]byte(s)) {
				t.Errorf("%q became %q", s, got)
			}
		}
	}
	line := []byte("250 2.1.5 Ok")
	p.text(line)
	if n := testing.AllocsPerRun(100, func() { p.text(line) }); n != 0 {
		t.Errorf("%v allocations for a line that is known", n)
	}
}

// watched calls waits whenever something is awaited of the server.
type watched struct {
	net.Conn
	waits func()
}

func (w *watched) Read(p []byte) (int, error) {
	w.waits()
	return w.Conn.Read(p)
}

// However a server makes a session wait, the session keeps no buffer for writing.
func TestNoBufferWhileWaiting(t *testing.T) {
	for _, ext := range [][]string{{"PIPELINING"}, {"8BITMIME"}} {
		t.Run(ext[0], func(t *testing.T) {
			peer := smtppeer.Start(t, smtppeer.Options{Ext: ext})
			near, err := net.Dial("tcp", peer.AddrPort.String())
			if err != nil {
				t.Fatal(err)
			}
			conn := &watched{near, func() {}}
			cl, err := Open(t.Context(), conn, Config{Host: "b.test", Hello: "us.test"})
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			waits := 0
			conn.waits = func() {
				if waits++; cl.w != nil {
					t.Error("it has one")
				}
			}
			txns := []Transaction{txn("a@a.test", "1@b.test"), txn("b@a.test", "2@b.test")}
			cl.Send(t.Context(), Envelope{}, hello, txns)
			for i := range txns {
				if f := txns[i].Answers[0].Failure; f != nil {
					t.Errorf("transaction %d: %v", i+1, f)
				}
			}
			if waits < 3 {
				t.Errorf("it waited %d times: too few to show anything", waits)
			}
		})
	}
}
