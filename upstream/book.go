package upstream

import (
	"container/list"
	"context"
	"io"
	"sync"
	"time"

	"behalf/mail"
)

// Key names a built upstream. Revision grows when its settings change, so that
// a change takes effect with the next job.
type Key struct {
	Tenant   mail.TenantID
	ID       mail.UpstreamID
	Revision uint64
}

// Book keeps upstreams that were built, at most a given number. One that falls
// out, or is replaced by a newer revision, is closed once its last user is done;
// no job sees it close.
type Book struct {
	most int

	mu      sync.Mutex
	pages   map[place]*page
	recent  *list.List // of *page, the latest used first
	closing sync.WaitGroup
}

// place is a key without its revision.
type place struct {
	tenant mail.TenantID
	id     mail.UpstreamID
}

type page struct {
	key     Key
	ready   chan struct{} // closed when up is set
	up      Upstream
	users   int
	removed bool
	at      *list.Element
}

// NewBook makes a book of at most so many upstreams; 0 means 1,000.
func NewBook(most int) *Book {
	if most <= 0 {
		most = 1000
	}
	return &Book{most: most, pages: map[place]*page{}, recent: list.New()}
}

// Get gives the upstream of key, built by build if it is not in the book, and a
// function to call when the caller is done with it. Concurrent calls build once.
// A build that fails gives an upstream that fails every job with that error,
// OfRoute unless it is a Failure; it is not kept, so the next Get tries again.
func (b *Book) Get(ctx context.Context, key Key, build func(context.Context) (Upstream, error)) (Upstream, func()) {
	b.mu.Lock()
	at := place{key.Tenant, key.ID}
	p := b.pages[at]
	if p != nil && p.key.Revision != key.Revision {
		b.remove(p)
		p = nil
	}
	if p != nil {
		p.users++
		b.recent.MoveToFront(p.at)
		b.mu.Unlock()
		return b.wait(ctx, p)
	}
	p = &page{key: key, ready: make(chan struct{}), users: 1}
	p.at = b.recent.PushFront(p)
	b.pages[at] = p
	b.shrink()
	b.mu.Unlock()

	up, err := build(ctx)
	b.mu.Lock()
	if err != nil {
		up = Broken(err)
		b.remove(p)
	}
	p.up = up
	b.mu.Unlock()
	close(p.ready)
	return up, b.done(p)
}

// wait waits for another caller's build.
func (b *Book) wait(ctx context.Context, p *page) (Upstream, func()) {
	select {
	case <-p.ready:
		return p.up, b.done(p)
	case <-ctx.Done():
		b.done(p)()
		return Broken(mail.AsFailure(ctx.Err())), func() {}
	}
}

// done ends one use, once.
func (b *Book) done(p *page) func() {
	over := false
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if over {
			return
		}
		over = true
		p.users--
		b.retire(p)
	}
}

// remove takes a page out; b.mu is held.
func (b *Book) remove(p *page) {
	if p.removed {
		return
	}
	p.removed = true
	b.recent.Remove(p.at)
	delete(b.pages, place{p.key.Tenant, p.key.ID})
	b.retire(p)
}

// retire closes what is out of the book and out of use.
func (b *Book) retire(p *page) {
	c, ok := p.up.(io.Closer)
	if !p.removed || p.users > 0 || !ok {
		return
	}
	b.closing.Go(func() { c.Close() })
}

// shrink removes the pages unused for longest until the rest fits. A page in use
// is passed over, so that a sudden crowd cannot close what it is about to share.
func (b *Book) shrink() {
	for e := b.recent.Back(); e != nil && b.recent.Len() > b.most; {
		p := e.Value.(*page)
		e = e.Prev()
		if p.users == 0 {
			b.remove(p)
		}
	}
}

// Len counts the upstreams in the book.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.recent.Len()
}

// Sessions counts the open sessions of the upstreams in the book.
func (b *Book) Sessions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, p := range b.pages {
		if s, ok := p.up.(interface{ Sessions() int }); ok {
			n += s.Sessions()
		}
	}
	return n
}

// Close empties the book and waits until all that is out of use is closed.
func (b *Book) Close() error {
	b.mu.Lock()
	for _, p := range b.pages {
		b.remove(p)
	}
	b.mu.Unlock()
	b.closing.Wait()
	return nil
}

// broken is an upstream that cannot be used.
type broken struct{ f *mail.Failure }

// Broken gives an upstream that fails every job with err: for routes that name
// what is not there, cannot be built, or is suspended. An error that is no
// Failure is the route's fault.
func Broken(err error) Upstream {
	f, ok := err.(*mail.Failure)
	if !ok {
		f = mail.Fail(451, mail.Enhanced{4, 3, 5}, mail.OfRoute, mail.ReasonUpstreamAbsent, "this way out cannot be used: %w", err)
	}
	return broken{f}
}

func (b broken) Deliver(_ context.Context, j *Job) []Result { return FailAll(j, time.Now(), b.f) }
func (b broken) Traits() Traits                             { return Traits{} }
