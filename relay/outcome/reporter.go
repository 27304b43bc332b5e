package outcome

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/mail/dsn"
	"behalf/relay"
	"behalf/spool"
	"behalf/tenant"
)

// Reporter drains the rows of the follower and sends the reports.
type Reporter struct {
	Store     kv.Store
	Spool     *spool.Spool
	Directory *tenant.Directory
	Intake    *relay.Intake
	Hostname  string
	Domain    string // MAILER-DAEMON is at this domain
	Notify    string // the platform's own address, told when nobody else can be
	Log       *slog.Logger

	from  time.Time // rows due before this are done: never scan over their graves
	swept time.Time // when all rows were looked at last
}

// At most batch messages are reported on before rows are read again, and most
// rows are looked at to find all rows of those; sweep is how often rows that
// should be done are looked for all the same.
const (
	batch = 256
	most  = 8192
	sweep = 10 * time.Minute
)

// Run drains rows as they become due, until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait, err := r.drain(ctx)
		if err != nil && ctx.Err() == nil {
			r.Log.Error("reports could not be sent; trying again", "err", err)
			wait = 10 * time.Second
		}
		timer.Reset(wait)
	}
}

// drain sends what is due and tells how long nothing more will be. One report
// that cannot be made is put off and keeps no other waiting.
func (r *Reporter) drain(ctx context.Context) (time.Duration, error) {
	for {
		now := time.Now()
		if now.Sub(r.swept) > sweep || now.Before(r.swept) {
			r.from, r.swept = time.Time{}, now // the clock may have been set back
		}
		rows, from, next, err := r.due(ctx, now)
		if err != nil {
			return 0, err
		}
		if len(rows) == 0 {
			return next, nil
		}
		for _, of := range byMessage(rows) {
			err := r.report(ctx, of)
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if err := r.putOff(ctx, of, err); err != nil {
				return 0, err
			}
		}
		r.from = from
	}
}

// How long a report that could not be made waits, and how often it is tried.
const (
	firstWait = time.Minute
	longWait  = time.Hour
	maxTries  = 100 // about four days
)

// putOff makes rows due later, because of what went wrong.
func (r *Reporter) putOff(ctx context.Context, rows []row, why error) error {
	tries := rows[0].Tries + 1
	wait := min(firstWait<<min(tries-1, 10), longWait)
	attrs := []any{"tenant", rows[0].Message.Tenant(), "message", rows[0].Message.String(), "tries", tries, "err", why}
	if tries >= maxTries {
		r.Log.Error("a report could not be sent and is given up", attrs...)
	} else {
		r.Log.Error("a report could not be sent; trying again", append(attrs, "in", wait)...)
	}
	due := time.Now().Add(wait)
	return r.Store.Update(ctx, func(w kv.Writer) error {
		for _, x := range rows {
			if err := w.Delete(x.key); err != nil {
				return err
			}
			if tries >= maxTries {
				continue
			}
			x.Tries = tries
			if err := x.put(w, rowKey(due, rowSeq(x.key))); err != nil {
				return err
			}
		}
		return nil
	})
}

// due reads rows of the first messages that have one that is due, those rows
// included that soon will be. No row before rest stays behind; wait is the time
// until the first row that is not due, at most as long as a new row waits.
func (r *Reporter) due(ctx context.Context, now time.Time) (rows []row, rest time.Time, wait time.Duration, err error) {
	from := rowPrefix
	if !r.from.IsZero() {
		from = rowKey(r.from, 0)
	}
	err = r.Store.View(ctx, func(rd kv.Reader) error {
		rows, rest, wait = nil, time.Time{}, gather
		ripe := map[mail.ID]bool{}
		seen, behind := 0, false
		var bad error
		err := rd.Scan(kv.Range{Prefix: rowPrefix, From: from}, func(k, v []byte) bool {
			due := rowDue(k)
			if due.After(now) {
				wait = min(wait, due.Sub(now))
				if len(rows) == 0 || due.Sub(now) > gather {
					return false
				}
			} else if !behind {
				rest = due
			}
			var x row
			if bad = cbor.Unmarshal(v, &x); bad != nil {
				return false
			}
			switch {
			case ripe[x.Message], !due.After(now) && len(ripe) < batch:
				ripe[x.Message] = true
				x.key = append([]byte{}, k...)
				rows = append(rows, x)
			case !due.After(now):
				behind = true
			}
			seen++
			return seen < most
		})
		return errors.Join(err, bad)
	})
	return rows, rest, wait, err
}

// byMessage groups rows of one message, in the order of their first.
func byMessage(rows []row) [][]row {
	at := map[mail.ID]int{}
	var groups [][]row
	for _, x := range rows {
		i, ok := at[x.Message]
		if !ok {
			i = len(groups)
			at[x.Message] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], x)
	}
	return groups
}

