package main_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// session is a submission client that sees every reply and may break off
// anywhere, as a mail library would not.
type session struct {
	conn net.Conn
	r    *bufio.Reader
}

// answer is one reply. Its code is 0 when the connection broke instead.
type answer struct {
	code int
	text string
}

func (a answer) String() string { return strconv.Itoa(a.code) + " " + a.text }

// dialSession connects by TLS and logs in.
func dialSession(addr, user, secret string) (*session, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, r: bufio.NewReader(conn)}
	if a := s.read(); a.code != 220 {
		return nil, s.broken("greeting", a)
	}
	if a := s.say("EHLO client.test"); a.code != 250 {
		return nil, s.broken("EHLO", a)
	}
	if a := s.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+secret))); a.code != 235 {
		return nil, s.broken("AUTH", a)
	}
	return s, nil
}

func (s *session) broken(what string, a answer) error {
	s.conn.Close()
	return fmt.Errorf("%s was answered %q", what, a)
}

// say sends a line and reads its reply.
func (s *session) say(line string) answer { return s.talk(line)[0] }

// talk sends lines together and reads the reply of each.
func (s *session) talk(lines ...string) []answer {
	answers := make([]answer, len(lines))
	_ = s.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := s.conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n")); err != nil {
		answers[0].text = err.Error()
		return answers
	}
	for i := range answers {
		if answers[i] = s.read(); answers[i].code == 0 {
			break
		}
	}
	return answers
}

// body sends a message with CRLF line ends, none of which begins with a dot,
// and its final dot.
func (s *session) body(text string) answer { return s.say(text + ".") }

func (s *session) read() (a answer) {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return answer{text: err.Error()}
		}
		code, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil || len(line) < 5 {
			return answer{text: "no reply: " + line}
		}
		a.code = code
		a.text += strings.TrimRight(line[4:], "\r\n")
		if line[3] != '-' {
			return a
		}
		a.text += "\n"
	}
}

// A session tells apart an answer from a connection that broke.
func TestSessionReplies(t *testing.T) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		_, _ = server.Write([]byte("250-one\r\n250 two\r\n550 no\r\n"))
	}()
	s := &session{conn: client, r: bufio.NewReader(client)}
	for _, want := range []answer{{250, "one\ntwo"}, {550, "no"}, {0, "EOF"}} {
		if got := s.read(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if err := s.broken("x", answer{0, "EOF"}); err == nil || errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
