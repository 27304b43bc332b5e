package smtpd

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDialogs plays the scripts in testdata. A line of one is
//
//	# a comment
//	@ option value        of the door; before anything else
//	> text                send it with CRLF
//	>> "text"             send a Go string as it is
//	< text                the server's next line is this
//	<~ regexp             … matches this
//	<* text               the next whole reply ends with a line that begins so
//	! starttls | login | eof     handshake; EHLO, STARTTLS, AUTH; the server has closed
//	= fact                the intake holds this, see fakeIntake.state
func TestDialogs(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialog")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".dialog"), func(t *testing.T) { playDialog(t, f) })
	}
}

func playDialog(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in, o := &fakeIntake{}, testOptions()
	var p *peer
	for n, line := range strings.Split(string(text), "\n") {
		op, arg, _ := strings.Cut(line, " ")
		if op == "" || op == "#" {
			continue
		}
		if op == "@" {
			setOption(t, &o, arg)
			continue
		}
		if p == nil {
			p = dial(t, serve(t, in, o))
			if o.Implicit {
				p.startTLS()
			}
		}
		if why := playLine(p, in, op, arg); why != "" {
			t.Fatalf("%s:%d: %s\n%s", file, n+1, line, why)
		}
	}
}

func playLine(p *peer, in *fakeIntake, op, arg string) (why string) {
	p.t.Helper()
	switch op {
	case ">":
		p.send(arg + "\r\n")
	case ">>":
		s, err := strconv.Unquote(arg)
		if err != nil {
			return err.Error()
		}
		p.send(s)
	case "<":
		if l := p.line(); l != arg {
			return "got  " + strconv.Quote(l)
		}
	case "<~":
		if l := p.line(); !regexp.MustCompile("^(?:" + arg + ")$").MatchString(l) {
			return "got  " + strconv.Quote(l)
		}
	case "<*":
		r := p.reply()
		if !strings.HasPrefix(r[strings.LastIndexByte(r, '\n')+1:], arg) {
			return "got  " + strconv.Quote(r)
		}
	case "!":
		switch arg {
		case "starttls":
			p.startTLS()
		case "login":
			p.login()
		case "eof":
			if l := p.line(); l != "" {
				return "got  " + strconv.Quote(l)
			}
		default:
			return "not known"
		}
	case "=":
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			have := in.state()
			if slices.Contains(have, arg) {
				break
			}
			if time.Now().After(end) {
				return "have:\n" + strings.Join(have, "\n")
			}
		}
	default:
		return "not known"
	}
	return ""
}

func setOption(t *testing.T, o *Options, arg string) {
	name, value, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(value)
	switch name {
	case "implicit":
		o.Implicit = true
	case "maxsize":
		o.MaxSize = int64(n)
	case "maxrcpt":
		o.MaxRecipients = n
	case "maxmessages":
		o.MaxMessages = n
	default:
		t.Fatal("option", name)
	}
}

// The reply to a message is sent, however much was said to its envelope.
func TestReplyAfterManyReplies(t *testing.T) {
	p := loggedIn(t, serve(t, &fakeIntake{}, testOptions()))
	for _, recipients := range []int{1, 24, 30, 100, 400} {
		p.send("MAIL FROM:<a@x.example>\r\n" + strings.Repeat("RCPT TO:<b@y.example>\r\n", recipients) + "DATA\r\n")
		for range 1 + recipients {
			p.expect("250 ")
		}
		p.expect("354 ")
		p.send("A: b\r\n\r\n.\r\n")
		p.expect("250 2.0.0 ")
	}
}
