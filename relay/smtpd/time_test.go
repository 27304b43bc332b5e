package smtpd

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/throttle"
)

// talk is a client over a pipe in bubble time.
type talk struct {
	t *testing.T
	net.Conn
	*bufio.Reader
}

func newTalk(t *testing.T, c net.Conn) *talk { return &talk{t, c, bufio.NewReader(c)} }

func (k *talk) Read(p []byte) (int, error) { return k.Reader.Read(p) }

func (k *talk) put(s string) {
	k.t.Helper()
	if _, err := k.Conn.Write([]byte(s)); err != nil {
		k.t.Fatalf("send %.50q: %v", s, err)
	}
}

func (k *talk) want(prefix string) {
	k.t.Helper()
	for {
		l, err := k.ReadString('\n')
		if !strings.HasPrefix(l, prefix) {
			k.t.Fatalf("reply %q, %v; want %q", l, err, prefix)
		}
		if len(l) > 3 && l[3] != '-' {
			return
		}
	}
}

func (k *talk) wantEOF() {
	k.t.Helper()
	if l, err := k.ReadString('\n'); err == nil || l != "" {
		k.t.Fatalf("more came: %q", l)
	}
}

// wantCut wants the connection to end now, so long after it began.
func (k *talk) wantCut(began time.Time, after time.Duration) {
	k.t.Helper()
	if d := time.Since(began); d != after {
		k.t.Errorf("cut off after %v", d)
	}
	k.wantEOF()
}

// wantAborted wants one transaction to have ended without a message.
func (in *fakeIntake) wantAborted(t *testing.T) {
	t.Helper()
	if in.aborted != 1 || len(in.messages) != 0 {
		t.Errorf("%d aborted, %d messages", in.aborted, len(in.messages))
	}
}

func (k *talk) toData() {
	k.t.Helper()
	k.want("220 ")
	k.sayData()
}

func (k *talk) sayData() {
	k.t.Helper()
	for _, s := range []string{"MAIL FROM:<a@acme.example>|250 2.1.0", "RCPT TO:<b@example.org>|250 2.1.5", "DATA|354"} {
		line, reply, _ := strings.Cut(s, "|")
		k.put(line + "\r\n")
		k.want(reply)
	}
}

// A client that stalls within DATA loses its connection, and what it sends
// later is not run.
func TestStalledData(t *testing.T) {
	for _, sent := range []string{"", "half a line", "a line\r\n", "a line\r\n.", "a line\r\n.\r", "\r"} {
		t.Run(fmt.Sprintf("%q", sent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := &fakeIntake{}
				c, done, _ := pipeDoor(t, in, testOptions())
				k := newTalk(t, c)
				k.toData()
				if sent != "" {
					k.put(sent)
				}
				began := time.Now()
				k.want("421 4.4.2 ")
				k.wantCut(began, time.Minute)
				c.Close()
				<-done
				in.wantAborted(t)
			})
		})
	}
}

// What the connection was told before does not cut short what comes after, nor
// give it more time.
func TestTimesOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &fakeIntake{}
		c, done, _ := pipeDoor(t, in, testOptions())
		k := newTalk(t, c)
		k.want("220 ")
		time.Sleep(270 * time.Second) // half a minute is left to say something
		k.sayData()
		time.Sleep(59 * time.Second) // one is left for the message
		k.put("A: b\r\n\r\n.\r\n")
		k.want("250 2.0.0 ")
		time.Sleep(299 * time.Second)
		k.put("NOOP\r\n")
		k.want("250 ")
		began := time.Now()
		k.want("421 4.4.2 ")
		if d := time.Since(began); d != 5*time.Minute {
			t.Errorf("cut off after %v", d)
		}
		k.wantEOF()
		c.Close()
		<-done
	})
	t.Run("deaf", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, done, _ := pipeDoor(t, &fakeIntake{}, testOptions())
			k := newTalk(t, c)
			k.want("220 ")
			for range 100 {
				time.Sleep(7 * time.Second)
				k.put("NOOP\r\n")
				k.want("250 ")
				k.put("RSET\r\n")
				began := time.Now()
				time.Sleep(52 * time.Second)
				k.want("250 ") // still there
				if time.Since(began) != 52*time.Second {
					t.Error("the answer came late")
				}
				k.put("MAIL FROM:<a@acme.example>\r\n") // no chatter
				k.want("250 ")
			}
			k.put("NOOP\r\n")
			began := time.Now()
			<-done
			if d := time.Since(began); d < 52*time.Second || d > time.Minute {
				t.Errorf("gave up after %v", d)
			}
			c.Close()
		})
	})
}

