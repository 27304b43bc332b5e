package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"behalf/mail"
)

// point is the command that a reply answers.
type point uint8

const (
	atGreeting point = 1 << iota
	atHello
	atAuth
	atMail
	atRcpt
	atData  // the answer to DATA itself
	atFinal // the answer to the final dot

	atStart   = atGreeting | atHello
	atContent = atData | atFinal
	anywhere  = 0xff
)

// situation is what a reply must be read in.
type situation struct {
	Peer   Peer
	At     point
	Host   string
	Single bool // the transaction has one recipient, so that a verdict on it is one on him
	// About is the transaction, whose addresses a reply may repeat; nil before any.
	About *Transaction
}

// outcome is what a rule makes of a reply.
type outcome struct {
	reason mail.Reason
	scope  mail.Scope
	soft   bool // temporary whatever the code says
}

// verdict judges a refusal. It is total: any code and text has one.
func verdict(s situation, r Reply) *mail.Failure {
	o := judge(s, r)
	if o.scope == mail.OfRecipient && s.At == atFinal && !s.Single {
		// Said about the message as a whole: it need not be true of each.
		o.scope, o.reason = mail.OfMessage, mail.ReasonRejected
	}
	f := &mail.Failure{Code: r.Code, Enhanced: r.Enhanced(), Scope: o.scope, Reason: o.reason,
		Stage: mail.StageSession, Remote: s.Host, Reply: r.Raw, Text: sentence(s, o, r)}
	if f.Code < 400 {
		f.Code = 451 // a 2xx or 3xx where none belongs
	}
	if o.soft && f.Code >= 500 {
		f.Code = 451
	}
	if f.Enhanced[0] != f.Code/100 {
		e := f.Enhanced
		if e.IsZero() || e[0] < 4 {
			e = usual(o.reason)
		}
		f.Enhanced = mail.Enhanced{f.Code / 100, e[1], e[2]}
	}
	if f.Temporary() {
		f.RetryAfter = retryAfter(s.withoutAddresses(strings.ToLower(r.Text())))
	}
	if s.Peer == SmartHost && s.At <= atAuth {
		f.Stage = mail.StageConnect // the account's server let us do nothing
	}
	return f
}

// judge looks for the first rule that fits.
func judge(s situation, r Reply) outcome {
	if r.Code < 400 {
		return outcome{mail.ReasonProtocol, mail.OfDestination, true}
	}
	text := withoutPaths(s.withoutAddresses(strings.ToLower(strings.Join(r.Lines(), " "))))
	e := r.Enhanced()
	mailbox := s.At&(atRcpt|atContent) != 0 && fitsEnhanced(ofMailbox, e)
	for i := range rules {
		if mailbox && rules[i].is.scope == mail.OfRoute {
			continue // whatever the words are, it speaks of the recipient
		}
		if rules[i].fits(s, r.Code, e, text) {
			return rules[i].is
		}
	}
	return unknown(s, r.Code)
}

// unknown is the verdict on a reply that no rule knows: temporary and the
// site's for 4xx; for 5xx as narrow as the command allows.
func unknown(s situation, code int) outcome {
	smart := s.Peer == SmartHost
	switch {
	case s.At&(atStart|atAuth) != 0 && smart:
		return outcome{mail.ReasonUnreachable, mail.OfRoute, true}
	case s.At&(atStart|atAuth) != 0 && code >= 500:
		return outcome{mail.ReasonBlocked, mail.OfDestination, true}
	case code < 500:
		return outcome{mail.ReasonTemporary, mail.OfDestination, false}
	case s.At == atMail && smart:
		return outcome{mail.ReasonSenderRefused, mail.OfRoute, false}
	case s.At == atRcpt:
		return outcome{mail.ReasonRejected, mail.OfRecipient, false}
	}
	return outcome{mail.ReasonRejected, mail.OfMessage, false}
}

// usual is the enhanced code that goes with a reason, its class aside.
func usual(r mail.Reason) mail.Enhanced {
	switch r {
	case mail.ReasonNoMailbox:
		return mail.Enhanced{5, 1, 1}
	case mail.ReasonNoDomain:
		return mail.Enhanced{5, 1, 2}
	case mail.ReasonMailboxFull:
		return mail.Enhanced{5, 2, 2}
	case mail.ReasonTooLarge:
		return mail.Enhanced{5, 3, 4}
	case mail.ReasonAuth:
		return mail.Enhanced{5, 7, 8}
	case mail.ReasonTLS:
		return mail.Enhanced{4, 7, 10}
	case mail.ReasonLoop:
		return mail.Enhanced{5, 4, 6}
	case mail.ReasonProtocol:
		return mail.Enhanced{5, 5, 0}
	case mail.ReasonContent, mail.ReasonBlocked, mail.ReasonRate, mail.ReasonSenderRefused, mail.ReasonUnauthentic:
		return mail.Enhanced{5, 7, 1}
	}
	return mail.Enhanced{5, 0, 0}
}

