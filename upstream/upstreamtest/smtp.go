package upstreamtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
	"behalf/upstream"
)

// OpenSMTP makes an upstream that reaches the SMTP server at the address.
type OpenSMTP func(t *testing.T, at netip.AddrPort) upstream.Upstream

// RunSMTP checks what holds for every upstream over SMTP, Run included.
func RunSMTP(t *testing.T, open OpenSMTP) {
	Run(t, func(t *testing.T) Rig {
		p := smtppeer.Start(t, smtppeer.Options{})
		return Rig{open(t, p.AddrPort), func() []Arrival { return arrivals(p) }}
	})
	t.Run("without PIPELINING", func(t *testing.T) {
		Run(t, func(t *testing.T) Rig {
			p := smtppeer.Start(t, smtppeer.Options{Ext: []string{"8BITMIME"}})
			return Rig{open(t, p.AddrPort), func() []Arrival { return arrivals(p) }}
		})
	})
	t.Run("HELO only", func(t *testing.T) {
		Run(t, func(t *testing.T) Rig {
			p := smtppeer.Start(t, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
				if s.Verb == "EHLO" {
					return smtppeer.Action{Reply: "502 what?"}
				}
				return smtppeer.Action{}
			}})
			return Rig{open(t, p.AddrPort), func() []Arrival { return arrivals(p) }}
		})
	})
	t.Run("partial recipients", func(t *testing.T) { partial(t, open) })
	t.Run("faults", func(t *testing.T) { faults(t, open) })
	t.Run("stalls", func(t *testing.T) { stalls(t, open) })
	t.Run("garbage", func(t *testing.T) { garbage(t, open) })
	t.Run("capabilities", func(t *testing.T) { capabilities(t, open) })
	t.Run("a session that is over is replaced", func(t *testing.T) { replaced(t, open) })
	t.Run("prepared between DATA and 354", func(t *testing.T) { preparedInTime(t, open) })
}

func arrivals(p *smtppeer.Peer) (as []Arrival) {
	for _, m := range p.Messages() {
		for _, to := range m.To {
			as = append(as, Arrival{m.From, to, m.Data})
		}
	}
	return as
}

func start(t *testing.T, open OpenSMTP, o smtppeer.Options) (*smtppeer.Peer, upstream.Upstream) {
	t.Helper()
	NoLeaks(t)
	p := smtppeer.Start(t, o)
	u := open(t, p.AddrPort)
	if c, ok := u.(io.Closer); ok {
		t.Cleanup(func() { c.Close() })
	}
	return p, u
}

// at makes an On that does a at the first line of verb that holds text.
func at(verb, text string, a smtppeer.Action) func(smtppeer.Step) smtppeer.Action {
	return func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == verb && strings.Contains(s.Line, text) {
			return a
		}
		return smtppeer.Action{}
	}
}

func partial(t *testing.T, open OpenSMTP) {
	for _, ext := range [][]string{{"PIPELINING"}, {"8BITMIME"}} {
		p, u := start(t, open, smtppeer.Options{Ext: ext, On: func(s smtppeer.Step) smtppeer.Action {
			switch {
			case s.Verb == "RCPT" && strings.Contains(s.Line, "no@"):
				return smtppeer.Action{Reply: "550 5.1.1 no such user"}
			case s.Verb == "RCPT" && strings.Contains(s.Line, "later@"):
				return smtppeer.Action{Reply: "450 4.7.1 greylisted, come back in 5 minutes"}
			}
			return smtppeer.Action{}
		}})
		m := &Mail{Data: Content}
		rs := Deliver(t, u, t.Context(), Job(m, "1@b.test", "no@b.test", "v@a.test>no@b.test", "later@b.test", "2@b.test"))
		want := []mail.Reason{"", mail.ReasonNoMailbox, mail.ReasonNoMailbox, mail.ReasonRate, ""}
		for i, f := range Failures(rs) {
			if f == nil != (want[i] == "") || f != nil && f.Reason != want[i] {
				t.Errorf("%v: recipient %d: %v, want %q", ext, i, f, want[i])
			}
		}
		if f := rs[3].Failure; f != nil && f.RetryAfter != 5*time.Minute {
			t.Errorf("RetryAfter %v", f.RetryAfter)
		}
		if rs[1].Reply != "550 5.1.1 no such user" {
			t.Errorf("reply %q", rs[1].Reply)
		}
		if as := arrivals(p); len(as) != 2 {
			t.Errorf("%v: arrived: %v", ext, as)
		}
	}
}

