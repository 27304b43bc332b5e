package relay

import (
	"sync"
	"time"

	"behalf/mail"
)

// arrivals knows who brings the work: how many recipients each tenant's messages
// had in this second and the one before. While delivery is behind, those who
// bring it are slowed down and nobody else: who brings less than half of what
// tenants bring on the average does not wait. All of these together bring less
// than half, so that what waits is always most of the work.
//
// It holds no more tenants than had messages in two seconds.
type arrivals struct {
	mu        sync.Mutex
	second    int64
	now, last arrived
}

type arrived struct {
	of    map[mail.TenantID]int
	total int
}

func (a *arrived) clear() {
	clear(a.of)
	a.total = 0
}

func newArrivals() *arrivals {
	return &arrivals{now: arrived{of: map[mail.TenantID]int{}}, last: arrived{of: map[mail.TenantID]int{}}}
}

// count counts a message to n recipients, and tells whether its tenant is one of
// those who bring the work.
func (a *arrivals) count(t mail.TenantID, n int, at time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := at.Unix(); s != a.second {
		a.now, a.last = a.last, a.now
		a.now.clear()
		if s != a.second+1 {
			a.last.clear()
		}
		a.second = s
	}
	a.now.of[t] += n
	a.now.total += n
	tenants := max(len(a.now.of), len(a.last.of))
	return 2*tenants*(a.now.of[t]+a.last.of[t]) >= a.now.total+a.last.total
}
