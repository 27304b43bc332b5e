package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"behalf/mail"
)

// slow keeps the tenants whose questions took long of late. All of them share one
// turn, and so cannot hold what others wait for. Those whose questions came to
// nothing besides get one try.
type slow struct {
	mu    sync.Mutex
	known map[mail.TenantID]slowness
	turn  chan struct{} // one
}

// slowness is how slow a tenant is.
type slowness struct {
	until  time.Time // when that is over
	times  int       // how often a question took long
	failed bool      // and came to nothing
}

// penalty is how long a tenant counts as slow after a question that was.
const penalty = 10 * time.Second

// maxSlow bounds the tenants that are remembered. Beyond it the first that is
// found is forgotten.
const maxSlow = 1000

func newSlow() *slow {
	return &slow{known: map[mail.TenantID]slowness{}, turn: make(chan struct{}, 1)}
}

// has tells whether a tenant is slow, and whether its questions fail, and forgets
// it when that is over. A single answer that took long may be the fault of a busy
// machine.
func (s *slow) has(t mail.TenantID) (slow, failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[t]
	if ok && !time.Now().Before(k.until) {
		delete(s.known, t)
		return false, false
	}
	return k.failed || k.times > 1, k.failed
}

// add notes a question that took long.
func (s *slow) add(t mail.TenantID, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	k, ok := s.known[t]
	if !ok || !now.Before(k.until) {
		k = slowness{}
	}
	for other := range s.known {
		if ok || len(s.known) < maxSlow {
			break
		}
		delete(s.known, other)
	}
	s.known[t] = slowness{until: now.Add(penalty), times: k.times + 1, failed: k.failed || failed}
}

// tenantOf is whose question it is; 0: nobody's.
func tenantOf(in input) mail.TenantID {
	if t := tenantIn(in); t != nil {
		return t.ID
	}
	return 0
}

// tenantIn is whose question it is; nil: nobody's.
func tenantIn(in input) *Tenant {
	switch in := in.(type) {
	case *SenderInput:
		return in.Tenant
	case *RecipientInput:
		return in.Tenant
	case *MessageInput:
		return in.Tenant
	}
	return nil
}

// decide asks a program within the turns of a lane. Who did not fail slowly of late
// gets a second try with four times as long, because on a busy machine the clock
// runs on while nothing is evaluated.
func (e *Engine) decide(ctx context.Context, p *program, s *set, l lane, in input) (Decision, error) {
	t := tenantOf(in)
	tries := []time.Duration{e.o.Deadline, 4 * e.o.Deadline}
	waiting := func() error {
		return fmt.Errorf("policy %s: waiting for a turn: %w", stages()[p.stage].name, ctx.Err())
	}
	isSlow, failing := e.slow.has(t)
	if isSlow {
		select {
		case e.slow.turn <- struct{}{}:
			defer func() { <-e.slow.turn }()
		case <-ctx.Done():
			return Decision{}, waiting()
		}
	}
	if failing {
		tries = tries[:1]
	}
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
	case <-ctx.Done():
		return Decision{}, waiting()
	}
	start := time.Now()
	defer func() { l.metrics.took(p.stage, time.Since(start)) }()
	var d Decision
	var err error
	for _, deadline := range tries {
		if d, err = p.decide(ctx, s, deadline, in, l.kept(s, p.stage)); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	if time.Since(start) > e.o.Deadline/2 {
		e.slow.add(t, err != nil)
	}
	return d, err
}
