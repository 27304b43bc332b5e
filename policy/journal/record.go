package journal

import (
	"bytes"
	"time"

	"behalf/policy"
)

const (
	// splitAt is the size from which what a transaction gathered becomes an
	// entry of its own, so that open transactions hold little memory.
	splitAt = 32 << 10
	// maxEntry bounds an entry; only a message with a huge header comes near.
	maxEntry = 4 << 20
)

// Transaction is what is the same for all questions of a transaction.
type Transaction struct {
	Time   time.Time
	Digest string
	Needs  policy.Needs
}

// Record gathers the questions of one transaction. Inputs are encoded at once
// and not kept, so they may change afterwards. Its methods are not called
// concurrently, do nothing on nil, and never fail: what cannot be recorded is
// counted.
type Record struct {
	j    *Journal
	h    head
	asks *bytes.Buffer // encoded, since the last part
	// usage is that of the last ask in asks, nil at the beginning of a part.
	// An input without it needs none throughout its transaction.
	usage *policy.Usage
}

// Begin opens the record of a transaction; nil on a nil journal.
func (j *Journal) Begin(t Transaction) *Record {
	if j == nil {
		return nil
	}
	return &Record{j: j, h: head{Transaction: j.next.Add(1), Time: t.Time.UnixNano(), Digest: t.Digest, Needs: t.Needs}}
}

// Sender notes a question of the sender stage. Of err only the text is kept.
func (r *Record) Sender(in *policy.SenderInput, d *policy.Decision, err error) {
	if r == nil {
		return
	}
	c := *in
	note(r, stageSender, &c, r.common(&c), d, err)
}

// Recipient notes a question of the recipient stage.
func (r *Record) Recipient(in *policy.RecipientInput, d *policy.Decision, err error) {
	if r == nil {
		return
	}
	c := *in
	note(r, stageRecipient, &c, r.common(&c.SenderInput), d, err)
}

// Message notes the question of the message stage.
func (r *Record) Message(in *policy.MessageInput, d *policy.Decision, err error) {
	if r == nil {
		return
	}
	c := *in
	note(r, stageMessage, &c, r.common(&c.SenderInput), d, err)
}

// common moves what all questions share from the input to the head, and takes
// out the usage, which it gives if it is another one than before.
func (r *Record) common(in *policy.SenderInput) (usage *policy.Usage) {
	r.h.Session, r.h.Tenant, r.h.Credential = in.Session, in.Tenant, in.Credential
	if in.Usage != nil && (r.usage == nil || *r.usage != *in.Usage) {
		usage = in.Usage
		own := *in.Usage
		r.usage = &own
	}
	in.Session, in.Tenant, in.Credential, in.Usage = nil, nil, nil, nil
	return usage
}

// note encodes one question; in is a copy that may be changed.
func note[T any](r *Record, stage uint8, in *T, usage *policy.Usage, d *policy.Decision, err error) {
	if r.asks == nil {
		r.asks = r.j.buffer()
	}
	own := *d
	own.Digest = ""
	a := ask[T]{Stage: stage, Usage: usage, Input: in, Decision: &own}
	if err != nil {
		a.Err = err.Error()
	}
	before := r.asks.Len()
	if err := r.j.codec.enc.MarshalToBuffer(&a, r.asks); err != nil {
		r.asks.Truncate(before)
		r.usage = nil
		r.j.lost(1, err)
		return
	}
	r.h.Asks++
	if r.asks.Len() >= splitAt {
		r.emit()
	}
}

// End writes what is left with how the transaction ended. A transaction that
// asked nothing leaves no entry.
func (r *Record) End(e End) {
	if r == nil || r.h.Session == nil && r.h.Asks == 0 {
		return
	}
	r.h.End = &e
	r.emit()
	if r.asks != nil {
		r.j.putBuffer(r.asks)
		r.asks = nil
	}
}

// emit hands the part over.
func (r *Record) emit() {
	b := r.j.buffer()
	defer r.j.putBuffer(b)
	err := r.j.codec.enc.MarshalToBuffer(&r.h, b)
	if err == nil && r.asks != nil {
		b.Write(r.asks.Bytes())
		r.asks.Reset()
	}
	r.j.append(b.Bytes(), r.h.Time, err)
	r.h.Part, r.h.Asks = r.h.Part+1, 0
	r.usage = nil
}
