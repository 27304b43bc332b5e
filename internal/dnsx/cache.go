package dnsx

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

type key struct {
	name  string
	qtype uint16
}

type entry struct {
	result
	until time.Time
}

// cache keeps results, least recently used out first, and lets one caller ask
// while others with the same question wait for it.
type cache struct {
	mu     sync.Mutex
	max    int // KiB
	used   int
	lru    *simplelru.LRU[key, entry]
	flying map[key]*flight
}

// flight is a question under way.
type flight struct {
	done   chan struct{}
	result result
	broken bool // its asker gave up, which says nothing about the answer
}

func newCache(size int) *cache {
	c := &cache{max: size, flying: map[key]*flight{}}
	// The size is positive, so this cannot fail; weight is our own affair.
	c.lru, _ = simplelru.NewLRU(size, func(_ key, e entry) { c.used -= e.weight() })
	return c
}

func (e entry) weight() int { return 1 + e.size()>>10 }

// get gives the kept result of k, or that of ask, which runs in the goroutine
// of the first who wants it, under that one's context. When that caller gives
// up, another one asks.
func (c *cache) get(ctx context.Context, k key, ask func() result) result {
	for {
		c.mu.Lock()
		if e, ok := c.lru.Get(k); ok {
			if left := time.Until(e.until); left > 0 {
				c.mu.Unlock()
				e.TTL = left
				return e.result
			}
		}
		f, under := c.flying[k]
		if !under {
			f = &flight{done: make(chan struct{})}
			c.flying[k] = f
			c.mu.Unlock()
			return c.fly(ctx, k, f, ask)
		}
		c.mu.Unlock()
		select {
		case <-f.done:
			if !f.broken {
				return f.result
			}
		case <-ctx.Done():
			return result{err: fmt.Errorf("%w: %s: %w", ErrTemporary, k.name, ctx.Err())}
		}
	}
}

func (c *cache) fly(ctx context.Context, k key, f *flight, ask func() result) result {
	f.broken = true // unless ask returns
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.flying, k)
		if !f.broken {
			c.put(k, f.result)
		}
		close(f.done)
	}()
	r := ask()
	f.result, f.broken = r, r.err != nil && ended(ctx) != nil
	return r
}

func (c *cache) put(k key, r result) {
	ttl := r.TTL
	if r.err != nil {
		ttl = errTTL
	}
	e := entry{r, time.Now().Add(ttl)}
	c.lru.Remove(k)
	if c.lru.Len() >= c.max {
		c.lru.RemoveOldest()
	}
	c.lru.Add(k, e)
	for c.used += e.weight(); c.used > c.max; {
		if _, _, ok := c.lru.RemoveOldest(); !ok {
			return
		}
	}
}
