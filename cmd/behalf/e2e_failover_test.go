package main_test

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/smtppeer"
)

// twoWays is a world in which tenant acme sends through an account and, when
// that fails, through the platform's smart host.
type twoWays struct {
	w        *lab.World
	r        *lab.Relay
	fallback *smtppeer.Peer
}

// account is a server as a connection's settings.
func account(host string, port uint16) *lab.Server {
	return &lab.Server{Host: host, Port: int(port)}
}

func newTwoWays(t *testing.T, first *lab.Server, config string) twoWays {
	t.Helper()
	w := lab.NewWorld(t, nil, nil)
	fallback := smtppeer.Start(t, smtppeer.Options{})
	r := w.Relay(t, lab.RelayOptions{
		Binary:    binary(t),
		Resources: w.Tenants("[ { connection: office }, { upstream: platform } ]") + connection("office", first, "any"),
		Config:    config + fmt.Sprintf("upstream: { platform: { host: 127.0.0.1, port: %d, security: none } }\n", fallback.Port()),
	})
	return twoWays{w, r, fallback}
}

// The first way is down, in one of the ways that servers are: the message
// arrives by the next. One host that is a black hole shows that with the default
// settings this takes less than a minute; the others are given less time.
func TestE2EFailover(t *testing.T) {
	t.Parallel()
	refused := lab.Port(t)
	for _, v := range []struct {
		name  string
		first func(t *testing.T) *lab.Server
	}{
		{"connection refused", func(t *testing.T) *lab.Server { return account("127.0.0.1", uint16(refused)) }},
		{"blackholed", func(t *testing.T) *lab.Server {
			host, port := blackhole(t)
			return account(host, port)
		}},
		{"silent", func(t *testing.T) *lab.Server {
			p := smtppeer.Start(t, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action { return smtppeer.Action{Stall: s.Verb == "CONNECT"} }})
			return account(p.Host(), p.Port())
		}},
		{"421 at once", func(t *testing.T) *lab.Server {
			p := smtppeer.Start(t, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
				if s.Verb == "CONNECT" {
					return smtppeer.Action{Reply: "421 4.3.2 shutting down", Close: true}
				}
				return smtppeer.Action{}
			}})
			return account(p.Host(), p.Port())
		}},
		{"log-in refused", func(t *testing.T) *lab.Server {
			cert := lab.NewCertificate(t, "127.0.0.1")
			p := smtppeer.Start(t, smtppeer.Options{TLS: cert.Config, Auth: []string{"PLAIN"}, Users: map[string]string{"u": "other"}})
			return &lab.Server{Host: p.Host(), Port: int(p.Port()), User: "u", Pass: "p", CA: cert.CertFile}
		}},
		{"quota used up", func(t *testing.T) *lab.Server {
			p := smtppeer.Start(t, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
				if s.Verb == "MAIL" {
					return smtppeer.Action{Reply: "550 5.4.5 Daily user sending quota exceeded"}
				}
				return smtppeer.Action{}
			}})
			return account(p.Host(), p.Port())
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			config, atMost := "delivery: { failover_after: 3s, retry_connect: [1s] }\n", time.Minute
			if v.name == "blackholed" {
				config, atMost = "", 80*time.Second // two tries; a third would take longer
			}
			x := newTwoWays(t, v.first(t), config)
			begun := time.Now()
			id := send(t, x.r, "you@elsewhere.test", "in spite of "+v.name)
			m := x.r.Reaches(t, id, "delivered", atMost)
			if took := time.Since(begun); took > atMost {
				t.Errorf("took %s", took)
			}
			if m.Recipients[0].Upstream != "platform" {
				t.Errorf("delivered by %s", m.Recipients[0].Upstream)
			}
			if n := lab.Count(x.fallback, "in spite of"); n != 1 {
				t.Errorf("arrived %d times", n)
			}
		})
	}
}

// blackhole gives an address at which nothing answers, not even a refusal: the
// backlog of a listener that never accepts is full.
func blackhole(t *testing.T) (string, uint16) {
	t.Helper()
	host, port, full := lab.Blackhole(t)
	if _, err := net.DialTimeout("tcp", full, 300*time.Millisecond); err == nil {
		t.Fatal("the black hole answers")
	}
	return host, port
}