// A server that stops interrupts the wait for a command, however old the time is
// that the connection was told; a message on its way has its own time still.
func TestStopBetweenTimes(t *testing.T) {
	for _, inData := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			in := &fakeIntake{}
			c, done, s := pipeDoor(t, in, testOptions())
			k := newTalk(t, c)
			k.want("220 ")
			time.Sleep(270 * time.Second)
			if inData {
				k.sayData()
			} else {
				k.put("NOOP\r\n")
				k.want("250 ")
			}
			time.Sleep(40 * time.Second)
			began := time.Now()
			s.stop()
			if inData {
				time.Sleep(19 * time.Second)
				k.put("A: b\r\n\r\n.\r\n")
				k.want("250 2.0.0 ")
				began = time.Now()
			}
			k.want("421 4.3.2 ")
			if d := time.Since(began); d != 0 {
				t.Errorf("told after %v", d)
			}
			k.wantEOF()
			c.Close()
			<-done
		})
	}
}

// A dropped connection in DATA ends the transaction in the same way.
func TestBrokenData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &fakeIntake{}
		c, done, _ := pipeDoor(t, in, testOptions())
		k := newTalk(t, c)
		k.toData()
		k.put("Subject: x\r\n\r\nMAIL FROM:<evil@acme.example>\r\n")
		c.Close()
		<-done
		if in.begun != 1 || in.aborted != 1 || len(in.messages) != 0 {
			t.Errorf("%d begun, %d aborted, %d messages", in.begun, in.aborted, len(in.messages))
		}
	})
}

// The time for a message is not that for a command: 40 minutes at a fair rate
// are too long in all, 25 are not.
func TestSlowButSteady(t *testing.T) {
	for minutes, want := range map[int]string{25: "250 2.0.0 ", 40: "421 4.4.2 "} {
		synctest.Test(t, func(t *testing.T) {
			in := &fakeIntake{discard: true}
			c, done, _ := pipeDoor(t, in, testOptions())
			k := newTalk(t, c)
			k.toData()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				line := strings.Repeat("x", 1022) + "\r\n"
				for range minutes * 6 {
					if _, err := c.Write([]byte(strings.Repeat(line, 14))); err != nil {
						return
					}
					time.Sleep(10 * time.Second)
				}
				c.Write([]byte(".\r\n"))
			}()
			k.want(want)
			c.Close()
			<-done
			<-sent
		})
	}
}

// A transaction ends half an hour after MAIL, whatever the client says meanwhile,
// and gives back what it holds.
func TestOldTransaction(t *testing.T) {
	for name, say := range map[string]struct{ line, reply string }{
		"NOOP":       {"NOOP\r\n", "250 "},
		"recipients": {"RCPT TO:<b@example.org>\r\n", "250 "},
		"refused":    {"RCPT TO:<refused@example.org>\r\n", "550 "},
		"a chunk":    {"BDAT 8\r\na line\r\n", "250 "},
		"nothing":    {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := &fakeIntake{}
				o := testOptions()
				if say.line == "" {
					o.IdleTimeout = time.Hour
				}
				c, done, _ := pipeDoor(t, in, o)
				k := newTalk(t, c)
				k.want("220 ")
				time.Sleep(4 * time.Minute) // the session may be older
				k.put("MAIL FROM:<a@acme.example>\r\n")
				k.want("250 2.1.0")
				k.put("RCPT TO:<b@example.org>\r\n")
				k.want("250 2.1.5")
				began := time.Now()
				for say.line != "" && time.Since(began) < 26*time.Minute {
					time.Sleep(4 * time.Minute)
					k.put(say.line)
					k.want(say.reply)
				}
				k.want("421 4.4.2 the message took too long")
				k.wantCut(began, 30*time.Minute)
				c.Close()
				<-done
				in.wantAborted(t)
			})
		})
	}
}

