package smtpclient

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"behalf/mail"
)

// MaxBurst is how many recipients one transaction may have. Every server takes
// as many (RFC 5321, section 4.5.3.1.8), and a burst of them cannot fill the
// buffers of both sides while nobody reads.
const MaxBurst = 100

// Message is what a transaction carries. A mail that is rendered for a hop is one.
type Message interface {
	Size() int64 // octets before dot-stuffing
	EightBit() bool
	UTF8() bool
	// Prepare is called once, after DATA was sent and before its reply is read.
	Prepare(context.Context) error
	io.WriterTo // with CRLF line ends; may be called again
}

// Envelope is what the transactions of a job have in common.
type Envelope struct {
	EnvID      string // as the client gave it, decoded
	Ret        mail.Ret
	RequireTLS bool
	Binary     bool // BODY=BINARYMIME, by BDAT
}

// Rcpt is one recipient.
type Rcpt struct {
	To    mail.Address
	ORcpt string // with its type, decoded; empty: To itself
}

// Transaction is one MAIL with its recipients. Send fills in Answers.
type Transaction struct {
	From    mail.Address
	To      []Rcpt
	Answers []Answer // one for each of To
	one     [1]Answer
}

// Answer is what became of a recipient.
type Answer struct {
	Failure *mail.Failure // nil: taken
	Reply   string        // the last about this recipient; empty when there was none
	// Lost is set when the session ended before the final dot, so that trying
	// again in a fresh session cannot make a duplicate.
	Lost bool
	done bool
}

// job is the state of one call of Send.
type job struct {
	c     *Client
	env   Envelope
	m     Message
	ready bool // Prepare was called
}

// Send makes the transactions, one after the other, each with at most MaxBurst
// recipients. It returns when every recipient has its answer.
func (c *Client) Send(ctx context.Context, env Envelope, m Message, txns []Transaction) {
	c.bind(ctx)
	defer func() {
		c.about = nil
		c.giveBack()
		c.unbind()
	}()
	for i := range txns {
		t := &txns[i]
		if t.Answers = t.one[:]; len(t.To) != 1 {
			t.Answers = make([]Answer, len(t.To))
		}
	}
	j := job{c, env, m, false}
	err := j.run(ctx, txns)
	if err == nil {
		return
	}
	// The session is over. What has no answer by now was not taken.
	c.broken = true
	for i := range txns {
		f := c.trouble(ctx, err, mail.StageSession)
		lost := f.Scope != mail.OfUs && f.Scope != mail.OfMessage
		txns[i].settle(Answer{Failure: f, Reply: f.Reply, Lost: lost})
		if c.about == &txns[i] {
			c.at = atMail // the others did not come to more
		}
	}
}

// settle answers those that have no answer yet.
func (t *Transaction) settle(a Answer) {
	a.done = true
	for i := range t.Answers {
		if !t.Answers[i].done {
			t.Answers[i] = a
		}
	}
}

func (t *Transaction) open() (n int) {
	for i := range t.Answers {
		if !t.Answers[i].done {
			n++
		}
	}
	return n
}

// run goes through the transactions. With PIPELINING the envelope of the next
// goes out together with the content of the former (RFC 2920, section 3.1).
func (j *job) run(ctx context.Context, txns []Transaction) error {
	ahead := false
	for i := range txns {
		t := &txns[i]
		j.c.about, j.c.at = t, atMail
		if j.c.broken {
			return errOver
		}
		j.c.spent++
		if !ahead {
			if err := j.begin(t); err != nil {
				return err
			}
		}
		var next *Transaction
		if i+1 < len(txns) && j.c.caps.Pipelining && !j.env.Binary {
			next = &txns[i+1]
		}
		var err error
		if ahead, err = j.finish(ctx, t, next); err != nil {
			return err
		}
	}
	return nil
}

// errOver ends a job whose session the server has ended with 421.
var errOver = errors.New("the server ended the session")

