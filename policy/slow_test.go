package policy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
)

// TestSlowTenant: who makes the rules run into the deadline waits for its like
// alone, and others find a turn.
func TestSlowTenant(t *testing.T) {
	e := open(t, folder(sender+`deny contains {"rule": "r", "reason": "x"} if {
	input.tenant.name == "slow"
	some a in numbers.range(1, 2000)
	some b in numbers.range(1, 2000)
	a * b == 3
}`), Options{Concurrency: 2, Deadline: 20 * time.Millisecond})
	ask := func(ctx context.Context, id uint32, name string) error {
		_, err := e.Sender(ctx, &SenderInput{Tenant: &Tenant{ID: mail.TenantID(id), Name: name}})
		return err
	}
	if err := ask(t.Context(), 1, "slow"); err == nil {
		t.Fatal("a question without end was answered")
	}
	e.slow.turn <- struct{}{} // another slow tenant is being asked about
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ask(brief, 1, "slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow tenant did not wait: %v", err)
	}
	if err := ask(t.Context(), 2, "quick"); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	<-e.slow.turn
	if err := ask(t.Context(), 1, "mended"); err != nil {
		t.Errorf("a slow tenant is asked about all the same: %v", err)
	}
}

// TestSlowIsForgotten: after a while a tenant is as good as any, and the number
// of those that are remembered has a bound.
func TestSlowIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow()
		s.add(7)
		time.Sleep(penalty - time.Second)
		if !s.has(7) || s.has(8) {
			t.Error("7 is slow, 8 is not")
		}
		time.Sleep(time.Second)
		if s.has(7) || len(s.until) != 0 {
			t.Error("7 is still slow")
		}
		for id := range 2 * maxSlow {
			s.add(mail.TenantID(id))
		}
		if len(s.until) > maxSlow || !s.has(2*maxSlow-1) {
			t.Errorf("%d are remembered", len(s.until))
		}
	})
}

// TestSerious: a stage is at fault when more than one question in ten fails.
func TestSerious(t *testing.T) {
	for _, c := range []struct {
		count, asked int
		serious      bool
	}{{1, 1, true}, {1, 10, false}, {2, 10, true}, {312, 312, true}, {5, 1000, false}} {
		if got := (Failing{Count: c.count, Asked: c.asked}).Serious(); got != c.serious {
			t.Errorf("%d of %d: %v", c.count, c.asked, got)
		}
	}
}