// faults are what a peer may do at each step, and what must be concluded.
func faults(t *testing.T, open OpenSMTP) {
	say := func(s string) smtppeer.Action { return smtppeer.Action{Reply: s} }
	gone := smtppeer.Action{Close: true}
	for _, c := range []struct {
		verb   string
		do     smtppeer.Action
		code   int // 4: temporary, 5: permanent
		stage  mail.Stage
		reason mail.Reason // "" any
	}{
		{"CONNECT", gone, 4, mail.StageConnect, mail.ReasonUnreachable},
		{"CONNECT", say("nonsense"), 4, mail.StageConnect, mail.ReasonProtocol},
		{"EHLO", gone, 4, mail.StageConnect, mail.ReasonUnreachable},
		{"MAIL", gone, 4, mail.StageSession, mail.ReasonUnreachable},
		{"MAIL", say("451 4.3.0 later"), 4, mail.StageSession, mail.ReasonTemporary},
		{"MAIL", say("550 5.0.0 no"), 5, mail.StageSession, ""},
		{"MAIL", say("552 5.3.4 too big"), 5, mail.StageSession, mail.ReasonTooLarge},
		{"MAIL", say("421 4.3.2 closing"), 4, mail.StageSession, ""},
		{"RCPT", gone, 4, mail.StageSession, mail.ReasonUnreachable},
		{"RCPT", say("553 5.1.1 unknown"), 5, mail.StageSession, mail.ReasonNoMailbox},
		{"RCPT", say("599 eh"), 5, mail.StageSession, mail.ReasonRejected},
		{"RCPT", say("4xx"), 4, mail.StageSession, mail.ReasonProtocol},
		{"DATA", gone, 4, mail.StageSession, mail.ReasonUnreachable},
		{"DATA", say("451 4.3.0 no"), 4, mail.StageSession, mail.ReasonTemporary},
		{"DATA", say("554 5.7.1 spam"), 5, mail.StageSession, mail.ReasonContent},
		{"DATA", say("250 done already"), 4, mail.StageSession, ""},
		{"DOT", gone, 4, mail.StageFinal, mail.ReasonUnresolved},
		{"DOT", say("garbage"), 4, mail.StageFinal, mail.ReasonUnresolved},
		{"DOT", say("452 4.3.1 disk full"), 4, mail.StageSession, mail.ReasonTemporary},
		{"DOT", say("554 5.7.1 spam"), 5, mail.StageSession, mail.ReasonContent},
		{"DOT", say("354 more?"), 4, mail.StageSession, mail.ReasonProtocol},
	} {
		t.Run(fmt.Sprintf("%s %s", c.verb, c.do.Reply), func(t *testing.T) {
			for _, ext := range [][]string{{"PIPELINING"}, {"8BITMIME"}} {
				p, u := start(t, open, smtppeer.Options{Ext: ext, On: at(c.verb, "", c.do)})
				for i, f := range Failures(Deliver(t, u, t.Context(), Job(&Mail{Data: Content}, "1@b.test", "w@a.test>2@b.test"))) {
					stage := c.stage
					if i == 1 && stage == mail.StageFinal {
						stage = mail.StageSession // its transaction never came to a dot
					}
					if f == nil || f.Code/100 != c.code || f.Stage != stage || c.reason != "" && f.Reason != c.reason && i == 0 {
						t.Errorf("%v: recipient %d: %+v, want %dxx, stage %d, %s", ext, i, f, c.code, stage, c.reason)
					}
				}
				if as := arrivals(p); len(as) != 0 {
					t.Errorf("arrived: %v", as)
				}
			}
		})
	}
	// A peer that says 354 though it refused everybody gets nothing.
	p, u := start(t, open, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
		switch s.Verb {
		case "RCPT":
			return say("550 5.1.1 nobody")
		case "DATA":
			return say("354 go on")
		case "DOT":
			return say("250 2.0.0 taken")
		}
		return smtppeer.Action{}
	}})
	fs := Failures(Deliver(t, u, t.Context(), Job(&Mail{Data: Content}, "1@b.test")))
	if fs[0] == nil || fs[0].Reason != mail.ReasonNoMailbox {
		t.Error("a lying peer:", fs[0])
	}
	for _, m := range p.Messages() {
		if m.Data != "" {
			t.Errorf("sent to nobody: %q", m.Data)
		}
	}
}