// report sends one report for all rows of a message, and deletes them with it.
func (r *Reporter) report(ctx context.Context, rows []row) error {
	forget := func(w kv.Writer) error {
		for _, x := range rows {
			if err := w.Delete(x.key); err != nil {
				return err
			}
		}
		return nil
	}
	st, err := r.Spool.Load(ctx, rows[0].Message)
	if errors.Is(err, spool.ErrNotFound) {
		return r.Store.Update(ctx, forget)
	}
	if err != nil {
		return err
	}
	defer st.Release()
	to, wanted, err := r.addressee(ctx, st, rows)
	if err != nil {
		return err
	}
	if len(wanted) == 0 {
		return r.Store.Update(ctx, forget)
	}
	daemon := mail.Address{Local: "MAILER-DAEMON", Domain: r.Domain}
	var id mail.ID
	_, err = r.Intake.Submit(ctx, daemon, to, func(w io.Writer, own mail.ID, messageID string) error {
		id = own
		return r.write(ctx, w, st, daemon, to, messageID, wanted)
	}, func(w kv.Writer) error {
		told := mail.Event{At: time.Now().UTC(), Type: mail.EventReported, Message: st.Message.ID, Reason: string(wanted[0].Action) + ", to " + to.String(), Related: id.String()}
		if err := r.Spool.Append(w, told); err != nil {
			return err
		}
		return forget(w)
	})
	if err != nil {
		return err
	}
	r.Log.Info("report sent", "tenant", st.Message.Tenant, "message", st.Message.ID.String(), "action", wanted[0].Action, "report", id.String())
	return nil
}

// addressee says who is told, and of which recipients. The client's NOTIFY
// counts for what goes to its own MAIL FROM; when that address is not one the
// tenant has proved to own, whoever is responsible is told of failures.
func (r *Reporter) addressee(ctx context.Context, st *spool.Stored, rows []row) (mail.Address, []dsn.Recipient, error) {
	m := st.Message
	if m.Door == mail.DoorSystem || m.Envelope.From.IsZero() {
		return mail.Address{}, nil, nil
	}
	to := m.Envelope.From
	own, notify, err := r.owns(ctx, m, to)
	if err != nil {
		return to, nil, err
	}
	if !own {
		if to, err = mail.ParseAddress(notify); err != nil {
			return to, nil, fmt.Errorf("address to notify %q: %w", notify, err)
		}
	}
	var out []dsn.Recipient
	for _, x := range rows {
		if x.Action == dsn.Delayed && x.At.Sub(departure(m)) < reportDelay {
			continue
		}
		for _, i := range indices(x, st) {
			rc := st.Recipients[i]
			if own && !rc.Notify.Wants(what(x.Action)) || !own && x.Action != dsn.Failed || x.Action == dsn.Delayed && rc.State != mail.Queued {
				continue
			}
			d := dsn.Recipient{Address: rc.Address, ORcpt: rc.ORcpt, Action: x.Action, Failure: rc.Last, Remote: x.Host, Diagnostic: x.Reply, LastAttempt: x.At}
			if x.Action == dsn.Relayed {
				d.Failure = nil
			}
			if x.Action == dsn.Delayed {
				d.WillRetryUntil = m.Expires
			}
			if d.Failure == nil && x.Action == dsn.Failed {
				d.Failure = mail.Fail(554, mail.Enhanced{5, 4, 7}, mail.OfDestination, mail.ReasonExpired, "the message could not be delivered in time")
			}
			out = append(out, d)
		}
	}
	return to, out, nil
}

// departure is when a message was to go out.
func departure(m *mail.Message) time.Time {
	if m.NotBefore.After(m.Accepted) {
		return m.NotBefore
	}
	return m.Accepted
}

func what(a dsn.Action) mail.Notify {
	switch a {
	case dsn.Failed:
		return mail.NotifyFailure
	case dsn.Delayed:
		return mail.NotifyDelay
	}
	return mail.NotifySuccess
}

func indices(x row, st *spool.Stored) []int {
	if len(x.Recipients) > 0 {
		return x.Recipients
	}
	all := make([]int, len(st.Recipients))
	for i := range all {
		all[i] = i
	}
	return all
}

// owns tells whether a message's MAIL FROM is a verified identity of its
// tenant, and who is told otherwise: the credential's, the tenant's or the
// platform's own address.
func (r *Reporter) owns(ctx context.Context, m *mail.Message, a mail.Address) (bool, string, error) {
	v, err := r.Directory.View(ctx, m.Tenant)
	if errors.Is(err, tenant.ErrNotFound) {
		return false, r.Notify, nil
	}
	if err != nil {
		return false, "", err
	}
	if v.Verified(a) {
		return true, "", nil
	}
	c, err := r.Directory.Authenticated(ctx, m.Credential)
	if err == nil && c.Notify != "" {
		return false, c.Notify, nil
	}
	if v.Tenant.Notify != "" {
		return false, v.Tenant.Notify, nil
	}
	return false, r.Notify, nil
}

// write composes the report.
func (r *Reporter) write(ctx context.Context, w io.Writer, st *spool.Stored, from, to mail.Address, messageID string, rs []dsn.Recipient) error {
	m := st.Message
	rep := dsn.Report{
		From: from, FromName: "Mail Delivery System", To: to, MessageID: messageID, Date: time.Now(),
		ReportingMTA: r.Hostname, EnvID: m.Envelope.EnvID, Arrival: m.Accepted,
		Subject: m.Subject, OriginalID: m.MessageID, OriginalFrom: m.From,
		Recipients: rs, UTF8: m.Envelope.UTF8, Boundary: messageID,
	}
	body, err := r.Spool.OpenBody(ctx, st)
	switch {
	case errors.Is(err, spool.ErrBodyGone): // past its retention: report without it
	case err != nil:
		return err
	default:
		defer body.Close()
		rep.Header = make([]byte, m.HeaderSize)
		if _, err := body.ReadAt(rep.Header, 0); err != nil && err != io.EOF {
			return fmt.Errorf("reading the header of %s: %w", m.ID, err)
		}
		if m.Envelope.Ret == mail.RetFull {
			rep.Original = io.NewSectionReader(body, 0, body.Size())
		}
	}
	_, err = rep.WriteTo(w)
	return err
}
