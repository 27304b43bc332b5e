package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"behalf/mail"
)

// slow keeps the tenants whose questions took long of late and came to nothing.
// All of them share one turn, get one try, and so cannot hold what others wait for.
type slow struct {
	mu    sync.Mutex
	until map[mail.TenantID]time.Time
	turn  chan struct{} // one
}

// penalty is how long a tenant counts as slow after a question that was.
const penalty = 10 * time.Second

// maxSlow bounds the tenants that are remembered. Beyond it the first that is
// found is forgotten.
const maxSlow = 1000

func newSlow() *slow {
	return &slow{until: map[mail.TenantID]time.Time{}, turn: make(chan struct{}, 1)}
}

// has tells whether a tenant is slow, and forgets it when that is over.
func (s *slow) has(t mail.TenantID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[t]
	if ok && !time.Now().Before(until) {
		delete(s.until, t)
		return false
	}
	return ok
}

func (s *slow) add(t mail.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.until {
		if len(s.until) < maxSlow {
			break
		}
		delete(s.until, other)
	}
	s.until[t] = time.Now().Add(penalty)
}

// tenantOf is whose question it is; 0: nobody's.
func tenantOf(in input) mail.TenantID {
	var t *Tenant
	switch in := in.(type) {
	case *SenderInput:
		t = in.Tenant
	case *RecipientInput:
		t = in.Tenant
	case *MessageInput:
		t = in.Tenant
	}
	if t == nil {
		return 0
	}
	return t.ID
}

// decide asks a program within the turns of a lane. Who was not slow of late
// gets a second try with four times as long, because on a busy machine the clock
// runs on while nothing is evaluated.
func (e *Engine) decide(ctx context.Context, p *program, s *set, l lane, in input) (Decision, error) {
	t := tenantOf(in)
	tries := []time.Duration{e.o.Deadline, 4 * e.o.Deadline}
	waiting := func() error {
		return fmt.Errorf("policy %s: waiting for a turn: %w", stages()[p.stage].name, ctx.Err())
	}
	if e.slow.has(t) {
		select {
		case e.slow.turn <- struct{}{}:
			defer func() { <-e.slow.turn }()
		case <-ctx.Done():
			return Decision{}, waiting()
		}
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
		if d, err = p.decide(ctx, s, deadline, in); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	if err != nil && time.Since(start) > e.o.Deadline/2 {
		e.slow.add(t)
	}
	return d, err
}
