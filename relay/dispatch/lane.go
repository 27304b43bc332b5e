package dispatch

import (
	"bytes"
	"time"

	"behalf/mail"
	"behalf/spool"
)

const (
	headSize  = 64               // references a queue keeps in memory
	youngSize = 1024             // likewise while all of them are in memory already, just offered
	chunkSize = 64               // recipients an entry of the due index stands for
	lingers   = 60 * time.Second // how long an empty queue remembers its cursor
	briefly   = 5 * time.Second  // likewise one that was never read, so that it has none worth remembering
)

// ref points to recipients of one message that are due in one queue.
type ref struct {
	id    mail.ID
	at    time.Time
	chunk int
	fresh bool     // offered, not read from the due index
	msg   *message // nil when the message is not in memory
}

func (r *ref) same(id mail.ID, chunk int) bool { return r.id == id && r.chunk == chunk }

// queue is a lane of one tenant: a bounded head in memory over the due index.
type queue struct {
	key    spool.Queue
	site   *site // nil until known
	sited  time.Time
	tenant *tenant // never nil
	low    bool    // bulk: gives way to others at the same site

	in         *list // where it stands in line
	prev, next *queue
	promised   bool // a slot of its site is kept for it
	asking     bool // a worker is finding out its site

	head  refs
	fresh int // of them, offered
	busy  int // jobs under way

	// The due index behind the head: there is more to read from cursor on.
	more    bool
	loading bool
	behind  int        // entries there, as far as known
	cursor  spool.Due  // the last one read
	high    spool.Due  // the furthest one ever read
	loaded  time.Time  // when it was last read
	again   *spool.Due // cursor to go back to once the load under way is done
	wake    time.Time  // first entry that is not due yet; zero if none
	alarm   alarm

	// While its site is closed, references of messages that know no other way
	// are dropped. skipped is the first of them, kept for a probe as spare;
	// epoch is the closing this is about.
	skipped time.Time
	spare   ref
	epoch   int

	depth   int // recipients, due and not yet due, as far as known
	counted int // what it adds to its site's ready count
	last    *mail.Failure
}

func newQueue(k spool.Queue, t *tenant, after time.Time) *queue {
	_, _, stream := k.Lane.Parts()
	q := &queue{key: k, tenant: t, low: stream == mail.StreamBroadcast, cursor: before(after)}
	q.alarm.queue = q
	return q
}

// before is the cursor from which everything due at or after at is read.
func before(at time.Time) spool.Due {
	return spool.Due{At: at.Truncate(time.Millisecond).Add(-time.Millisecond)}
}

// compare orders entries of one queue as the due index does.
func compare(a, b *spool.Due) int {
	if d := a.At.UnixMilli() - b.At.UnixMilli(); d != 0 {
		if d < 0 {
			return -1
		}
		return 1
	}
	if c := bytes.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	return a.Chunk - b.Chunk
}

// takeRef takes the first reference off the head.
func (q *queue) takeRef() ref {
	r := q.head.popFront()
	if r.fresh {
		q.fresh--
	}
	return r
}

// rewind has what is due at or after at read again.
func (q *queue) rewind(at time.Time) {
	q.more = true
	q.lower(at)
}

// lower moves the cursor back, so that reading on finds what is due at or after
// at.
func (q *queue) lower(at time.Time) {
	c := before(at)
	switch {
	case !q.loading:
		if compare(&c, &q.cursor) < 0 {
			q.cursor = c
		}
	case q.again == nil || compare(&c, q.again) < 0:
		q.again = &c
	}
}

// unskip has what was put by read again.
func (q *queue) unskip() {
	if !q.skipped.IsZero() {
		q.rewind(q.skipped)
		q.skipped, q.spare = time.Time{}, ref{}
	}
}

// idle reports whether nothing is left of q but its memory of the cursor.
func (q *queue) idle() bool {
	return q.in == nil && q.head.len() == 0 && !q.more && !q.loading && !q.asking && q.busy == 0 && q.wake.IsZero() && q.skipped.IsZero()
}

// lingers is how long q stays after it has become empty. With mail to very many
// domains nearly all queues hold one message, and never another: they are not to
// fill the memory for a minute.
func (q *queue) lingers() time.Duration {
	if q.loaded.IsZero() {
		return briefly
	}
	return lingers
}

// ready is how many jobs could be tried if the site let them.
func (q *queue) ready() int {
	if q.more {
		return q.head.len() + q.behind
	}
	return q.head.len()
}

// tenant bounds what one tenant has under way.
type tenant struct {
	id     mail.TenantID
	busy   int
	queues int
	capped list // queues that wait for a job of this tenant to end
}

// message is one that is in memory: referred to by heads, in jobs, or claimed
// by an operation.
type message struct {
	id    mail.ID
	st    *spool.Stored // as it was read: workers may read it, nobody writes it
	rcpts []mail.Recipient
	own   bool // rcpts is ours to write, no longer st's
	bytes int64

	uses    int // references, jobs and claims
	jobs    int // attempts under way
	busy    bits
	reading bool // a worker is loading it
	claims  int  // operations at it; no job may start
	version int  // of the recipients as settled, to know a stale read
	parked  []parkedRef
	pending []*pendingOp
}

// parkedRef waits for its message to be loaded or no longer claimed.
type parkedRef struct {
	q *queue
	r ref
}

// dueAt reports whether r is due in lane at now. Times are compared as the due
// index keeps them, in milliseconds.
func dueAt(r *mail.Recipient, lane mail.Lane, now time.Time) (here, due bool) {
	here = r.State == mail.Queued && r.Lane == lane
	return here, here && r.Next.UnixMilli() <= now.UnixMilli()
}

// set writes a settled recipient.
func (m *message) set(i int, r mail.Recipient) {
	if m.st == nil {
		return
	}
	if !m.own {
		m.rcpts, m.own = append([]mail.Recipient(nil), m.rcpts...), true
	}
	m.rcpts[i] = r
}

// bits is a set of recipient numbers.
type bits struct {
	few  uint64
	many []uint64
	n    int
}

func (b *bits) has(i int) bool {
	if i < 64 {
		return b.few&(1<<i) != 0
	}
	i -= 64
	return i/64 < len(b.many) && b.many[i/64]&(1<<(i%64)) != 0
}

func (b *bits) add(i int) {
	if b.has(i) {
		return
	}
	b.n++
	if i < 64 {
		b.few |= 1 << i
		return
	}
	i -= 64
	for i/64 >= len(b.many) {
		b.many = append(b.many, 0)
	}
	b.many[i/64] |= 1 << (i % 64)
}

func (b *bits) remove(i int) {
	if !b.has(i) {
		return
	}
	b.n--
	if i < 64 {
		b.few &^= 1 << i
		return
	}
	i -= 64
	b.many[i/64] &^= 1 << (i % 64)
}

func (b *bits) clone() bits {
	c := *b
	c.many = append([]uint64(nil), b.many...)
	return c
}
