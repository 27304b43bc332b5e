package dnsx

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/coocood/freecache"
)

type key struct {
	name  string
	qtype uint16
}

// cache keeps results, and lets one caller ask while others with the same
// question wait for it. What it keeps are octets in a few large pieces: the
// answers for a hundred thousand domains, each of several objects, would take the
// garbage collector longer than asking again. Those that were not wanted for
// long go first.
type cache struct {
	made   time.Time // when its clock began
	secret [8]byte   // before each key, so that nobody can choose names that end in one place

	mu     sync.Mutex
	kept   *freecache.Cache
	flying map[key]*flight
}

// flight is a question under way.
type flight struct {
	done   chan struct{}
	result result
	broken bool // its asker gave up, which says nothing about the answer
}

// newCache makes one for so many octets, and half a MiB at least. As many again
// may be needed to find them. Results of more than a thousandth of it are not
// kept.
func newCache(size int) *cache {
	c := &cache{made: time.Now(), kept: freecache.NewCache(size), flying: map[key]*flight{}}
	_, _ = rand.Read(c.secret[:]) // it never fails
	return c
}

// get gives the kept result of k, or that of ask, which runs in the goroutine
// of the first who wants it, under that one's context. When that caller gives
// up, another one asks.
func (c *cache) get(ctx context.Context, k key, ask func() result) result {
	for {
		c.mu.Lock()
		if r, ok := c.find(k); ok {
			c.mu.Unlock()
			return r
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

// octets writes k behind the room that it is given.
func (c *cache) octets(room []byte, k key) []byte {
	return binary.BigEndian.AppendUint16(append(append(room, c.secret[:]...), k.name...), k.qtype)
}

// find gives what is kept for k and still holds.
func (c *cache) find(k key) (r result, ok bool) {
	var room [128]byte
	var kept string
	err := c.kept.GetFn(c.octets(room[:0], k), func(b []byte) error {
		kept = string(b)
		return nil
	})
	if err != nil {
		return result{}, false
	}
	until := packed(kept)
	left := until.time() - time.Since(c.made)
	if left <= 0 {
		return result{}, false
	}
	r = unpack(until)
	r.TTL = left
	return r, true
}

func (c *cache) put(k key, r result) {
	ttl := r.TTL
	if r.err != nil {
		ttl = errTTL
	}
	var room [128]byte
	var space [512]byte
	b := r.pack(packTime(space[:0], time.Since(c.made)+ttl))
	_ = c.kept.Set(c.octets(room[:0], k), b, int(ttl/time.Second)+1) // one that is too large is asked again
}
