package dispatch

import (
	"cmp"
	"context"
	"slices"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// Limit names what keeps a queue from going faster.
type Limit string

// The limits.
const (
	LimitNone      Limit = ""          // nothing is due
	LimitDead      Limit = "dead"      // no session can be had with its site
	LimitSuspended Limit = "suspended" // its route was refused
	LimitPace      Limit = "pace"      // the site complained of the rate
	LimitWindow    Limit = "window"    // enough attempts at the site are under way
	LimitTenant    Limit = "tenant"    // enough attempts of the tenant are under way
	LimitWorkers   Limit = "workers"   // enough attempts are under way
	LimitSite      Limit = "site"      // the site is being looked up
	LimitReading   Limit = "reading"   // the due index is being read
)

// QueueInfo is how a queue stands.
type QueueInfo struct {
	Tenant   mail.TenantID `json:"tenant"`
	Lane     mail.Lane     `json:"lane"`
	Site     string        `json:"site,omitempty"`
	Depth    int           `json:"depth"`               // recipients, as far as known
	Ready    int           `json:"ready"`               // jobs that are due
	InFlight int           `json:"in_flight"`           // jobs of this queue under way
	Busy     int           `json:"busy"`                // jobs of all queues at the site
	Window   int           `json:"window"`              // how many those may be
	Rate     float64       `json:"rate,omitempty"`      // recipients a second at the site; 0: no limit
	Next     time.Time     `json:"next,omitzero"`       // when the queue or its site is looked at again
	Limit    Limit         `json:"limit,omitempty"`     // what binds now
	Closed   string        `json:"closed,omitempty"`    // why the site is closed
	Since    time.Time     `json:"since,omitzero"`      // closed since
	LastFail string        `json:"last_fail,omitempty"` // the last failure of an attempt
}

// Queues tells how all queues that have something stand, by tenant and lane. It
// gives nil when Run is not running.
func (d *Dispatcher) Queues(ctx context.Context) []QueueInfo {
	var infos []QueueInfo
	err := d.call(ctx, func(now time.Time) {
		for _, q := range d.queues {
			if q.depth > 0 || !q.idle() {
				infos = append(infos, d.describe(q, now))
			}
		}
	})
	if err != nil {
		return nil
	}
	slices.SortFunc(infos, func(a, b QueueInfo) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Lane, b.Lane))
	})
	return infos
}

func (d *Dispatcher) describe(q *queue, now time.Time) QueueInfo {
	i := QueueInfo{Tenant: q.key.Tenant, Lane: q.key.Lane, Depth: max(q.depth, q.ready()), Ready: q.ready(), InFlight: q.busy,
		Next: q.wake, Limit: d.binding(q, now)}
	if q.last != nil {
		i.LastFail = q.last.Error()
	}
	s := q.site
	if s == nil {
		return i
	}
	i.Site, i.Busy, i.Window, i.Rate = s.key, s.busy, s.limit(), s.pace.Rate()
	if !s.open {
		i.Since, i.Next = s.closedAt, s.probeAt()
		if f := s.cause(); f != nil {
			i.Closed = f.Error()
		}
	} else if i.Limit == LimitPace {
		i.Next = s.pace.Next(now)
	}
	return i
}

// binding is the limit that keeps q from having one more job.
func (d *Dispatcher) binding(q *queue, now time.Time) Limit {
	s := q.site
	switch {
	case s != nil && !s.open && (s.suspensions > 0 || s.suspended.After(now)):
		return LimitSuspended
	case s != nil && !s.open:
		return LimitDead
	case q.asking:
		return LimitSite
	case q.ready() == 0:
		return LimitNone
	case q.head.len() == 0:
		return LimitReading
	case d.capped(q.tenant):
		return LimitTenant
	case s != nil && s.pace.Next(now).After(now):
		return LimitPace
	case s != nil && s.busy >= d.limit(s, now):
		return LimitWindow
	case d.noPlace():
		return LimitWorkers
	}
	return LimitNone
}

// Resume has the site of a tenant's upstream tried again at once: call it when
// the cause of its trouble may be gone, as after a new password. It does not
// wait; where there is no room to note it, the next probe comes by itself.
func (d *Dispatcher) Resume(t mail.TenantID, u mail.UpstreamID) {
	if key, ok := siteKey(spool.Queue{Tenant: t, Lane: mail.LaneFor(u, "", "")}); ok {
		select {
		case d.resumes <- key:
		default:
		}
	}
}

// resumed runs on the owner.
func (d *Dispatcher) resumed(key string, now time.Time) {
	if s := d.sites[key]; s != nil {
		s.probe(now)
		d.look(s, now)
	}
}

// hasten has q's site probed at once.
func (d *Dispatcher) hasten(q *queue, now time.Time) {
	if q.site != nil {
		q.site.probe(now)
		d.look(q.site, now)
	}
}
