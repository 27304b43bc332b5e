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
	for n := range j.outcome.Events {
		if e := &j.outcome.Events[n]; e.Reason == reason {
			e.Recipients = append(e.Recipients, j.idx[i])
			return
		}
	}
	j.outcome.Events = append(j.outcome.Events, mail.Event{At: now, Type: mail.EventSuppressed, Message: m.ID, Recipients: []int{j.idx[i]}, Reason: reason})
}
