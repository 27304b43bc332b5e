package outcome_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/spool"
)

// told counts the reports about a message: in its timeline, and in the spool.
func (w *world) told(id mail.ID) (events, reports int) {
	w.T.Helper()
	es, err := w.Spool.Timeline(context.Background(), id)
	if err != nil {
		w.T.Fatal(err)
	}
	for _, e := range es {
		if e.Type != mail.EventReported {
			continue
		}
		events++
		rid, err := mail.ParseID(e.Related)
		if err != nil {
			w.T.Fatal(err)
		}
		if _, err := w.Spool.Load(context.Background(), rid); err == nil {
			reports++
		}
	}
	return events, reports
}

// TestExactlyOnceOverACut: wherever the power goes, a message that failed is
// reported once.
func TestExactlyOnceOverACut(t *testing.T) {
	for step := range 30 {
		bubble(t, func(t *testing.T) {
			w := start(t, "")
			st := w.send("support@acme.example", mail.Envelope{}, w.rcpt("bob@there.example", 0))
			w.settle(st, mail.Failed, 0)
			// The row is due after five seconds: cut closely around both writes.
			switch {
			case step < 10:
				for range step {
					yield()
				}
			default:
				time.Sleep(5*time.Second + time.Duration(step-12)*time.Millisecond/4)
				for range step % 7 {
					yield()
				}
			}
			old := w.Store
			w.Cut()
			_ = w.halt() // their store failed
			old.Close()
			w.run()
			w.reports()
			if events, reports := w.told(st.Message.ID); events != 1 || reports != 1 {
				t.Errorf("step %d: %d events, %d reports", step, events, reports)
			}
			w.stop()
		})
	}
}

// yield lets other goroutines get on a little.
func yield() { time.Sleep(0) }

// TestTrouble: a report that cannot be made is made later, and keeps none of the
// others waiting.
func TestTrouble(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, "")
		defer w.stop()
		broken := w.send("support@acme.example", mail.Envelope{}, w.rcpt("bob@there.example", 0))
		fine := w.send("support@acme.example", mail.Envelope{}, w.rcpt("eve@there.example", 0))
		w.Apply(`{"kind":"identity","tenant":"acme","address":"support@acme.example"}`)
		w.Bodies.Refuse(errors.New("the disk is slow"))
		w.settle(broken, mail.Failed, 0)
		if all := w.reports(); len(all) != 0 {
			t.Fatalf("%d reports without a disk", len(all))
		}
		w.Bodies.Refuse(nil)
		w.settle(fine, mail.Failed, 0)
		if got := w.reports(); len(got) != 1 {
			t.Errorf("%d reports, want that of the other message", len(got))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := w.Offered(); len(got) != 1 {
			t.Errorf("%d reports after a while, want that of the first message", len(got))
		}
	})
}

// TestMessageGone: there is nobody to tell when the message was purged.
func TestMessageGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, "")
		defer w.stop()
		st := w.send("support@acme.example", mail.Envelope{}, w.rcpt("bob@there.example", 0))
		w.settle(st, mail.Failed, 0)
		time.Sleep(time.Second)
		if err := w.Spool.Purge(context.Background(), []mail.ID{st.Message.ID}); err != nil {
			t.Fatal(err)
		}
		if all := w.reports(); len(all) != 0 {
			t.Errorf("reported to %s", to(all))
		}
		if n := w.rows(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// TestBodyGone: past its retention a message is reported without its header.
func TestBodyGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, "")
		defer w.stop()
		st := w.send("support@acme.example", mail.Envelope{}, w.rcpt("bob@there.example", 0))
		w.settle(st, mail.Failed, 0)
		if err := w.Spool.DropBody(context.Background(), []mail.ID{st.Message.ID}); err != nil {
			t.Fatal(err)
		}
		if all := w.reports(); len(all) != 1 {
			t.Errorf("%d reports", len(all))
		}
	})
}

// TestManyRows: more rows than are looked at at once, of several messages, leave
// nothing behind.
func TestManyRows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, "")
		defer w.stop()
		const n = 300
		var all []*spool.Stored
		for range n {
			all = append(all, w.send("support@acme.example", mail.Envelope{}, w.rcpt("a@there.example", 0), w.rcpt("b@there.example", 0), w.rcpt("c@there.example", 0), w.rcpt("d@there.example", 0)))
		}
		for i := range 4 {
			for _, st := range all {
				w.settle(st, mail.Failed, i)
			}
		}
		if got := len(w.reports()); got < n || got > n+2 { // one message may be cut by the batch
			t.Errorf("%d reports of %d messages", got, n)
		}
		if left := w.rows(); left != 0 {
			t.Errorf("%d rows are left", left)
		}
	})
}

// rows counts what waits to be reported.
func (w *world) rows() (n int) {
	w.T.Helper()
	err := w.Store.View(context.Background(), func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: []byte("w/notice/"), KeysOnly: true}, func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return n
}
