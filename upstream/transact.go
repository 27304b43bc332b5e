package upstream

import (
	"context"
	"slices"
	"time"

	"behalf/internal/smtpclient"
	"behalf/mail"
)

// A Dial opens a session for an attempt.
type Dial func(ctx context.Context) (*smtpclient.Client, error)

// Transact makes the attempt j through a leased session, dialling when there is
// none. It returns one Result for each target. The lease stays the caller's.
//
// A session that turns out to be over before anything was taken, because it
// idled or served its share of messages, is replaced by a fresh one: that is no
// retry, for the peer was never asked. A fresh session that ends in the same
// way, with nothing taken, ends the attempt.
func Transact(ctx context.Context, l *smtpclient.Lease, dial Dial, j *Job, start time.Time) []Result {
	a := &attempt{}
	out := a.out[:]
	if len(j.To) != 1 {
		out = make([]Result, len(j.To))
	}
	var few [8]int
	todo := few[:0]
	for i := range out {
		todo = append(todo, i)
	}
	for len(todo) > 0 {
		if l.Client == nil {
			c, err := dial(ctx)
			if err != nil {
				f := mail.AsFailure(err)
				fill(out, todo, Result{Failure: f, Host: f.Remote, Reply: f.Reply}, start)
				return out
			}
			l.Client = c
		}
		fresh := l.Client.Spent() == 0
		left := a.once(ctx, l.Client, j, todo, out, start)
		if len(left) > 0 {
			l.Drop()
		}
		if fresh && !anyTaken(out, todo) || ctx.Err() != nil {
			return out
		}
		todo = left
	}
	return out
}

// attempt has room for what a job of one recipient needs, which most are.
type attempt struct {
	out   [1]Result
	rcpts [1]smtpclient.Rcpt
	txns  [1]smtpclient.Transaction
}

func anyTaken(out []Result, which []int) bool {
	return slices.ContainsFunc(which, func(i int) bool { return out[i].Failure == nil })
}

func fill(out []Result, which []int, r Result, start time.Time) {
	r.Start, r.Took = start, time.Since(start)
	for _, i := range which {
		out[i] = r
	}
}

// once sends the targets todo over one session and returns those of them that
// may be sent again in a fresh one.
func (a *attempt) once(ctx context.Context, c *smtpclient.Client, j *Job, todo []int, out []Result, start time.Time) (left []int) {
	about := Result{Host: c.Host(), Addr: c.Addr(), TLS: c.TLS()}
	refuse := func(which []int, f *mail.Failure) {
		r := about
		r.Failure = f
		fill(out, which, r, start)
	}
	caps := c.Caps()
	m, err := j.Render(ctx, hopCaps(caps))
	if err != nil {
		refuse(todo, mail.AsFailure(err))
		return nil
	}
	if f := carry(c, j, m); f != nil {
		refuse(todo, f)
		return nil
	}
	todo = fitting(c, j, todo, refuse)
	txns := a.group(j, todo, burst(caps))
	env := smtpclient.Envelope{EnvID: j.Message.Envelope.EnvID, Ret: j.Message.Envelope.Ret,
		RequireTLS: j.Message.Envelope.RequireTLS, Binary: caps.BinaryMIME && j.Message.Body.Binary}
	c.Send(ctx, env, m, txns)
	about.Signed = m.Signed()
	about.Start, about.Took = start, time.Since(start)
	for t := range txns {
		for _, a := range txns[t].Answers {
			i := todo[0]
			todo = todo[1:]
			out[i] = about
			out[i].Failure, out[i].Reply = a.Failure, a.Reply
			if a.Lost {
				left = append(left, i)
			}
		}
	}
	return left
}

func hopCaps(c smtpclient.Caps) Caps {
	return Caps{EightBitMIME: c.EightBitMIME, SMTPUTF8: c.SMTPUTF8, Chunking: c.Chunking, BinaryMIME: c.BinaryMIME,
		DSN: c.DSN, RequireTLS: c.RequireTLS, Size: c.Size}
}

// carry says why the hop cannot carry the message at all; nil when it can.
func carry(c *smtpclient.Client, j *Job, m Rendered) *mail.Failure {
	caps, host := c.Caps(), c.Host()
	fail := func(code int, e mail.Enhanced, r mail.Reason, what string) *mail.Failure {
		f := mail.Fail(code, e, mail.OfMessage, r, "%s %s", host, what)
		f.Stage, f.Remote = mail.StageSession, host
		return f
	}
	switch {
	case j.Message.Envelope.RequireTLS && !(caps.RequireTLS && c.Verified()):
		return fail(550, mail.Enhanced{5, 7, 30}, mail.ReasonCannotCarry, "does not offer REQUIRETLS, which the sender asked for (RFC 8689)")
	case m.UTF8() && !caps.SMTPUTF8:
		return fail(553, mail.Enhanced{5, 6, 7}, mail.ReasonCannotCarry, "does not offer SMTPUTF8, and header fields of the message need it")
	case m.EightBit() && !caps.EightBitMIME:
		return fail(554, mail.Enhanced{5, 6, 3}, mail.ReasonCannotCarry, "does not offer 8BITMIME, and the message needs it")
	case caps.Size > 0 && m.Size() > caps.Size:
		f := fail(552, mail.Enhanced{5, 3, 4}, mail.ReasonTooLarge, "")
		f.Text = mail.Fail(552, mail.Enhanced{}, 0, "", "the message has %d octets and %s takes at most %d; send it with smaller attachments", m.Size(), host, caps.Size).Text
		return f
	}
	return nil
}

// fitting leaves out the targets whose addresses the hop cannot take.
func fitting(c *smtpclient.Client, j *Job, todo []int, refuse func([]int, *mail.Failure)) []int {
	ascii := func(i int) bool { return j.To[i].To.ASCII() && j.To[i].From.ASCII() }
	wide := func(i int) bool { return !ascii(i) }
	if c.Caps().SMTPUTF8 || !slices.ContainsFunc(todo, wide) {
		return todo
	}
	var fit, not []int
	for _, i := range todo {
		if ascii(i) {
			fit = append(fit, i)
		} else {
			not = append(not, i)
		}
	}
	if len(not) > 0 {
		f := mail.Fail(553, mail.Enhanced{5, 6, 7}, mail.OfRecipient, mail.ReasonCannotCarry,
			"%s does not offer SMTPUTF8, and the address needs it; use an address in ASCII", c.Host())
		f.Stage, f.Remote = mail.StageSession, c.Host()
		refuse(not, f)
	}
	return fit
}

// burst is how many recipients a transaction may have.
func burst(c smtpclient.Caps) int {
	if c.MaxRcpt > 0 {
		return min(c.MaxRcpt, smtpclient.MaxBurst)
	}
	return smtpclient.MaxBurst
}

// group makes transactions of neighbours with equal From. Their recipients are
// the targets todo, in that order.
func (a *attempt) group(j *Job, todo []int, most int) (txns []smtpclient.Transaction) {
	rcpts, txns := a.rcpts[:], a.txns[:0]
	if len(todo) > len(rcpts) {
		rcpts = make([]smtpclient.Rcpt, len(todo))
	}
	for k, i := range todo {
		t := &j.To[i]
		rcpts[k] = smtpclient.Rcpt{To: t.To, ORcpt: t.ORcpt}
		n := len(txns) - 1
		if n < 0 || txns[n].From != t.From || len(txns[n].To) == most {
			txns = append(txns, smtpclient.Transaction{From: t.From, To: rcpts[k:k]})
			n++
		}
		txns[n].To = txns[n].To[:len(txns[n].To)+1]
	}
	return txns
}
