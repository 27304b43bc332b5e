package relay

import (
	"context"
	"errors"

	"behalf/mail"
	"behalf/policy"
	"behalf/policy/journal"
)

// recording is what is kept of a transaction to replay it later: every question
// to the policy with its answer, and how it ended. It never stands in the way of
// mail.
type recording struct {
	r   *journal.Record
	end journal.End
}

// record opens the record with the first question; nil, which records nothing,
// for a question that was not answered because the client went away.
func (t *transaction) record(err error) *journal.Record {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if t.recording.r == nil {
		t.recording.r = t.in.o.Journal.Begin(journal.Transaction{Time: t.now, Digest: t.policy.Digest(), Needs: t.policy.Needs()})
	}
	return t.recording.r
}

// recordEnd notes how Commit ended.
func (t *transaction) recordEnd(r Receipt, err error) {
	e := &t.recording.end
	switch {
	case err != nil:
		f := mail.AsFailure(err)
		e.Code, e.Reason = f.Code, string(f.Reason)
	case r.Repeated:
		e.Reason = "repeated"
	default:
		e.Accepted, e.Message = true, r.ID
	}
}

// The three questions, put and noted.

func (t *transaction) ruleSender(ctx context.Context, in *policy.SenderInput) (policy.Decision, error) {
	d, err := t.policy.Sender(ctx, in)
	t.record(err).Sender(in, &d, err)
	return d, err
}

func (t *transaction) ruleRecipient(ctx context.Context, in *policy.RecipientInput) (policy.Decision, error) {
	d, err := t.policy.Recipient(ctx, in)
	t.record(err).Recipient(in, &d, err)
	return d, err
}

func (t *transaction) ruleMessage(ctx context.Context, in *policy.MessageInput) (policy.Decision, error) {
	d, err := t.policy.Message(ctx, in)
	t.record(err).Message(in, &d, err)
	return d, err
}
