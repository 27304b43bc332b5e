package scan

import "sync"

// Pool lends scanners, so that not every message needs new ones.
type Pool struct{ pool sync.Pool }

// maxKept is the largest header whose memory a Pool keeps.
const maxKept = 16 << 10

// Get gives a scanner for one message.
func (p *Pool) Get() *Scanner {
	if s, ok := p.pool.Get().(*Scanner); ok {
		s.Reset()
		return s
	}
	return New()
}

// Put takes a scanner back; neither it nor what its Header gave may be used
// any more.
func (p *Pool) Put(s *Scanner) {
	if cap(s.head) <= maxKept {
		p.pool.Put(s)
	}
}
