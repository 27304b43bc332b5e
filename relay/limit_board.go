package relay

import (
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"behalf/limit"
	"behalf/mail"
	"behalf/policy"
)

// The board remembers which limits each tenant met of late. It is for people to
// look at, lives in memory alone, and is bounded: the tenants, and the limits of
// each, that were not seen for longest are forgotten first.
const (
	boardTenants = 2048
	boardLimits  = 32 // of one tenant
)

type board struct {
	tenants *lru.Cache[mail.TenantID, *boardOf]
}

// boardOf is the board of one tenant.
type boardOf struct {
	mu   sync.Mutex
	seen []sighting
}

// sighting is one limit and what came of it.
type sighting struct {
	key   limit.Key
	limit policy.Limit
	n     boardCounts
}

// boardCounts are what a limit did to a tenant's messages since it was first
// seen.
type boardCounts struct {
	Last        time.Time `json:"last,omitzero" doc:"When it last counted something, or refused it."`
	LastRefused time.Time `json:"last_refused,omitzero"`
	Refused     int64     `json:"refused" doc:"How often it refused, since the limit was first seen here."`
	Paced       int64     `json:"paced" doc:"How often it delayed."`
	Held        int64     `json:"held" doc:"How often it held."`
}

func newBoard() *board {
	tenants, err := lru.New[mail.TenantID, *boardOf](boardTenants)
	if err != nil {
		panic(err) // the size is positive
	}
	return &board{tenants}
}

// saw notes a batch that was granted, or refused by one of its limits.
func (b *board) saw(t mail.TenantID, now time.Time, asked *batch, v limit.Verdict) {
	of, ok := b.tenants.Get(t)
	if !ok {
		of = new(boardOf)
		if was, found, _ := b.tenants.PeekOrAdd(t, of); found {
			of = was
		}
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	for i := range asked.asks {
		a := &asked.asks[i]
		s := of.find(a.Key, asked.rules[i])
		s.n.Last = now
		switch {
		case !v.OK && i == v.Binding:
			s.n.LastRefused = now
			s.n.Refused++
		case !v.OK || a.Wait == 0:
		case a.Over == limit.OverHold:
			s.n.Held++
		default:
			s.n.Paced++
		}
	}
}

// find gives the sighting of a limit, in place of the oldest one if it is new.
func (of *boardOf) find(k limit.Key, l policy.Limit) *sighting {
	oldest := 0
	for i := range of.seen {
		s := &of.seen[i]
		if s.key == k {
			s.limit = l // rate and burst may have changed
			return s
		}
		if s.n.Last.Before(of.seen[oldest].n.Last) {
			oldest = i
		}
	}
	if len(of.seen) < boardLimits {
		of.seen = append(of.seen, sighting{})
		oldest = len(of.seen) - 1
	}
	of.seen[oldest] = sighting{key: k, limit: l}
	return &of.seen[oldest]
}

// of is what the board knows of a tenant.
func (b *board) of(t mail.TenantID) []sighting {
	of, ok := b.tenants.Peek(t)
	if !ok {
		return nil
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	return slices.Clone(of.seen)
}
