package dispatch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
)

// Mail to very many domains does not leave a queue for each behind: one that was
// only ever offered messages goes soon, one that was read remembers for a while
// up to where.
func TestEmptyQueuesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.run()
		defer w.stop()
		synctest.Wait()
		w.way(mail.UpstreamMX, takes(time.Millisecond))
		queues := func() (n int) {
			t.Helper()
			if err := w.d.call(t.Context(), func(time.Time) { n = len(w.d.queues) }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for i := range 100 {
			w.send(1, ups(mail.UpstreamMX), fmt.Sprintf("u@d%d.example", i))
		}
		time.Sleep(time.Second)
		if n := queues(); n != 100 {
			t.Errorf("%d queues right after the last attempt", n)
		}
		w.d.quietly(func(now time.Time) {
			for _, q := range w.d.queues {
				w.d.noteDue(q, now, 1) // as if something had not been offered
				break
			}
		})
		time.Sleep(briefly)
		if n := queues(); n != 1 {
			t.Errorf("%d queues are left a little later", n)
		}
		time.Sleep(2 * lingers)
		if n := queues(); n != 0 {
			t.Errorf("%d queues are left in the end", n)
		}
		if n := len(w.triedBy(mail.UpstreamMX)); n != 100 {
			t.Errorf("%d attempts", n)
		}
	})
}