// stalls: the end of the context ends an attempt wherever it hangs.
func stalls(t *testing.T, open OpenSMTP) {
	for _, verb := range []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"} {
		t.Run(verb, func(t *testing.T) {
			var reached atomic.Bool
			_, u := start(t, open, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
				if s.Verb != verb {
					return smtppeer.Action{}
				}
				reached.Store(true)
				return smtppeer.Action{Stall: true}
			}})
			// A busy machine may not have come so far by then: it gets longer.
			for within := 150 * time.Millisecond; !reached.Load() && within < patience; within *= 4 {
				ctx, cancel := context.WithTimeout(t.Context(), within)
				began := time.Now()
				f := Failures(Deliver(t, u, ctx, Job(&Mail{Data: Content}, "1@b.test")))[0]
				cancel()
				if took := time.Since(began); took > within+patience/2 {
					t.Errorf("took %v", took)
				}
				if f == nil || !f.Temporary() || reached.Load() && (f.Stage == mail.StageFinal) != (verb == "DOT") {
					t.Errorf("%+v", f)
				}
			}
			if !reached.Load() {
				t.Errorf("never came to %s", verb)
			}
		})
	}
}

// garbage: nothing that a peer sends makes an attempt panic or hang.
func garbage(t *testing.T, open OpenSMTP) {
	for name, text := range map[string]string{
		"no line end":   strings.Repeat("2", 5000),
		"endless reply": strings.Repeat("220-and more\r\n", 100000),
		"long line":     "220 " + strings.Repeat("x", 5000) + "\r\n",
		"two codes":     "220-a\r\n250 b\r\n",
		"control":       "220 \x00\x1b[31m\xff\xfe\r\n250 \x00\r\n250 \x00\r\n250 \x00\r\n250 \x00\r\n",
		"empty lines":   "\r\n\r\n\r\n",
		"binary":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"all at once":   "220 a\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n250 f\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			NoLeaks(t)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan bool)
			go func() {
				defer close(done)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					io.WriteString(c, text)
					c.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
			u := open(t, ln.Addr().(*net.TCPAddr).AddrPort())
			rs := Deliver(t, u, t.Context(), Job(&Mail{Data: Content}, "1@b.test"))
			if f := rs[0].Failure; f != nil && !f.Temporary() {
				t.Errorf("a permanent verdict out of garbage: %v", f)
			}
			if strings.ContainsAny(rs[0].Reply, "\x00\x1b") {
				t.Errorf("control characters in the trace: %q", rs[0].Reply)
			}
			if c, ok := u.(io.Closer); ok {
				c.Close()
			}
			ln.Close()
			<-done
		})
	}
}

