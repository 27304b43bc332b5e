package dispatch

import (
	"testing"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// popAll has each tenant's queues go round for n pops; a job of a tenant is of
// cost recipients. It counts the recipients of each.
func popAll(queues map[mail.TenantID]int, cost map[mail.TenantID]int, n int) map[mail.TenantID]int {
	ring := turns{accounts: true}
	for id, k := range queues {
		for range k {
			ring.push(newQueue(spool.Queue{Tenant: id}, nil, time.Time{}))
		}
	}
	got := map[mail.TenantID]int{}
	for range n {
		q := ring.pop()
		if q == nil {
			break
		}
		id := q.key.Tenant
		ring.charge(id, max(1, cost[id])-1)
		got[id] += max(1, cost[id])
		ring.push(q)
	}
	return got
}

func TestTurns(t *testing.T) {
	for _, c := range []struct {
		name   string
		queues map[mail.TenantID]int
		cost   map[mail.TenantID]int
	}{
		{"one queue each", map[mail.TenantID]int{1: 1, 2: 1, 3: 1}, nil},
		{"many queues give no advantage", map[mail.TenantID]int{1: 1, 2: 1000}, nil},
		{"nor do large jobs", map[mail.TenantID]int{1: 1, 2: 1}, map[mail.TenantID]int{2: 100}},
		{"nor both", map[mail.TenantID]int{1: 2, 2: 50}, map[mail.TenantID]int{1: 3, 2: 40}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := popAll(c.queues, c.cost, 30_000)
			for a := range c.queues {
				for b := range c.queues {
					if got[a]*10 > got[b]*11+2000 {
						t.Errorf("tenants got %v", got)
					}
				}
			}
		})
	}
}

func TestTurnsRunDry(t *testing.T) {
	var ring turns
	if ring.pop() != nil {
		t.Error("something came out of nothing")
	}
	q := newQueue(spool.Queue{Tenant: 1}, nil, time.Time{})
	ring.push(q)
	if ring.pop() != q || ring.pop() != nil {
		t.Error("want the queue, then nothing")
	}
	if len(ring.of) != 0 {
		t.Error("a tenant without queues is remembered")
	}
	ring.accounts = true
	ring.push(q)
	ring.pop()
	ring.charge(1, 50)
	if h := ring.of[1]; h == nil || h.deficit > -49 {
		t.Errorf("a debt was forgotten: %+v", h)
	}
	ring.forgive()
	if len(ring.of) != 0 {
		t.Error("a debt was not forgiven")
	}
}