// A destination that answers is never asked by another way: what it says is
// about the sender or the recipient, and another egress would only make it worse.
func TestE2ENoFailoverOnceTheDestinationAnswered(t *testing.T) {
	t.Parallel()
	for name, verb := range map[string]string{"too many connections": "CONNECT", "refused for now at MAIL": "MAIL", "greylisted": "RCPT", "refused for now after the final dot": "DOT"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			w := lab.NewWorld(t, nil, func(s smtppeer.Step) smtppeer.Action {
				if s.Verb != verb || tries.Add(1) >= 3 {
					return smtppeer.Action{}
				}
				return smtppeer.Action{Reply: "421 4.7.1 try again later", Close: true}
			})
			fallback := smtppeer.Start(t, smtppeer.Options{})
			r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: w.Tenants("[ { upstream: mx }, { upstream: platform } ]"), Config: fmt.Sprintf(
				"delivery: { retry: [1s, 1s, 1s], retry_connect: [1s], failover_after: 1s }\nupstream: { platform: { host: 127.0.0.1, port: %d, security: none } }\n", fallback.Port())})
			id := send(t, r, "you@sink.test", "patience")
			m := r.Reaches(t, id, "delivered", soon)
			if m.Recipients[0].Upstream != "mx" || len(fallback.Messages()) > 0 {
				t.Errorf("delivered by %s; the fallback got %d\n%s", m.Recipients[0].Upstream, len(fallback.Messages()), r.MustCLI(t, "message", "trace", id))
			}
		})
	}
}

// No exchanger of the destination can be had: after failover_after the next way
// is taken.
func TestE2EFailoverWhenNoExchangerAnswers(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, func(*lab.World) string { return lab.MX("dead.test", "mx.dead.test", lab.IP()) }, nil)
	fallback := smtppeer.Start(t, smtppeer.Options{})
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: w.Tenants("[ { upstream: mx }, { upstream: platform } ]"), Config: fmt.Sprintf(
		"delivery: { retry_connect: [1s], failover_after: 3s }\nupstream: { platform: { host: 127.0.0.1, port: %d, security: none } }\n", fallback.Port())})
	id := send(t, r, "you@dead.test", "nobody there")
	if m := r.Reaches(t, id, "delivered", soon); m.Recipients[0].Upstream != "platform" || m.Recipients[0].Tries < 2 {
		t.Errorf("%+v", m.Recipients)
	}
}

// While the answer to the final dot is not known, the message may have been
// taken: it is tried again where it was, or not at all, but never elsewhere.
func TestE2EUnansweredFinalDot(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]smtppeer.Action{"closed": {Close: true}, "stalled": {Stall: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Bool
			first := smtppeer.Start(t, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
				if s.Verb == "DOT" && s.Conn == 1 {
					asked.Store(true)
					return act
				}
				return smtppeer.Action{}
			}})
			x := newTwoWays(t, account(first.Host(), first.Port()), "delivery: { retry: [1s, 1s, 1s], retry_connect: [1s], failover_after: 1s }\n")
			id := send(t, x.r, "you@elsewhere.test", "unanswered")
			if name == "stalled" { // the answer is waited for longer than a test may take
				lab.Until(t, soon, "the final dot", asked.Load)
				first.Close()
			}
			lab.Until(t, soon, "the first attempt's end", func() bool {
				s := x.r.Show(t, id).States()
				return s == "delivered" || s == "deferred"
			})
			time.Sleep(2 * time.Second)
			if n := len(x.fallback.Messages()); n > 0 {
				t.Errorf("went another way %d times:\n%s", n, x.r.MustCLI(t, "message", "trace", id))
			}
		})
	}
}

// A recipient that is refused for good fails, whatever other ways there are.
func TestE2ERefusalIsFinal(t *testing.T) {
	t.Parallel()
	first := smtppeer.Start(t, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == "RCPT" && strings.Contains(s.Line, "nobody") {
			return smtppeer.Action{Reply: "550 5.1.1 no such user"}
		}
		return smtppeer.Action{}
	}})
	x := newTwoWays(t, account(first.Host(), first.Port()), "")
	id := send(t, x.r, "nobody@elsewhere.test", "to nobody", "--to", "you@elsewhere.test")
	lab.Until(t, soon, "both recipients to be settled", func() bool { return x.r.Show(t, id).States() == "failed delivered" })
	for _, m := range x.fallback.Messages() {
		if strings.Contains(m.Data, "Subject: to nobody") {
			t.Error("the fallback was tried")
		}
	}
}
