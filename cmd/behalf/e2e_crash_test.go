package main_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/smtp"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/smtppeer"
)

var crashRounds = flag.Int("crash.rounds", 5, "how often the relay is killed under load")

// window is how many jobs a site may have under way: so many messages may
// arrive twice for each kill, as nobody wrote down that they had arrived.
const window = 20

// load submits messages with distinct tokens over connections until ctx ends,
// and knows which were answered with 250.
type load struct {
	addr  string
	next  atomic.Int64
	mu    sync.Mutex
	taken map[string]bool
}

func (l *load) run(ctx context.Context, connections int) {
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for ctx.Err() == nil {
				l.session(ctx) // ends when the relay does
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

func (l *load) session(ctx context.Context) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	defer conn.Close()
	host, _, _ := net.SplitHostPort(l.addr)
	c, err := smtp.NewClient(conn, host)
	if err != nil || c.StartTLS(&tls.Config{InsecureSkipVerify: true, ServerName: host}) != nil || c.Auth(smtp.PlainAuth("", lab.AcmeUser, lab.AcmeSecret, host)) != nil {
		return
	}
	for ctx.Err() == nil {
		token := fmt.Sprintf("token-%d-", l.next.Add(1))
		if c.Mail(acmeFrom) != nil || c.Rcpt("you@sink.test") != nil {
			return
		}
		w, err := c.Data()
		if err != nil {
			return
		}
		body := message(acmeFrom, "you@sink.test", token) + string(make4KiB(token))
		if _, err := w.Write([]byte(body)); err != nil {
			return
		}
		if w.Close() != nil {
			return
		}
		l.mu.Lock()
		l.taken[token] = true
		l.mu.Unlock()
	}
}

func make4KiB(token string) []byte {
	b := make([]byte, 0, 4096)
	for len(b) < 4000 {
		b = append(b, token...)
		b = append(b, "\r\n"...)
	}
	return b
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken)
}

var tokenIn = regexp.MustCompile(`Subject: (token-\d+-)`)

// arrivals counts how often each token came to the sink.
func arrivals(p *smtppeer.Peer) map[string]int {
	n := map[string]int{}
	for _, m := range p.Messages() {
		if s := tokenIn.FindStringSubmatch(m.Data); s != nil {
			n[s[1]]++
		}
	}
	return n
}

// Whatever was answered with 250 arrives, though the relay is killed at random
// points under the load of 20 connections; twice at most what was under way.
func TestE2ECrash(t *testing.T) {
	for name, faulty := range map[string]bool{"well-behaved receiver": false, "receiver that defers, closes, stalls and lies": true} {
		t.Run(name, func(t *testing.T) { // one after the other: each takes what the machine has
			var bad atomic.Bool
			bad.Store(faulty)
			w := lab.NewWorld(t, nil, func(s smtppeer.Step) smtppeer.Action {
				if !bad.Load() || rand.IntN(12) > 0 {
					return smtppeer.Action{}
				}
				switch s.Verb {
				case "DOT":
					// It took nothing, and says so, or something that is no answer.
					return smtppeer.Action{Reply: []string{"451 4.3.0 not now", "hello, this is no SMTP", "999 9.9.9 no such code"}[rand.IntN(3)]}
				case "RCPT":
					return smtppeer.Action{Reply: "451 4.3.0 not now"}
				case "DATA":
					return smtppeer.Action{Close: true}
				case "MAIL":
					return smtppeer.Action{Stall: rand.IntN(20) == 0}
				case "CONNECT":
					return smtppeer.Action{Reply: "421 4.3.2 too busy", Close: true}
				}
				return smtppeer.Action{}
			})
			r := start(t, w, "delivery: { retry: [1s], retry_connect: [1s] }\n")
			l := &load{addr: r.Submission, taken: map[string]bool{}}
			for range *crashRounds {
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					l.run(ctx, 20)
				}()
				before := l.count()
				for end := time.Now().Add(soon); l.count() < before+20 && time.Now().Before(end); {
					time.Sleep(5 * time.Millisecond)
				}
				time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
				r.Kill()
				stop()
				<-done
				r.Start(t)
			}
			if bad.Load() { // no session shall stall from now on, and those that do end
				bad.Store(false)
				r.Kill()
				r.Start(t)
			}
			taken := l.count()
			if taken < *crashRounds*20 {
				t.Fatalf("only %d messages were taken in %d rounds", taken, *crashRounds)
			}
			arrive(t, r, w.Sink, l, 2*time.Minute)
			twice := 0
			for _, n := range arrivals(w.Sink) {
				twice += n - 1
			}
			t.Logf("%d kills, %d messages answered with 250, %d arrived twice", *crashRounds, taken, twice)
			if most := (*crashRounds + 1) * window; twice > most {
				t.Errorf("%d messages arrived twice, more than the window of each kill allows (%d)", twice, most)
			}
		})
	}
}

// arrive waits until all that was taken has arrived.
func arrive(t *testing.T, r *lab.Relay, sink *smtppeer.Peer, l *load, atMost time.Duration) {
	t.Helper()
	var lost []string
	for end := time.Now().Add(atMost); ; time.Sleep(300 * time.Millisecond) {
		got := arrivals(sink)
		lost = lost[:0]
		for token := range l.taken {
			if got[token] == 0 {
				lost = append(lost, token)
			}
		}
		if len(lost) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d messages that were answered with 250 did not arrive, such as %s\n%s", len(lost), len(l.taken), lost[0], r.MustCLI(t, "queue", "stats"))
		}
	}
}