// begin sends the commands of the envelope: all of them in one burst with
// PIPELINING, else none, because finish then sends each after the last reply.
func (j *job) begin(t *Transaction) error {
	if !j.c.caps.Pipelining {
		return nil
	}
	j.envelope(t)
	return j.c.out().Flush()
}

// finish completes t. It returns whether the envelope of next is on its way.
func (j *job) finish(ctx context.Context, t, next *Transaction) (ahead bool, err error) {
	var data Reply
	if j.c.caps.Pipelining {
		data, err = j.readBurst(ctx, t)
	} else {
		data, err = j.stepByStep(ctx, t)
	}
	if err != nil {
		return false, err
	}
	switch {
	case j.c.broken:
		return false, errOver
	case data.Code == 0: // no DATA was sent
		j.c.dirty = true
		return false, nil
	case data.Code/100 == 3 && t.open() == 0:
		return j.nothing()
	case data.Code/100 == 3:
		return j.content(ctx, t, next)
	case data.Positive():
		return false, errBadData
	}
	j.judge(t, atData, data)
	j.c.dirty = true
	return false, nil
}

var errBadData = errors.New("the server answered DATA with 2xx: " + errProtocol.Error())

// readBurst prepares the message while the server works, then reads what it
// answered to the burst.
func (j *job) readBurst(ctx context.Context, t *Transaction) (data Reply, err error) {
	if err := j.prepare(ctx); err != nil {
		return data, err
	}
	if j.c.dirty {
		if _, err := j.read(atMail); err != nil {
			return data, err
		}
		j.c.dirty = false
	}
	r, err := j.read(atMail)
	if err != nil {
		return data, err
	}
	if j.usedUp(r) {
		return data, errOver
	}
	if !r.Positive() {
		j.judge(t, atMail, r)
	}
	for i := range t.To {
		if r, err = j.read(atRcpt); err != nil {
			return data, err
		}
		if !r.Positive() && !t.Answers[i].done {
			t.Answers[i] = j.answer(t, atRcpt, r)
		}
	}
	if j.env.Binary {
		return j.chunk(t)
	}
	return j.read(atData)
}

// stepByStep waits for each reply before the next command.
func (j *job) stepByStep(ctx context.Context, t *Transaction) (data Reply, err error) {
	if j.c.dirty {
		j.c.out().WriteString("RSET\r\n")
		if _, err := j.turn(atMail); err != nil {
			return data, err
		}
		j.c.dirty = false
	}
	j.mail(t)
	r, err := j.turn(atMail)
	if err != nil {
		return data, err
	}
	if j.usedUp(r) {
		return data, errOver
	}
	if !r.Positive() {
		j.judge(t, atMail, r)
		return data, nil
	}
	for i := range t.To {
		j.rcpt(&t.To[i])
		if r, err = j.turn(atRcpt); err != nil {
			return data, err
		}
		if !r.Positive() {
			t.Answers[i] = j.answer(t, atRcpt, r)
		}
	}
	if t.open() == 0 {
		return data, nil
	}
	if j.env.Binary {
		if err := j.prepare(ctx); err != nil {
			return data, err
		}
		return j.chunk(t)
	}
	j.c.out().WriteString("DATA\r\n")
	if err := j.c.out().Flush(); err != nil {
		return data, err
	}
	if err := j.prepare(ctx); err != nil {
		return data, err
	}
	return j.read(atData)
}

// chunk announces the whole content as the last chunk (RFC 3030), to which no
// reply comes before it was sent. Code 0 says that nobody is left to get it.
func (j *job) chunk(t *Transaction) (Reply, error) {
	if t.open() == 0 || j.c.broken {
		return Reply{}, nil
	}
	j.c.out().WriteString("BDAT " + strconv.FormatInt(j.m.Size(), 10) + " LAST\r\n")
	return Reply{Code: 354}, nil
}

func (j *job) turn(at point) (Reply, error) {
	if err := j.c.out().Flush(); err != nil {
		return Reply{}, err
	}
	return j.read(at)
}

