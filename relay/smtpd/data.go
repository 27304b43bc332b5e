package smtpd

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"behalf/mail"
	"behalf/relay"
)

// errOverrun ends a session whose client sends far more than it may.
var errOverrun = errors.New("the message is far too large")

// inflow is a message on its way into the transaction. Once fail is set the
// rest is read and dropped, so that the answer finds the client listening.
type inflow struct {
	s    *session
	l    *lines
	size int64
	fail *mail.Failure
}

// take is the sink of the wire.
func (f *inflow) take(p []byte) error {
	limit := f.s.srv.o.MaxSize
	f.size += int64(len(p))
	switch {
	case f.size > 2*limit+bulkBuffer:
		return errOverrun
	case f.fail != nil:
	case f.l.fault != faultNone:
		f.fail = f.l.fault.failure()
	case f.size > limit:
		f.fail = tooLarge(limit)
	default:
		if _, err := f.s.tx.Write(p); err != nil {
			f.fail = mail.AsFailure(err)
		}
	}
	return nil
}

func tooLarge(limit int64) *mail.Failure {
	return mail.Fail(552, mail.Enhanced{5, 3, 4}, mail.OfMessage, mail.ReasonTooLarge,
		"the message is too large; at most %d octets are taken", limit)
}

// failure says what is wrong with the content and how to mend it.
func (f fault) failure() *mail.Failure {
	text := "every line must end in CRLF, but a bare LF was found; have your program write \\r\\n"
	switch f {
	case faultBareCR:
		text = "every line must end in CRLF, but a bare CR was found; have your program write \\r\\n"
	case faultNUL:
		text = "a NUL octet was found; encode binary content in base64, or send it with BODY=BINARYMIME and BDAT"
	case faultLong:
		text = "a line is longer than " + strconv.Itoa(maxTextLine) + " octets; encode long content in base64 or quoted-printable"
	}
	return mail.Fail(554, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, "%s", text)
}

func (s *session) newPace() pace {
	o := &s.srv.o
	until := s.until
	if s.tx == nil {
		until = time.Now().Add(relay.MaxTransaction)
	}
	return pace{window: o.StallWindow, least: int64(o.StallWindow.Seconds() * float64(o.MinRate)), until: until}
}

// notReady says why no message can be taken now; nil if one can.
func (s *session) notReady() *refusal {
	switch {
	case s.tx == nil:
		return bad(503, mail.Enhanced{5, 5, 1}, "say MAIL and RCPT first")
	case s.taken == 0:
		return bad(554, mail.Enhanced{5, 5, 1}, "there is no valid recipient")
	}
	return nil
}

// data is DATA.
func (s *session) data(ctx context.Context, arg string) error {
	r := s.notReady()
	switch {
	case r != nil:
	case arg != "":
		r = bad(501, mail.Enhanced{5, 5, 4}, "DATA takes no argument")
	case s.chunks != nil:
		r = bad(503, mail.Enhanced{5, 5, 1}, "the message has begun with BDAT; go on with it")
	case s.env.Binary:
		r = bad(503, mail.Enhanced{5, 5, 1}, "a message with BODY=BINARYMIME comes by BDAT")
	}
	if r != nil {
		return s.wrong(r.code, r.e, r.text)
	}
	s.greet(354, "go ahead; end with a line that holds a dot only")
	in := &stuffed{pace: s.newPace()}
	in.s, in.l = s, &in.dots.lines
	if err := s.content(&in.dots, &in.pace, &in.inflow); err != nil {
		return s.broken(err)
	}
	return s.finish(ctx, &in.inflow)
}

// stuffed is a message that comes by DATA.
type stuffed struct {
	inflow
	dots dots
	pace pace
}

// broken is the end of a session within a message: whatever else the client
// sends would be taken for commands.
func (s *session) broken(err error) error {
	if errors.Is(err, errOverrun) {
		s.srv.o.Metrics.rejected(stageData, 552)
		f := tooLarge(s.srv.o.MaxSize)
		s.reply(f.Code, f.Enhanced, f.Text)
		return errHungUp
	}
	return err
}