func capabilities(t *testing.T, open OpenSMTP) {
	for _, c := range []struct {
		name  string
		ext   []string
		mail  *Mail
		pairs []string
		code  []string // wanted failure, "" for none
		args  string   // parameters of MAIL that are wanted
	}{
		{"all", smtppeer.DefaultExt, &Mail{Data: Content, Eight: true, Wide: true}, []string{"1@b.test"}, []string{""}, "SIZE= BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=env+2B1"},
		{"nothing needed", smtppeer.DefaultExt, &Mail{Data: Content}, []string{"1@b.test"}, []string{""}, "!BODY !SMTPUTF8"},
		{"no DSN", []string{"PIPELINING"}, &Mail{Data: Content}, []string{"1@b.test"}, []string{""}, "!RET !ENVID !SIZE"},
		{"no SMTPUTF8", []string{"8BITMIME"}, &Mail{Data: Content, Wide: true}, []string{"1@b.test"}, []string{"553 5.6.7"}, ""},
		{"no 8BITMIME", []string{"PIPELINING"}, &Mail{Data: Content, Eight: true}, []string{"1@b.test"}, []string{"554 5.6.3"}, ""},
		{"address needs SMTPUTF8", []string{"PIPELINING"}, &Mail{Data: Content}, []string{"1@b.test", "ü@b.test", "2@b.test"}, []string{"", "553 5.6.7", ""}, ""},
		{"address has SMTPUTF8", smtppeer.DefaultExt, &Mail{Data: Content}, []string{"ü@b.test"}, []string{""}, "SMTPUTF8"},
		{"too large", []string{"SIZE 100"}, &Mail{Data: Content}, []string{"1@b.test"}, []string{"552 5.3.4"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, u := start(t, open, smtppeer.Options{Ext: c.ext, LowerCase: true})
			for i, f := range Failures(Deliver(t, u, t.Context(), Job(c.mail, c.pairs...))) {
				got := ""
				if f != nil {
					got = fmt.Sprintf("%d %s", f.Code, f.Enhanced)
				}
				if got != c.code[i] {
					t.Errorf("recipient %d: %v, want %q", i, f, c.code[i])
				}
			}
			for _, m := range p.Messages() {
				for want := range strings.FieldsSeq(c.args) {
					if w, no := strings.CutPrefix(want, "!"); no == strings.Contains(m.FromArgs, strings.TrimPrefix(w, "!")) {
						t.Errorf("MAIL has %q, want %s", m.FromArgs, want)
					}
				}
			}
		})
	}
	p, u := start(t, open, smtppeer.Options{})
	j := Job(&Mail{Data: Content}, "1@b.test", "2@b.test")
	j.To[1].ORcpt = "rfc822;o+r=1@c.test"
	Deliver(t, u, t.Context(), j)
	if got := fmt.Sprint(p.Messages()[0].ToArgs); got != "[NOTIFY=FAILURE,DELAY ORCPT=rfc822;1@b.test NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+2Br+3D1@c.test]" {
		t.Error("RCPT has", got)
	}
}

// replaced: a session that idled too long, or had its share, costs no attempt.
func replaced(t *testing.T, open OpenSMTP) {
	for name, a := range map[string]smtppeer.Action{
		"closed while idle": {Close: true},
		"421 for the next":  {Reply: "421 4.7.0 too many messages in this session", Close: true},
		"452 for the next":  {Reply: "452 4.7.0 too many messages in this session"},
	} {
		t.Run(name, func(t *testing.T) {
			p, u := start(t, open, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
				if s.Verb == "MAIL" && s.Txn == 2 {
					return a
				}
				return smtppeer.Action{}
			}})
			for range 3 {
				if f := Failures(Deliver(t, u, t.Context(), Job(&Mail{Data: Content}, "1@b.test")))[0]; f != nil {
					t.Error(f)
				}
			}
			// In the middle of a job too, after something was taken.
			for i, f := range Failures(Deliver(t, u, t.Context(), Job(&Mail{Data: Content}, "1@b.test", "x@a.test>2@b.test", "y@a.test>3@b.test"))) {
				if f != nil {
					t.Errorf("recipient %d: %v", i, f)
				}
			}
			if n := len(p.Messages()); n != 6 || p.Conns() != 6 {
				t.Errorf("%d messages over %d connections, want 6 over 6", n, p.Conns())
			}
		})
	}
}

// preparedInTime: the signature is computed when the peer has DATA, so a dead
// hop costs none, and before its answer is read, so the time is not lost.
func preparedInTime(t *testing.T, open OpenSMTP) {
	asked := make(chan bool, 1)
	prepared := make(chan bool)
	_, u := start(t, open, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == "DATA" {
			asked <- true
			select {
			case <-prepared:
			case <-time.After(patience):
				t.Error("354 was awaited before Prepare was called")
			}
		}
		return smtppeer.Action{}
	}})
	m := &Mail{Data: Content, OnPrepare: func() {
		select {
		case <-asked:
		case <-time.After(patience):
			t.Error("Prepare was called before DATA was sent")
		}
		close(prepared)
	}}
	if f := Failures(Deliver(t, u, t.Context(), Job(m, "1@b.test")))[0]; f != nil {
		t.Error(f)
	}
	u2 := &Mail{Data: Content}
	_, dead := start(t, open, smtppeer.Options{On: at("CONNECT", "", smtppeer.Action{Close: true})})
	Deliver(t, dead, t.Context(), Job(u2, "1@b.test"))
	if u2.Prepared.Load() != 0 {
		t.Error("a dead hop cost a signature")
	}
}
