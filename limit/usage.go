package limit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// Counts is what passed in a window.
type Counts struct {
	Messages, Recipients, NewRecipients, Bounces, Complaints int64
}

func (c *Counts) add(d Counts) {
	c.Messages += d.Messages
	c.Recipients += d.Recipients
	c.NewRecipients += d.NewRecipients
	c.Bounces += d.Bounces
	c.Complaints += d.Complaints
}

// Windows is the usage of one tenant or credential.
type Windows struct {
	Hour, Day Counts // the last hour and the last 24 hours
}

// UsageOptions of a [Usage].
type UsageOptions struct {
	// MaxTenants bounds the tenants in memory; default 20,000. One takes about
	// 1 KiB, and each of its credentials as much.
	MaxTenants int
}

// Usage counts what tenants and their credentials sent. Windows slide in steps:
// the hour in five minutes, the day in hours, and the oldest step counts whole,
// so that usage is never told too low. What was counted by a clock that has since
// been set back counts on, until the clock has come to where it was and a window
// further, and a step never makes way for an earlier one. Tenants are read from
// the store when first asked for. Its methods may be called from many goroutines.
//
// All of them want the time by the clock, not that of a message: who counts at a
// time that is long past is not seen in the windows as they are now.
type Usage struct {
	store   kv.Store
	most    int
	mu      sync.Mutex
	tenants map[mail.TenantID]*account
	dirty   map[mail.TenantID]*account // holds changes that are not in the store
}

// account is the usage of a tenant.
//
// A holder of its lock may take that of Usage, never the other way round: who
// holds that one only tries.
type account struct {
	mu          sync.Mutex
	loaded      bool
	gone        bool  // dropped from memory: open it again
	touched     int64 // hour of the last use
	total       ring
	credentials map[string]*ring
}

// NewUsage makes a counter over store; see [Usage.Run].
func NewUsage(store kv.Store, o UsageOptions) *Usage {
	if o.MaxTenants <= 0 {
		o.MaxTenants = 20_000
	}
	return &Usage{store: store, most: o.MaxTenants, tenants: map[mail.TenantID]*account{}, dirty: map[mail.TenantID]*account{}}
}

// Add counts c for the tenant and, unless it is empty, the credential.
func (u *Usage) Add(ctx context.Context, t mail.TenantID, credential string, now time.Time, c Counts) error {
	a, err := u.open(ctx, t, now)
	if err != nil {
		return err
	}
	defer a.mu.Unlock()
	a.total.add(now, c)
	if credential != "" {
		a.credential(credential).add(now, c)
	}
	u.mu.Lock()
	u.dirty[t] = a
	u.mu.Unlock()
	return nil
}

// Get tells the usage of the tenant and of the credential.
func (u *Usage) Get(ctx context.Context, t mail.TenantID, credential string, now time.Time) (tenant, cred Windows, err error) {
	a, err := u.open(ctx, t, now)
	if err != nil {
		return Windows{}, Windows{}, err
	}
	defer a.mu.Unlock()
	tenant = a.total.windows(now)
	if r := a.credentials[credential]; r != nil {
		cred = r.windows(now)
	}
	return tenant, cred, nil
}

func (a *account) credential(name string) *ring {
	r := a.credentials[name]
	if r == nil {
		r = new(ring)
		if a.credentials == nil {
			a.credentials = map[string]*ring{}
		}
		a.credentials[name] = r
	}
	return r
}

// open gives the tenant's account, loaded and locked.
func (u *Usage) open(ctx context.Context, t mail.TenantID, now time.Time) (*account, error) {
	for {
		a := u.account(t)
		a.mu.Lock()
		if a.gone {
			a.mu.Unlock()
			continue
		}
		a.touched = hourOf(now)
		if a.loaded {
			return a, nil
		}
		if err := a.load(ctx, u.store, t, now); err != nil {
			a.mu.Unlock()
			return nil, fmt.Errorf("reading the usage of tenant %d: %w", t, err)
		}
		a.loaded = true
		return a, nil
	}
}

func (u *Usage) account(t mail.TenantID) *account {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.tenants[t]
	if a == nil {
		if len(u.tenants) >= u.most {
			u.makeRoom()
		}
		a = new(account)
		u.tenants[t] = a
	}
	return a
}

// makeRoom drops, of some tenants that the map gives at random, the one that was
// used longest ago and holds no change; u.mu is held. When all of them hold
// changes none is dropped: the next flush frees them.
func (u *Usage) makeRoom() {
	const sample = 16
	var victim *account
	var name mail.TenantID
	seen := 0
	for t, a := range u.tenants {
		if u.dirty[t] == nil && a.mu.TryLock() {
			if victim == nil || a.touched < victim.touched {
				if victim != nil {
					victim.mu.Unlock()
				}
				victim, name = a, t
			} else {
				a.mu.Unlock()
			}
		}
		if seen++; seen == sample {
			break
		}
	}
	if victim != nil {
		victim.gone = true
		victim.mu.Unlock()
		delete(u.tenants, name)
	}
}

// Slots of a ring: the one that runs and as many as the window has steps.
const (
	fineStep  = 5 * time.Minute
	fineSlots = int64(time.Hour/fineStep) + 1
	hourSlots = 24 + 1
	fineInDay = int64(time.Hour / fineStep) // fine slots of one hour
)

func fineOf(t time.Time) int64 { return t.Unix() / int64(fineStep/time.Second) }
func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// ring holds the counts of the last hour in fine slots and of the last day in
// hours. Each slot knows its time, so none has to be cleared.
type ring struct {
	fine  [fineSlots]slot
	hours [hourSlots]slot
	// dirty is the first hour that is not in the store as it is here; writing is
	// the same of what is just being written. 0: none.
	dirty, writing int64
}

// slot counts in 32 bits: four thousand million in an hour is beyond any tenant.
type slot struct {
	at     int64 // number of the step
	counts [5]uint32
}

// add counts c in step at, or in a later one that has its place.
func (s *slot) add(at int64, c Counts) {
	if s.at < at {
		*s = slot{at: at}
	}
	for i, n := range [5]int64{c.Messages, c.Recipients, c.NewRecipients, c.Bounces, c.Complaints} {
		s.counts[i] += uint32(n)
	}
}

func (s *slot) sum() Counts {
	n := s.counts
	return Counts{int64(n[0]), int64(n[1]), int64(n[2]), int64(n[3]), int64(n[4])}
}

func (r *ring) add(now time.Time, c Counts) {
	fine, hour := fineOf(now), hourOf(now)
	r.fine[fine%fineSlots].add(fine, c)
	r.hours[hour%hourSlots].add(hour, c)
	if r.dirty == 0 || hour < r.dirty {
		r.dirty = hour
	}
}

// windows adds up what the windows reach, and what is later than now.
func (r *ring) windows(now time.Time) (w Windows) {
	fine, hour := fineOf(now), hourOf(now)
	for i := range r.fine {
		if s := &r.fine[i]; s.at > fine-fineSlots {
			w.Hour.add(s.sum())
		}
	}
	for i := range r.hours {
		if s := &r.hours[i]; s.at > hour-hourSlots {
			w.Day.add(s.sum())
		}
	}
	return w
}
