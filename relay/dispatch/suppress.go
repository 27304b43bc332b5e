package dispatch

import (
	"context"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// askAgain is the age of a message from which the lists are asked again before
// an attempt: most are tried at once, just after they were asked at accept.
const askAgain = time.Minute

// suppress ends those recipients of j that came onto a list since the message
// was accepted. They become the first of j, and are not tried.
func (d *Dispatcher) suppress(ctx context.Context, j *job, now time.Time) error {
	m := j.st.Message
	if now.Sub(m.Accepted) <= askAgain {
		return nil
	}
	for i := range j.idx {
		reason, yes, err := d.suppressed(ctx, m, &j.rcpts[i])
		if err != nil {
			return err
		}
		if !yes {
			continue
		}
		n := j.ended
		j.idx[n], j.idx[i] = j.idx[i], j.idx[n]
		j.rcpts[n], j.rcpts[i] = j.rcpts[i], j.rcpts[n]
		j.ended++
		d.endSuppressed(j, n, reason, now)
	}
	return nil
}

func (d *Dispatcher) suppressed(ctx context.Context, m *mail.Message, r *mail.Recipient) (reason string, yes bool, err error) {
	defer d.caught(m, "suppressed", &err)
	return d.planner.Suppressed(ctx, m, r)
}

// endSuppressed puts the end of recipient i of j into the outcome; those of one
// reason share an event.
func (d *Dispatcher) endSuppressed(j *job, i int, reason string, now time.Time) {
	m, r := j.st.Message, &j.rcpts[i]
	j.outcome.Changes = append(j.outcome.Changes, spool.Change{Index: j.idx[i], Recipient: r.End(mail.Suppressed, reason, now)})
	d.metrics.delivery(m.Wishes[min(r.Wish, len(m.Wishes)-1)].Upstream, mail.EventSuppressed)
	d.o.Log.Info("dispatch: suppressed since it was accepted", "tenant", m.Tenant, "message", m.ID, "recipient", j.idx[i], "reason", reason)
	tellSuppressed(&j.outcome, m.ID, j.idx[i], reason, now)
}

func tellSuppressed(o *spool.Outcome, id mail.ID, index int, reason string, now time.Time) {
	for n := range o.Events {
		if e := &o.Events[n]; e.Type == mail.EventSuppressed && e.Reason == reason {
			e.Recipients = append(e.Recipients, index)
			return
		}
	}
	o.Events = append(o.Events, mail.Event{At: now, Type: mail.EventSuppressed, Message: id, Recipients: []int{index}, Reason: reason})
}

// suppressReleased ends those recipients whom a release was to put back on the
// schedule, and who came onto a list while they were held. What cannot be asked
// now is asked before the attempt.
func (d *Dispatcher) suppressReleased(ctx context.Context, o *operation, m *mail.Message, out *spool.Outcome, now time.Time) {
	if o.kind != opRelease && o.kind != opTimer {
		return
	}
	released := out.Events[0]
	released.Recipients = nil
	told := spool.Outcome{}
	for k := range out.Changes {
		c := &out.Changes[k]
		reason, yes, err := d.suppressed(ctx, m, &c.Recipient)
		if err != nil || !yes {
			released.Recipients = append(released.Recipients, c.Index)
			continue
		}
		c.Recipient = c.Recipient.End(mail.Suppressed, reason, now)
		tellSuppressed(&told, m.ID, c.Index, reason, now)
	}
	out.Events = told.Events
	if len(released.Recipients) > 0 {
		out.Events = append(out.Events, released)
	}
}
