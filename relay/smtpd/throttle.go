package smtpd

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// throttled is what a bucket allows: burst failures at once, then one each
// every.
type throttled struct {
	burst int
	every time.Duration
}

// The rates of failed logins. A network's own bucket is wide, for many people
// share one; one name tried from one network has little room.
var (
	throttlePair    = throttled{5, time.Minute}
	throttleNetwork = throttled{30, 10 * time.Second}
	throttleName    = throttled{10, 30 * time.Second} // only slows
)

// throttleSize bounds the table, in keys. The oldest go first; a key is about
// 150 octets.
const throttleSize = 1 << 16

// maxFailDelay is the longest that a refusal of a login is held back.
const maxFailDelay = 4 * time.Second

type throttleKey struct {
	what byte // p(air), n(etwork) or w(ho)
	net  netip.Prefix
	name string
}

// Throttle slows down the guessing of passwords. It counts failed logins by
// network (IPv4 /24, IPv6 /56), by name, and by the two together; each count is
// a GCRA whose state is one time. A network, and a name from one network, can
// be shut out for a while; not so a name that logged in from that network
// lately, because the apps of many tenants share one, and one of them with a
// revoked secret must not stop the others. A name alone is never shut out, or
// anyone could do that to its owner from elsewhere: its failures are answered
// more slowly instead.
//
// A Throttle is safe for concurrent use; doors may share one.
type Throttle struct {
	mu    sync.Mutex
	table *simplelru.LRU[throttleKey, record]
}

// record is what is kept of a key.
type record struct {
	tat  time.Time // GCRA's theoretical arrival time
	good time.Time // last successful login; pairs only
}

// goodFor is how long a name that logged in from a network is trusted to be at
// home there.
const goodFor = 24 * time.Hour

// NewThrottle makes an empty Throttle.
func NewThrottle() *Throttle {
	t, err := simplelru.NewLRU[throttleKey, record](throttleSize, nil)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Throttle{table: t}
}

// throttleKeys gives the keys of the pair, the network and the name.
func throttleKeys(addr netip.Addr, name string) (pair, network, who throttleKey) {
	addr = addr.Unmap()
	bits := 24
	if addr.Is6() {
		bits = 56
	}
	p, _ := addr.Prefix(bits)
	name = strings.ToLower(name)
	if len(name) > 255 {
		name = name[:255]
	}
	return throttleKey{'p', p, name}, throttleKey{'n', p, ""}, throttleKey{'w', netip.Prefix{}, name}
}

// debt is how far a key's bucket is filled beyond empty.
func (t *Throttle) debt(k throttleKey, now time.Time) time.Duration {
	r, _ := t.table.Get(k)
	return max(0, r.tat.Sub(now))
}

// wait is how long a key is shut out.
func (t *Throttle) wait(k throttleKey, r throttled, now time.Time) time.Duration {
	return max(0, t.debt(k, now)-time.Duration(r.burst-1)*r.every)
}

// Blocked is how long logins with that name from that address are shut out;
// zero when one may be tried now.
func (t *Throttle) Blocked(addr netip.Addr, name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	pair, network, _ := throttleKeys(addr, name)
	d := t.wait(pair, throttlePair, now)
	if r, _ := t.table.Peek(pair); now.Sub(r.good) > goodFor {
		d = max(d, t.wait(network, throttleNetwork, now))
	}
	return d
}

// Failed counts a failed login and returns how long its answer is to be held
// back.
func (t *Throttle) Failed(addr netip.Addr, name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	pair, network, who := throttleKeys(addr, name)
	full := max(t.add(network, throttleNetwork, now), t.add(pair, throttlePair, now), t.add(who, throttleName, now))
	return time.Duration(full * float64(maxFailDelay))
}

// add counts one failure and returns how full the bucket is, 0 to 1.
func (t *Throttle) add(k throttleKey, r throttled, now time.Time) float64 {
	limit := time.Duration(r.burst) * r.every
	debt := min(t.debt(k, now)+r.every, limit)
	old, _ := t.table.Peek(k)
	t.table.Add(k, record{tat: now.Add(debt), good: old.good})
	return float64(debt) / float64(limit)
}

// Succeeded forgets the failures of that name from that address, and no
// others: a good login must not cover up bad ones.
func (t *Throttle) Succeeded(addr netip.Addr, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pair, _, _ := throttleKeys(addr, name)
	t.table.Add(pair, record{good: time.Now()})
}