// read reads the reply to the command; one of 421 ends the session and so the
// burst.
func (j *job) read(at point) (Reply, error) {
	j.c.at = at
	r, err := j.c.readReply(j.c.cfg.Wait.Command, &j.c.known)
	if err == nil && r.Code == 421 {
		return r, errOver
	}
	return r, err
}

// usedUp reports whether the answer to MAIL says only that this session had its
// share of messages.
func (j *job) usedUp(r Reply) bool {
	if r.Code/100 != 4 || j.c.spent < 2 {
		return false
	}
	text := strings.ToLower(r.Raw)
	return strings.Contains(text, "session") || strings.Contains(text, "connection") || strings.Contains(text, "too many messages")
}

func (j *job) prepare(ctx context.Context) error {
	if j.ready {
		return nil
	}
	if err := j.m.Prepare(ctx); err != nil {
		return &ownError{err}
	}
	j.ready = true
	return nil
}

// nothing ends a DATA that a server granted though it refused everybody.
func (j *job) nothing() (bool, error) {
	j.c.out().WriteString(".\r\n")
	_, err := j.turn(atFinal)
	return false, err
}

// content sends the message and waits for the verdict on it.
func (j *job) content(ctx context.Context, t, next *Transaction) (ahead bool, err error) {
	final, err := j.write(next)
	if err != nil && !final {
		return false, j.early(t, err)
	}
	var r Reply
	if err == nil {
		r, err = j.c.readReply(j.c.cfg.Wait.Final, nil)
	}
	if err != nil {
		f := j.c.trouble(ctx, err, mail.StageFinal)
		t.settle(Answer{Failure: f, Reply: f.Reply})
		return false, err
	}
	if r.Positive() {
		t.settle(Answer{Reply: r.Raw})
	} else {
		j.judge(t, atFinal, r)
	}
	return next != nil, nil
}

// write sends the content, its end, and the envelope of next. final is set once
// the end may have reached the server.
func (j *job) write(next *Transaction) (final bool, err error) {
	w := j.c.out()
	if j.env.Binary {
		cw := &countWriter{w: w, left: j.m.Size()}
		_, err := j.m.WriteTo(cw)
		switch {
		case cw.wire != nil:
			return cw.left == 0, cw.wire
		case err == nil && cw.left != 0:
			err = errors.New("the message is shorter than it said")
		}
		if err != nil {
			return cw.left == 0, &ownError{err}
		}
		return true, w.Flush()
	}
	dw := &j.c.dots
	*dw = dotWriter{w: w}
	defer func() { dw.w = nil }()
	if _, err := j.m.WriteTo(dw); dw.wire != nil {
		return false, dw.wire
	} else if err != nil {
		return false, &ownError{err}
	}
	if err := dw.end(); err != nil {
		return dw.wire != nil, err
	}
	if next != nil {
		j.envelope(next)
	}
	return true, w.Flush()
}

// early looks for the reason of a server that closed the session while the
// content was on its way.
func (j *job) early(t *Transaction, err error) error {
	var own *ownError
	if errors.As(err, &own) || errors.Is(err, errBareLine) {
		return err
	}
	if r, rerr := j.c.readReply(earlyWait, nil); rerr == nil && r.Code >= 400 {
		j.c.at = atFinal
		if r.Code != 421 {
			j.judge(t, atFinal, r)
		}
		return errOver
	}
	return err
}

// judge gives every recipient without an answer the verdict of r.
func (j *job) judge(t *Transaction, at point, r Reply) { t.settle(j.answer(t, at, r)) }

func (j *job) answer(t *Transaction, at point, r Reply) Answer {
	f := verdict(situation{Peer: j.c.cfg.Peer, At: at, Host: j.c.cfg.Host, Single: len(t.To) == 1, About: t}, r)
	return Answer{Failure: f, Reply: r.Raw, done: true}
}
