package relay

import (
	"time"

	"behalf/mail"
)

// MaxTransaction is how long a transaction may last, from MAIL to the end of its
// message. It is more than an honest client needs, which has its message ready
// and sends the largest at 20 KiB/s. And it bounds how long what was settled at
// MAIL may hold: the rules in force at that moment, which a reload must not leave
// behind for days, and what was reserved of limits.
const MaxTransaction = 30 * time.Minute

// clock is the time by which everything is counted. The time at which the
// transaction began, t.now, is that of the message.
func (t *transaction) clock() time.Time { return t.in.o.Now() }

// tooOld is the end of a transaction that has lasted too long, be it by the
// clock on the wall, which a sleeping machine keeps, or by the one that is never
// set back.
func (t *transaction) tooOld() error {
	now := t.clock()
	if now.Sub(t.began) < MaxTransaction && now.Round(0).Sub(t.began.Round(0)) < MaxTransaction {
		return nil
	}
	return mail.Fail(421, mail.Enhanced{4, 4, 2}, mail.OfMessage, mail.ReasonTemporary,
		"the message took longer than %d minutes from its beginning; send it again", int(MaxTransaction/time.Minute))
}
