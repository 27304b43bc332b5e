// Package throttle slows down the guessing of passwords, across sessions and
// doors, without letting a stranger shut out the owner of a name.
package throttle

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// rate is what a bucket allows: burst failures at once, then one each
// every.
type rate struct {
	burst int
	every time.Duration
}

// The rates of failed logins. A network's own bucket is wide, for many people
// share one; one name tried from one network has little room.
var (
	perPair    = rate{5, time.Minute}
	perNetwork = rate{30, 10 * time.Second}
	perName    = rate{10, 30 * time.Second} // only slows
)

// maxKeys bounds the table, in keys. The oldest go first; a key is about
// 150 octets.
const maxKeys = 1 << 16

// MaxDelay is the longest that the answer to a failed login is held back.
const MaxDelay = 4 * time.Second

type key struct {
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
	table *simplelru.LRU[key, record]
}

// record is what is kept of a key.
type record struct {
	tat  time.Time // GCRA's theoretical arrival time
	good time.Time // last successful login; pairs only
}

// goodFor is how long a name that logged in from a network is trusted to be at
// home there.
const goodFor = 24 * time.Hour

// New makes an empty Throttle.
func New() *Throttle {
	t, err := simplelru.NewLRU[key, record](maxKeys, nil)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Throttle{table: t}
}

// keys gives the keys of the pair, the network and the name.
func keys(addr netip.Addr, name string) (pair, network, who key) {
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
	return key{'p', p, name}, key{'n', p, ""}, key{'w', netip.Prefix{}, name}
}

// debt is how far a key's bucket is filled beyond empty.
func (t *Throttle) debt(k key, now time.Time) time.Duration {
	r, _ := t.table.Get(k)
	return max(0, r.tat.Sub(now))
}

// wait is how long a key is shut out.
func (t *Throttle) wait(k key, r rate, now time.Time) time.Duration {
	return max(0, t.debt(k, now)-time.Duration(r.burst-1)*r.every)
}

// Blocked is how long logins with that name from that address are shut out;
// zero when one may be tried now.
func (t *Throttle) Blocked(addr netip.Addr, name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	pair, network, _ := keys(addr, name)
	d := t.wait(pair, perPair, now)
	if r, _ := t.table.Peek(pair); now.Sub(r.good) > goodFor {
		d = max(d, t.wait(network, perNetwork, now))
	}
	return d
}

// Failed counts a failed login and returns how long its answer is to be held
// back.
func (t *Throttle) Failed(addr netip.Addr, name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	pair, network, who := keys(addr, name)
	full := max(t.add(network, perNetwork, now), t.add(pair, perPair, now), t.add(who, perName, now))
	return time.Duration(full * float64(MaxDelay))
}

// add counts one failure and returns how full the bucket is, 0 to 1.
func (t *Throttle) add(k key, r rate, now time.Time) float64 {
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
	pair, _, _ := keys(addr, name)
	t.table.Add(pair, record{good: time.Now()})
}
