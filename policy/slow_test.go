package policy

import (
	"context"
	"errors"
	"fmt"
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

// TestSlowAnswers: who makes the rules work long again and again waits for its
// like as well, although answers come.
func TestSlowAnswers(t *testing.T) {
	// A rule as short as this is over before the clock is looked at, and took longer
	// than half of nothing.
	e := open(t, folder(sender+`tag contains {"rule": "r", "value": "x"} if input.stream == "s"`), Options{Concurrency: 2, Deadline: time.Nanosecond})
	ask := func(ctx context.Context, id mail.TenantID) error {
		_, err := e.Sender(ctx, &SenderInput{Tenant: &Tenant{ID: id}})
		return err
	}
	if err := errors.Join(ask(t.Context(), 1), ask(t.Context(), 1), ask(t.Context(), 2)); err != nil {
		t.Fatal(err)
	}
	e.slow.turn <- struct{}{} // another slow tenant is being asked about
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ask(brief, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow tenant did not wait: %v", err)
	}
	if err := ask(t.Context(), 2); err != nil {
		t.Errorf("another, which was slow once: %v", err)
	}
	<-e.slow.turn
}

// TestSlowIsForgotten: after a while a tenant is as good as any, and the number
// of those that are remembered has a bound.
func TestSlowIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow()
		is := func(id mail.TenantID) string {
			slow, failing := s.has(id)
			return fmt.Sprintf("slow %v, failing %v", slow, failing)
		}
		s.add(7, true)
		s.add(9, false)
		time.Sleep(penalty - time.Second)
		if got := is(7) + ", " + is(8) + ", " + is(9); got != "slow true, failing true, slow false, failing false, slow false, failing false" {
			t.Error(got)
		}
		s.add(9, false)
		if got := is(9); got != "slow true, failing false" {
			t.Error(got)
		}
		time.Sleep(penalty)
		if got := is(7) + ", " + is(9); got != "slow false, failing false, slow false, failing false" || len(s.known) != 0 {
			t.Errorf("%s, %d are remembered", got, len(s.known))
		}
		for id := range 2 * maxSlow {
			s.add(mail.TenantID(id), true)
		}
		if got := is(2*maxSlow - 1); got != "slow true, failing true" || len(s.known) > maxSlow {
			t.Errorf("%s, %d are remembered", got, len(s.known))
		}
	})
}

// TestSerious: a stage is at fault when more than one question in ten fails, and
// not those of one tenant among others alone.
func TestSerious(t *testing.T) {
	rules := sender + `deny contains {"rule": "r", "reason": "x"} if to_number(input.stream) > 5`
	for name, c := range map[string]struct {
		fail, pass map[mail.TenantID]int
		serious    bool
	}{
		"too few to tell":         {fail: map[mail.TenantID]int{1: 5}},
		"all of the only tenant":  {fail: map[mail.TenantID]int{1: 20}, serious: true},
		"all of one among others": {fail: map[mail.TenantID]int{1: 20}, pass: map[mail.TenantID]int{2: 1}},
		"some of two":             {fail: map[mail.TenantID]int{1: 10, 2: 1}, pass: map[mail.TenantID]int{3: 30}, serious: true},
		"one in ten of two":       {fail: map[mail.TenantID]int{1: 10, 2: 1}, pass: map[mail.TenantID]int{3: 99}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := open(t, folder(rules), Options{})
				for stream, all := range map[string]map[mail.TenantID]int{"x": c.fail, "1": c.pass} {
					for id, n := range all {
						for range n {
							_, _ = e.Sender(t.Context(), &SenderInput{Stream: stream, Tenant: &Tenant{ID: id}})
							time.Sleep(100 * time.Millisecond)
						}
					}
				}
				f := e.Status().Failing
				if len(f) != 1 || f[0].Serious() != c.serious {
					t.Errorf("%+v", f)
				}
			})
		})
	}
}
