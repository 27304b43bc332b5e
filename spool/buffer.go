package spool

import (
	"sync"
	"sync/atomic"
)

// buffer is pooled memory of one of a few sizes.
type buffer struct {
	b    []byte // its capacity is the size of its class
	pool *buffers
}

// buffers hands out memory for bodies within one budget for all of them.
type buffers struct {
	sizes  []int // of the classes, ascending
	pools  []sync.Pool
	used   atomic.Int64
	budget int64
}

// smallest is the size of the first class; each other has twice the one before.
// So 4, 16 and 64 KiB, of which much mail and every measure of it has a
// multiple, leave room for a header and little else.
const smallest = 5 << 10

func newBuffers(largest, budget int64) *buffers {
	p := &buffers{budget: budget}
	for n := int64(smallest); n < largest; n *= 2 {
		p.sizes = append(p.sizes, int(n))
	}
	p.sizes = append(p.sizes, int(largest))
	p.pools = make([]sync.Pool, len(p.sizes))
	return p
}

func (p *buffers) class(n int) int {
	for i, size := range p.sizes {
		if n <= size {
			return i
		}
	}
	return -1
}

// roomy reports whether less than half of the budget is used.
func (p *buffers) roomy() bool { return p.used.Load() < p.budget/2 }

// get gives an empty buffer for at least n bytes, or nil when that is too
// large or the budget is used up.
func (p *buffers) get(n int) *buffer {
	i := p.class(n)
	if i < 0 {
		return nil
	}
	size := int64(p.sizes[i])
	if p.used.Add(size) > p.budget {
		p.used.Add(-size)
		return nil
	}
	b, _ := p.pools[i].Get().(*buffer)
	if b == nil {
		b = &buffer{b: make([]byte, 0, size), pool: p}
	}
	return b
}

// put takes b back; nil is allowed.
func (b *buffer) put() {
	if b == nil {
		return
	}
	p := b.pool
	p.used.Add(-int64(cap(b.b)))
	b.b = b.b[:0]
	p.pools[p.class(cap(b.b))].Put(b)
}
