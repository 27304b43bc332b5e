package smtppeer

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// command does one command; false ends the session.
func (s *session) command(line string) bool {
	verb, args, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	switch verb {
	case "EHLO":
		return s.step(verb, line, s.greeting())
	case "HELO":
		return s.step(verb, line, "250 peer.test")
	case "STARTTLS":
		return s.starttls(line)
	case "AUTH":
		return s.auth(line, args)
	case "MAIL":
		return s.mail(line)
	case "RCPT":
		return s.rcpt(line)
	case "DATA":
		return s.data(line)
	case "BDAT":
		return s.bdat(line, args)
	case "RSET":
		s.cur, s.open, s.chunks = Message{}, false, nil
		return s.step(verb, line, "250 2.0.0 flushed")
	case "NOOP":
		return s.step(verb, line, "250 2.0.0 ok")
	case "QUIT":
		s.step(verb, line, "221 2.0.0 bye")
		return false
	}
	return s.step(verb, line, "500 5.5.2 unknown command")
}

func (s *session) greeting() string {
	ext := slices.Clone(s.p.o.Ext)
	if s.p.o.TLS != nil && !s.tls {
		ext = append(ext, "STARTTLS")
	}
	if len(s.p.o.Auth) > 0 {
		ext = append(ext, "AUTH "+strings.Join(s.p.o.Auth, " "))
	}
	lines := append([]string{"peer.test"}, ext...)
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		if s.p.o.LowerCase {
			lines[i] = strings.ToLower(lines[i])
		}
		lines[i] = "250" + sep + lines[i]
	}
	return strings.Join(lines, "\r\n")
}

func (s *session) starttls(line string) bool {
	if s.p.o.TLS == nil || s.tls {
		return s.step("STARTTLS", line, "502 5.5.1 no TLS here")
	}
	ok, code := s.decide("STARTTLS", line, "220 2.0.0 go")
	if !ok || code != 220 {
		return ok
	}
	s.w.Flush()
	return s.startTLS()
}

// path takes "<a@b> ARGS" apart.
func path(line string) (addr, args string) {
	_, rest, _ := strings.Cut(line, "<")
	end := strings.LastIndexByte(rest, '>')
	if end < 0 {
		return rest, ""
	}
	return rest[:end], strings.TrimSpace(rest[end+1:])
}

func (s *session) mail(line string) bool {
	if s.open {
		return s.step("MAIL", line, "503 5.5.1 nested MAIL")
	}
	s.txn++
	ok, code := s.decide("MAIL", line, "250 2.1.0 ok")
	if code/100 == 2 {
		s.open = true
		s.cur = Message{TLS: s.tls, Conn: s.n, User: s.user}
		s.cur.From, s.cur.FromArgs = path(line)
	}
	return ok
}

func (s *session) rcpt(line string) bool {
	usual := "250 2.1.5 ok"
	if !s.open {
		usual = "503 5.5.1 MAIL first"
	}
	ok, code := s.decide("RCPT", line, usual)
	if code/100 == 2 {
		to, args := path(line)
		s.cur.To, s.cur.ToArgs = append(s.cur.To, to), append(s.cur.ToArgs, args)
	}
	return ok
}

func (s *session) data(line string) bool {
	usual := "354 go ahead"
	if len(s.cur.To) == 0 {
		usual = "554 5.5.1 no valid recipients"
	}
	ok, code := s.decide("DATA", line, usual)
	if !ok || code != 354 {
		return ok
	}
	s.w.Flush()
	var b strings.Builder
	for {
		l, err := s.r.ReadString('\n')
		if err != nil {
			return false
		}
		if l == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(l, "."))
	}
	return s.taken("DOT", b.String())
}

func (s *session) taken(verb, data string) bool {
	usual := "250 2.0.0 queued"
	if len(s.cur.To) == 0 {
		usual = "554 5.5.1 no valid recipients"
	}
	ok, code := s.decide(verb, "", usual)
	if code/100 == 2 {
		s.cur.Data = data
		s.p.mu.Lock()
		s.p.msgs = append(s.p.msgs, s.cur)
		s.p.mu.Unlock()
	}
	s.cur, s.open, s.chunks = Message{}, false, nil
	return ok
}

func (s *session) bdat(line, args string) bool {
	var n int
	last := strings.HasSuffix(strings.ToUpper(args), " LAST")
	if _, err := fmt.Sscan(args, &n); err != nil || n < 0 {
		return s.step("BDAT", line, "501 5.5.4 bad size")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return false
	}
	s.chunks = append(s.chunks, b...)
	if !last {
		return s.step("BDAT", line, "250 2.0.0 more")
	}
	return s.taken("BDAT", string(s.chunks))
}