// A trickle holds no session for long: octets count, not signs of life.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, done, _ := pipeDoor(t, &fakeIntake{}, testOptions())
		k := newTalk(t, c)
		k.toData()
		began := time.Now()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		k.want("421 4.4.2 ")
		if d := time.Since(began); d > 2*time.Minute {
			t.Errorf("cut off after %v", d)
		}
		c.Close()
		<-done
		<-sent
	})
}

func TestIdle(t *testing.T) {
	t.Run("a command that comes in pieces has no more time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, done, _ := pipeDoor(t, &fakeIntake{}, testOptions())
			k := newTalk(t, c)
			k.want("220 ")
			began := time.Now()
			k.put("NO")
			time.Sleep(3 * time.Minute)
			k.put("OP")
			k.want("421 4.4.2 ")
			if d := time.Since(began); d != 5*time.Minute {
				t.Errorf("cut off after %v", d)
			}
			c.Close()
			<-done
		})
	})
	t.Run("nobody stays for ever without a login", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv, err := New(&fakeIntake{}, testOptions())
			if err != nil {
				t.Fatal(err)
			}
			c, server := net.Pipe()
			done := make(chan struct{})
			go func() { defer close(done); newSession(srv, server).run(t.Context()) }()
			k := newTalk(t, c)
			k.want("220 ")
			for range 4 {
				time.Sleep(2 * time.Minute)
				k.put("NOOP\r\n")
				k.want("250 ")
			}
			began := time.Now()
			k.want("421 4.4.2 ")
			if d := time.Since(began); d != 2*time.Minute {
				t.Errorf("cut off after %v", d)
			}
			c.Close()
			<-done
		})
	})
}

// A client that reads no replies is given up.
func TestDeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, done, _ := pipeDoor(t, &fakeIntake{}, testOptions())
		began := time.Now()
		<-done // the banner finds no reader
		if d := time.Since(began); d != time.Minute {
			t.Errorf("gave up after %v", d)
		}
		c.Close()
	})
}

// Failed logins are answered ever more slowly, across sessions, and then not
// tried any more. Trouble of ours does not count.
func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, o := &fakeIntake{}, testOptions()
		o.Throttle = NewThrottle()
		try := func(line, want string) time.Duration {
			c, done, s := pipeDoor(t, in, o)
			k := newTalk(t, c)
			k.want("220 ")
			synctest.Wait()
			s.who = nil
			began := time.Now()
			k.put(line + "\r\n")
			k.want(want)
			c.Close()
			<-done
			return time.Since(began)
		}
		const (
			wrong  = "AUTH PLAIN AGFjbWUvYXBwAHdyb25n"     // acme/app, wrong
			broken = "AUTH PLAIN AGFjbWUvYnJva2VuAHdyb25n" // acme/broken, wrong
		)
		for range 10 {
			if d := try(broken, "451 4.3.0 "); d != 0 {
				t.Errorf("our own trouble is told after %v", d)
			}
		}
		var last time.Duration
		for range 5 {
			d := try(wrong, "535 5.7.8 ")
			if d <= last || d > throttle.MaxDelay {
				t.Errorf("told after %v, before that after %v", d, last)
			}
			last = d
		}
		asked := in.logins
		try(wrong, "454 4.7.0 ")
		if in.logins != asked {
			t.Error("the intake was asked")
		}
	})
}

// A login that is shut out does not reach the intake, and says for how long.
func TestShutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &fakeIntake{}
		o := testOptions()
		o.Throttle = NewThrottle()
		for range 5 {
			o.Throttle.Failed(netip.Addr{}, testUser)
		}
		c, done, s := pipeDoor(t, in, o)
		k := newTalk(t, c)
		k.want("220 ")
		synctest.Wait()
		s.who = nil
		k.put("AUTH PLAIN AGFjbWUvYXBwAGszeS1vZi10aGUtYXBw\r\n")
		k.want("454 4.7.0 too many logins have failed; try again in 61 seconds")
		k.put("AUTH SCRAM-SHA-256 biwsbj1hY21lL2FwcCxyPWFiYw==\r\n") // n,,n=acme/app,r=abc
		k.want("454 4.7.0 ")
		if in.logins != 0 {
			t.Error("the intake was asked")
		}
		c.Close()
		<-done
	})
}