// sentence says for people what happened. The reply itself stands beside it.
func sentence(s situation, o outcome, r Reply) string {
	host := s.Host
	if o.scope == mail.OfRoute {
		switch o.reason {
		case mail.ReasonAuth:
			return host + " refused the log-in of the account; check its username and password"
		case mail.ReasonSenderRefused:
			return host + " does not let the account send as this sender; add the address there, or send from another one"
		case mail.ReasonRate:
			return host + " says that the account has reached a sending limit; it is tried again later"
		case mail.ReasonTLS:
			return host + " wants TLS; set security of the connection to starttls or tls"
		case mail.ReasonRejected:
			return host + " does not relay mail for the account; check the connection's host, port and log-in"
		}
		if s.At > atAuth {
			return host + " could not take the message now: " + brief(r)
		}
		return host + " refused the session: " + brief(r)
	}
	switch o.reason {
	case mail.ReasonNoMailbox:
		return host + " says that there is no such mailbox; check the address"
	case mail.ReasonNoDomain:
		return host + " says that the recipient's domain takes no mail; check the address"
	case mail.ReasonMailboxFull:
		return host + " says that the recipient's mailbox is full"
	case mail.ReasonTooLarge:
		return host + " says that the message is too large for it; send it with smaller attachments"
	case mail.ReasonContent:
		return host + " refused the message for its content: " + brief(r)
	case mail.ReasonBlocked:
		return host + " blocks mail from here for reputation: " + brief(r)
	case mail.ReasonRate:
		return host + " asks to slow down or to come back later: " + brief(r)
	case mail.ReasonUnauthentic:
		return host + " found the message not authenticated (SPF, DKIM, DMARC): " + brief(r)
	case mail.ReasonSenderRefused:
		return host + " refused the sender: " + brief(r)
	case mail.ReasonTLS:
		return host + " wants TLS and would not start it with us"
	case mail.ReasonLoop:
		return host + " says that the message goes round in a loop"
	case mail.ReasonCannotCarry:
		return host + " cannot carry the message: " + brief(r)
	case mail.ReasonProtocol:
		return host + " did not understand a command of SMTP: " + brief(r)
	case mail.ReasonTemporary:
		return host + " could not take the message now: " + brief(r)
	}
	return host + " refused the message: " + brief(r)
}

// brief is the reply's text, cut for a sentence.
func brief(r Reply) string {
	t := strings.ToValidUTF8(r.Text(), "?")
	if t == "" {
		return "reply " + strconv.Itoa(r.Code) + " without a text"
	}
	if len(t) > 200 {
		t = strings.ToValidUTF8(t[:200], "") + "…"
	}
	return t
}

// refused is the verdict on a reply before any transaction.
func (c *Client) refused(at point, r Reply) *mail.Failure {
	return verdict(situation{Peer: c.cfg.Peer, At: at, Host: c.cfg.Host}, r)
}

// trouble is the verdict on what is no reply. It is always temporary, for only
// a server's word is final.
func (c *Client) trouble(ctx context.Context, err error, stage mail.Stage) *mail.Failure {
	f := c.cause(ctx, err, stage)
	if f.Remote == "" && f.Scope != mail.OfUs {
		f.Remote = c.cfg.Host
	}
	return f
}

