package smtpd

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"behalf/relay"
)

// pipeDoor runs one session over a net.Pipe, as if after TLS, EHLO and login.
func pipeDoor(t testing.TB, in Intake, o Options) (client net.Conn, done <-chan struct{}, s *session) {
	t.Helper()
	srv, err := New(in, o)
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	s = newSession(srv, server)
	end := make(chan struct{})
	go func() {
		defer close(end)
		ctx := context.Background()
		defer s.raw.Close()
		err := s.open(ctx)
		s.client.TLS, s.client.Helo, s.ehlo = "TLS 1.3 of the mind", "app.example", true
		s.who = &relay.Principal{Username: testUser}
		if err == nil {
			err = s.dialog(ctx)
		}
		s.logout(ctx, err)
		if s.leave != nil {
			s.leave()
		}
	}()
	return client, end, s
}

var (
	replyLine = regexp.MustCompile(`^[2345][0-9][0-9][ -][ -~]*$`)
	enhanced  = regexp.MustCompile(`^[245][0-9][0-9][ -][245]\.[0-9]{1,3}\.[0-9]{1,3} .`)
)

// FuzzDialog sends anything at all in a session that is logged in. Whatever
// comes, replies are well-formed, have enhanced codes, the session ends, and
// no message that was taken holds a line end that is not CRLF.
func FuzzDialog(f *testing.F) {
	for _, s := range []string{
		"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
		"MAIL FROM:<a@x.example> BODY=BINARYMIME SMTPUTF8\r\nRCPT TO:<b@x.example> NOTIFY=DELAY\r\nBDAT 2\r\nxyBDAT 1 LAST\r\n\n",
		"NOOP\nRSET\r\nEHLO x\r\nVRFY\r\nAUTH PLAIN AAAA\r\nSTARTTLS\r\n",
		"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n\n.\nQUIT\r\n\r\n.\r\n",
		"MAIL FROM:<@a,@b:\"q\\\"\"@[IPv6:::1]> RET=FULL ENVID=+41\r\nRCPT TO:<lines@x.example>\r\n",
	} {
		f.Add([]byte(s), uint8(9))
	}
	f.Fuzz(func(t *testing.T, input []byte, size uint8) {
		in := &fakeIntake{}
		o := testOptions()
		o.MaxSize, o.MaxMessages = 1<<16, 20
		c, done, _ := pipeDoor(t, in, o)
		var out bytes.Buffer
		read := make(chan struct{})
		go func() {
			defer close(read)
			io.Copy(&out, c)
		}()
		step := int(size) + 1
		for i := 0; i < len(input); i += step {
			if _, err := c.Write(input[i:min(len(input), i+step)]); err != nil {
				break
			}
		}
		c.Close()
		<-done
		<-read
		text := out.String()
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text = text[:strings.LastIndex(text, "\n")+1]
		}
		checkReplies(t, text)
		for _, m := range in.messages {
			if !m.env.Binary && strings.ContainsAny(strings.ReplaceAll(string(m.body), "\r\n", ""), "\r\n\x00") {
				t.Errorf("took a message with a bare CR, LF or a NUL: %q", m.body)
			}
		}
		if in.begun != in.aborted+len(in.messages) {
			t.Errorf("%d transactions, %d aborted, %d messages", in.begun, in.aborted, len(in.messages))
		}
	})
}

func checkReplies(t *testing.T, text string) {
	t.Helper()
	ehlo := true // the banner and replies to EHLO have no enhanced codes
	for l := range strings.SplitSeq(strings.TrimSuffix(text, "\r\n"), "\r\n") {
		if l == "" && text == "" {
			return
		}
		if strings.HasPrefix(l, "250-relay.example") || l == "250 relay.example" || strings.HasPrefix(l, "220 relay") {
			ehlo = true
		}
		if !replyLine.MatchString(strings.Map(dropHigh, l)) || len(l) > 510 {
			t.Errorf("reply line %q", l)
		}
		if !ehlo && l[0] != '3' && !enhanced.MatchString(l) {
			t.Errorf("reply without an enhanced code: %q", l)
		}
		if l[3] == ' ' {
			ehlo = false
		}
	}
}

func dropHigh(r rune) rune {
	if r > 0x7f {
		return -1
	}
	return r
}