// finish answers to a message that has come in whole.
func (s *session) finish(ctx context.Context, f *inflow) error {
	defer s.reset()
	if f.fail == nil && f.l.fault != faultNone {
		f.fail = f.l.fault.failure()
	}
	if f.fail != nil {
		return s.refuse(ctx, stageData, f.fail)
	}
	tx := s.tx
	s.tx = nil // Commit ends it, so that reset must not
	receipt, err := tx.Commit(ctx)
	if err != nil {
		return s.refuse(ctx, stageData, err)
	}
	s.accepted++
	s.errors = 0
	if s.logs(ctx, slog.LevelDebug) {
		s.log(ctx, slog.LevelDebug, "message accepted", slog.String("id", receipt.ID.String()),
			slog.Int("recipients", s.taken), slog.Int64("octets", f.size))
	}
	text := string(receipt.ID.Append(append(make([]byte, 0, 64), "queued as "...)))
	if len(receipt.Warnings) > 0 {
		text = strings.Join(receipt.Warnings, "\n") + "\n" + text
	}
	if receipt.Repeated {
		text = "taken before under that idempotency key, " + text
	}
	s.reply(250, mail.Enhanced{2, 0, 0}, text)
	return nil
}

// chunks is a message that comes by BDAT (RFC 3030).
type chunks struct {
	inflow
	lines lines
	pace  pace
	told  bool // of fail
}

// bdat is BDAT. The octets that follow are read whatever the answer will be; a
// client whose count cannot be read or believed is cut off instead.
func (s *session) bdat(ctx context.Context, arg string) error {
	count, last, hasLast := strings.Cut(arg, " ")
	n, ok := parseOctets(count)
	if !ok || hasLast && !strings.EqualFold(last, "LAST") {
		s.reply(501, mail.Enhanced{5, 5, 4}, "the form is BDAT octets [LAST]; closing, for it is unknown where the chunk ends")
		return errHungUp
	}
	if r := s.notReady(); r != nil {
		return s.dropChunk(n, r)
	}
	if s.chunks == nil {
		s.chunks = &chunks{pace: s.newPace()}
		s.chunks.s, s.chunks.l = s, &s.chunks.lines
	}
	c := s.chunks
	if err := s.octets(n, &c.pace, c); err != nil {
		return s.broken(err)
	}
	if hasLast {
		if !s.env.Binary {
			c.lines.finish()
		}
		return s.finish(ctx, &c.inflow)
	}
	if c.fail == nil && c.lines.fault != faultNone {
		c.fail = c.lines.fault.failure()
	}
	if c.fail == nil {
		s.reply(250, mail.Enhanced{2, 0, 0}, strconv.FormatInt(n, 10)+" octets received")
		return nil
	}
	if c.told {
		code, e := told(c.fail)
		s.reply(code, e, c.fail.Text)
		return nil
	}
	c.told = true
	return s.refuse(ctx, stageData, c.fail)
}

// take is the sink of a chunk.
func (c *chunks) take(p []byte) error {
	if !c.s.env.Binary {
		c.lines.chunk(p)
	}
	return c.inflow.take(p)
}

// dropChunk reads a chunk that nobody asked for and refuses it.
func (s *session) dropChunk(n int64, r *refusal) error {
	limit := s.srv.o.MaxSize
	if s.who == nil {
		limit = bulkBuffer
	}
	if n > limit {
		s.reply(r.code, r.e, r.text)
		return errHungUp
	}
	p := s.newPace()
	if err := s.octets(n, &p, nowhere{}); err != nil {
		return err
	}
	return s.wrong(r.code, r.e, r.text)
}

// nowhere drops what it takes.
type nowhere struct{}

func (nowhere) take([]byte) error { return nil }
