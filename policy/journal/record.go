package journal

import (
	"bytes"
	"time"

	"behalf/internal/cbor"
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
	head Entry // without its asks
	end  End
	n    int       // asks since the last part
	asks cborItems // they themselves
	lent *[]byte   // what asks is written into; nil: nothing yet
	// What the ask before was, nothing at the beginning of a part: its usage, if it
	// had one, and where in asks the rest stands.
	hasUsed        bool
	used           policy.Usage
	begun, decided span
}

// span is a part of what is encoded.
type span struct{ from, to int }

// Begin opens the record of a transaction; nil on a nil journal.
func (j *Journal) Begin(t Transaction) *Record {
	if j == nil {
		return nil
	}
	r, _ := j.records.Get().(*Record)
	if r == nil {
		r = new(Record)
	}
	*r = Record{j: j, head: Entry{Transaction: j.next.Add(1), Time: t.Time, Digest: t.Digest, Needs: t.Needs}}
	return r
}

// Sender notes a question of the sender stage. Of err only the text is kept.
func (r *Record) Sender(in *policy.SenderInput, d *policy.Decision, err error) {
	if r == nil {
		return
	}
	r.begin(stageSender, in)
	r.asks.b = append(r.asks.b, cbor.Null)
	r.answer(d, err)
}

// Recipient notes a question of the recipient stage.
func (r *Record) Recipient(in *policy.RecipientInput, d *policy.Decision, err error) {
	if r == nil {
		return
	}
	r.begin(stageRecipient, &in.SenderInput)
	recipient(&r.asks, &in.Recipient)
	r.answer(d, err)
}

// Message notes the question of the message stage.
func (r *Record) Message(in *policy.MessageInput, d *policy.Decision, err error) {
	if r == nil {
		return
	}
	r.begin(stageMessage, &in.SenderInput)
	message(&r.asks, in)
	r.answer(d, err)
}

// begin writes the beginning of an ask. What all of them share goes to the head.
func (r *Record) begin(stage uint8, in *policy.SenderInput) {
	r.head.Session, r.head.Tenant, r.head.Credential = in.Session, in.Tenant, in.Credential
	if r.lent == nil {
		r.lent = r.j.buffer()
		r.asks.b = (*r.lent)[:0]
	}
	r.asks.fields(askFields)
	number(&r.asks, &stage)
	r.usage(in.Usage)
	from := len(r.asks.b)
	begun(&r.asks, in)
	r.once(from, &r.begun)
	counts(&r.asks, &in.Envelope)
}

// usage writes the usage unless it is that of the ask before; it is compared by
// itself because its many numbers take their time.
func (r *Record) usage(u *policy.Usage) {
	if r.hasUsed && u != nil && r.used == *u {
		r.asks.b = append(r.asks.b, cbor.Undefined)
		return
	}
	if r.hasUsed = u != nil; !r.hasUsed {
		r.asks.b = append(r.asks.b, cbor.Null)
		return
	}
	usage(&r.asks, u)
	r.used = *u
}

// answer writes the rest of an ask.
func (r *Record) answer(d *policy.Decision, err error) {
	from := len(r.asks.b)
	decision(&r.asks, d)
	r.once(from, &r.decided)
	why := ""
	if err != nil {
		why = err.Error()
	}
	text(&r.asks, &why)
	if r.n++; len(r.asks.b) >= splitAt {
		r.emit()
	}
}

// once drops what was just written if it is the same as its like before.
func (r *Record) once(from int, last *span) {
	b := r.asks.b
	if last.to > last.from && bytes.Equal(b[from:], b[last.from:last.to]) {
		r.asks.b = append(b[:from], cbor.Undefined)
		return
	}
	*last = span{from, len(b)}
}

// End writes what is left with how the transaction ended. A transaction that
// asked nothing leaves no entry. The record is used no more: its memory serves
// another.
func (r *Record) End(e End) {
	if r == nil {
		return
	}
	j := r.j
	r.finish(e)
	*r = Record{}
	j.records.Put(r)
}

func (r *Record) finish(e End) {
	if r.head.Session == nil && r.n == 0 {
		return
	}
	r.end = e
	r.head.End = &r.end
	r.emit()
	if r.lent != nil {
		*r.lent = r.asks.b
		r.j.putBuffer(r.lent)
	}
}

// emit hands the part over.
func (r *Record) emit() {
	asks := len(r.asks.b)
	head(&r.asks, &r.head, &r.n) // behind what it belongs before, for want of another buffer
	r.j.append(r.asks.b[asks:], r.asks.b[:asks], r.head.Time.UnixNano())
	r.asks.b = r.asks.b[:0]
	r.head.Part, r.n = r.head.Part+1, 0
	r.hasUsed, r.begun, r.decided = false, span{}, span{}
}