func (c *Client) cause(ctx context.Context, err error, stage mail.Stage) *mail.Failure {
	var f *mail.Failure
	var own *ownError
	var tlsErr *tlsError
	host := c.cfg.Host
	switch {
	case stage == mail.StageFinal:
		f = mail.Fail(451, mail.Enhanced{4, 4, 2}, mail.OfDestination, mail.ReasonUnresolved,
			"%s did not say whether it took the message; it is asked again, and the message may arrive twice", host)
		f.Err = err
	case errors.As(err, &f):
		return f
	case errors.Is(err, errBareLine):
		f = mail.Fail(554, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonCannotCarry,
			"the message has line ends that SMTP cannot carry; submit it again with CRLF line ends")
	case errors.As(err, &own):
		return mail.AsFailure(own.err)
	case context.Cause(ctx) != nil && errors.Is(ctx.Err(), context.Canceled):
		f = mail.Fail(451, mail.Enhanced{4, 3, 0}, mail.OfUs, mail.ReasonInternal, "the attempt was interrupted here; it is made again")
		f.Err = context.Cause(ctx)
		return f
	case errors.Is(err, errOver):
		return c.over()
	case errors.As(err, &tlsErr):
		f = mail.Fail(451, mail.Enhanced{4, 7, 10}, mail.OfDestination, mail.ReasonTLS, "%s %w", host, tlsErr)
		if c.cfg.Peer == SmartHost {
			f.Scope = mail.OfRoute
		}
	case errors.Is(err, errProtocol):
		f = mail.Fail(451, mail.Enhanced{4, 5, 0}, c.blamed(), mail.ReasonProtocol, "talking to %s: %w", host, err)
	case timeout(err):
		f = mail.Fail(451, mail.Enhanced{4, 4, 1}, c.blamed(), mail.ReasonUnreachable, "%s did not answer in time", host)
		f.Err = err
	default:
		f = mail.Fail(451, mail.Enhanced{4, 4, 2}, c.blamed(), mail.ReasonUnreachable, "%s closed the connection", host)
		f.Err = err
	}
	f.Stage = stage
	return f
}

// over is the verdict on a session that the server ended, by the last refusal
// that it gave.
func (c *Client) over() *mail.Failure {
	if c.last.Code/100 != 4 {
		return mail.Fail(451, mail.Enhanced{4, 4, 2}, c.blamed(), mail.ReasonUnreachable, "%s closed the connection", c.cfg.Host)
	}
	f := verdict(situation{Peer: c.cfg.Peer, At: c.at, Host: c.cfg.Host, About: c.about}, c.last)
	if f.Scope == mail.OfRecipient { // it goes for those who were not asked about too
		f.Scope, f.Reason = mail.OfDestination, mail.ReasonTemporary
	}
	return f
}

// blamed is whose fault it is that a session failed without a word: of a smart
// host that did not even answer MAIL it is the route's, for no destination was
// asked.
func (c *Client) blamed() mail.Scope {
	if c.cfg.Peer == SmartHost && c.at == atMail {
		return mail.OfRoute
	}
	return mail.OfDestination
}

// Unreachable is the failure of a host that no connection could be made to.
func Unreachable(host string, err error) *mail.Failure {
	f := mail.Fail(451, mail.Enhanced{4, 4, 1}, mail.OfDestination, mail.ReasonUnreachable, "%s could not be reached", host)
	f.Stage, f.Remote, f.Err = mail.StageConnect, host, fmt.Errorf("dialling %s: %w", host, err)
	return f
}

// retryAfter reads "in 5 minutes", "after 300 seconds", "wait 00:05:00" and
// their like out of a reply; 0 when it says nothing of the kind.
func retryAfter(text string) time.Duration {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune(" \t,;()[]<>=", r) })
	for i, w := range words {
		if i == 0 || !leadsToTime(words[i-1]) {
			continue
		}
		if d, ok := clock(w); ok {
			return min(d, maxWait)
		}
		n := 0
		for n < len(w) && isDigit(w[n]) {
			n++
		}
		if n == 0 || n > 6 {
			continue
		}
		count, _ := strconv.Atoi(w[:n])
		unit := w[n:]
		if unit == "" && i+1 < len(words) {
			unit = words[i+1]
		}
		if d := unitOf(unit); d > 0 {
			return min(time.Duration(count)*d, maxWait)
		}
	}
	return 0
}

const maxWait = 24 * time.Hour

func leadsToTime(w string) bool {
	switch strings.Trim(w, ".:'\"") {
	case "in", "after", "for", "wait", "least", "within", "another", "delay", "retry", "about", "back":
		return true
	}
	return false
}

// unitOf is the time a word such as "seconds", "min." or "h" stands for.
func unitOf(w string) time.Duration {
	switch strings.TrimRight(w, ".!:'\"") {
	case "s", "sec", "secs", "second", "seconds":
		return time.Second
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute
	case "h", "hr", "hrs", "hour", "hours":
		return time.Hour
	}
	return 0
}

// clock reads 00:05:00.
func clock(w string) (time.Duration, bool) {
	t, err := time.Parse("15:04:05", strings.TrimRight(w, ".!"))
	if err != nil {
		return 0, false
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second, true
}
