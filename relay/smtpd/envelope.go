package smtpd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"behalf/mail"
	"behalf/relay"
)

// refusal is a command's protocol error: what wrong is told.
type refusal struct {
	code int
	e    mail.Enhanced
	text string
}

func (r *refusal) Error() string { return r.text }

func bad(code int, e mail.Enhanced, format string, args ...any) *refusal {
	return &refusal{code, e, fmt.Sprintf(format, args...)}
}

// mail is MAIL FROM.
func (s *session) mail(ctx context.Context, arg string) error {
	switch {
	case s.client.Helo == "":
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "say EHLO first")
	case s.client.TLS == "":
		return s.wrong(530, mail.Enhanced{5, 7, 0}, "say STARTTLS first, then log in with AUTH")
	case s.who == nil:
		return s.wrong(530, mail.Enhanced{5, 7, 0}, "log in with AUTH first")
	case s.tx != nil:
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "a transaction is open; end it or send RSET")
	case s.mails >= s.srv.o.MaxMessages:
		s.reply(421, mail.Enhanced{4, 5, 3}, "that is all for this session; connect again")
		return errHungUp
	}
	if s.srv.o.Shed != nil {
		if f := s.srv.o.Shed(); f != nil {
			return s.refuse(ctx, stageMail, f)
		}
	}
	env, size, r := parseMail(arg, s.srv.o.MaxSize)
	if r != nil {
		s.srv.o.Metrics.rejected(stageMail, r.code)
		return s.wrong(r.code, r.e, r.text)
	}
	began := time.Now()
	tx, err := s.srv.intake.Begin(ctx, s.who, s.client, env, size)
	if err != nil {
		return s.refuse(ctx, stageMail, err)
	}
	s.tx, s.env, s.until = tx, env, began.Add(relay.MaxTransaction)
	s.mails++
	s.chatter = 0
	s.reply(250, mail.Enhanced{2, 1, 0}, "sender OK")
	return nil
}

// parseMail reads the argument of MAIL; size is what SIZE declared, or 0.
func parseMail(arg string, maxSize int64) (env mail.Envelope, size int64, r *refusal) {
	raw, from, params, err := pathArg(arg, "FROM:")
	if r := pathRefusal(err, "MAIL FROM:<address>", mail.Enhanced{5, 1, 7}); r != nil {
		return env, 0, r
	}
	if from.Domain == "" && !from.IsZero() {
		return env, 0, bad(501, mail.Enhanced{5, 1, 7}, "the sender's address needs a domain")
	}
	env.From = from
	for _, p := range params {
		if p.key == "SIZE" {
			var ok bool
			if size, ok = parseOctets(p.value); !ok {
				return env, 0, bad(501, mail.Enhanced{5, 5, 4}, "SIZE wants a number of octets")
			}
			if size > maxSize {
				return env, 0, bad(552, mail.Enhanced{5, 3, 4}, "the message is too large; at most %d octets are taken", maxSize)
			}
			continue
		}
		if r := mailParam(&env, p); r != nil {
			return env, 0, r
		}
	}
	if !env.UTF8 && !printable(raw) {
		return env, 0, bad(553, mail.Enhanced{5, 6, 7}, "an address that is not ASCII needs the parameter SMTPUTF8")
	}
	return env, size, nil
}

// mailParam puts one parameter of MAIL into env.
func mailParam(env *mail.Envelope, p param) *refusal {
	ok := p.has
	switch p.key {
	case "BODY":
		switch strings.ToUpper(p.value) {
		case "7BIT":
		case "8BITMIME":
			env.EightBit = true
		case "BINARYMIME":
			env.EightBit, env.Binary = true, true
		default:
			ok = false
		}
	case "SMTPUTF8":
		env.UTF8, ok = true, !p.has
	case "REQUIRETLS":
		env.RequireTLS, ok = true, !p.has
	case "RET":
		env.Ret = mail.Ret(strings.ToUpper(p.value))
		ok = env.Ret == mail.RetFull || env.Ret == mail.RetHeaders
	case "ENVID":
		env.EnvID, ok = decodeXtext(p.value)
		ok = ok && env.EnvID != "" && len(p.value) <= 100 && printable(env.EnvID)
	case "AUTH": // RFC 4954, section 5: we trust nobody's word on it
		_, ok = decodeXtext(p.value)
		ok = ok || p.value == "<>"
	default:
		return bad(555, mail.Enhanced{5, 5, 4}, "the parameter %s is not known here", p.key)
	}
	if !ok {
		return bad(501, mail.Enhanced{5, 5, 4}, "the value of %s is not valid", p.key)
	}
	return nil
}

// pathRefusal tells what is wrong with the argument of MAIL or RCPT.
func pathRefusal(err error, syntax string, e mail.Enhanced) *refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errParam):
		return bad(501, mail.Enhanced{5, 5, 4}, "a parameter is malformed or stands twice")
	case errors.Is(err, mail.ErrAddress):
		return bad(501, e, "%v", err)
	}
	return bad(501, mail.Enhanced{5, 5, 4}, "the form is %s", syntax)
}

// rcpt is RCPT TO.
func (s *session) rcpt(ctx context.Context, arg string) error {
	switch {
	case s.tx == nil:
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "say MAIL first")
	case s.chunks != nil:
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "the message has begun; finish it or send RSET")
	case s.rcpts >= s.srv.o.MaxRecipients:
		s.refused++
		s.srv.o.Metrics.rejected(stageRcpt, 452)
		const text = "too many recipients; send to the others in another transaction"
		if s.excess++; s.excess%excessAnError == 0 {
			return s.wrong(452, mail.Enhanced{4, 5, 3}, text)
		}
		s.reply(452, mail.Enhanced{4, 5, 3}, text)
		return nil
	}
	rcpt, r := parseRcpt(arg, s.env.UTF8)
	if r != nil {
		s.srv.o.Metrics.rejected(stageRcpt, r.code)
		return s.wrong(r.code, r.e, r.text)
	}
	s.rcpts++
	if err := s.tx.Recipient(ctx, rcpt); err != nil {
		return s.refuse(ctx, stageRcpt, err)
	}
	s.taken++
	s.reply(250, mail.Enhanced{2, 1, 5}, "recipient OK")
	return nil
}

// parseRcpt reads the argument of RCPT.
func parseRcpt(arg string, utf8Allowed bool) (rcpt mail.Recipient, r *refusal) {
	raw, to, params, err := pathArg(arg, "TO:")
	if r := pathRefusal(err, "RCPT TO:<address>", mail.Enhanced{5, 1, 3}); r != nil {
		return rcpt, r
	}
	if to.IsZero() {
		return rcpt, bad(501, mail.Enhanced{5, 1, 3}, "the recipient's address is empty")
	}
	if !utf8Allowed && !printable(raw) {
		return rcpt, bad(553, mail.Enhanced{5, 6, 7}, "an address that is not ASCII needs MAIL with SMTPUTF8")
	}
	rcpt.Address = to
	for _, p := range params {
		var ok bool
		switch p.key {
		case "NOTIFY":
			rcpt.Notify, ok = parseNotify(p.value)
		case "ORCPT":
			rcpt.ORcpt, ok = decodeORcpt(p.value, utf8Allowed)
		default:
			return rcpt, bad(555, mail.Enhanced{5, 5, 4}, "the parameter %s is not known here", p.key)
		}
		if !ok {
			return rcpt, bad(501, mail.Enhanced{5, 5, 4}, "the value of %s is not valid", p.key)
		}
	}
	return rcpt, nil
}
