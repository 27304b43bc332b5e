package limit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// A row "b" + tenant (4 bytes) + family + 0 + domain holds what one family of
// receivers got of mail from a domain: a version, then for each hour that has
// any, oldest first, its number since 1970 and the recipients, in the variable
// length encoding. Tenant 0 is all of them. The row ends by itself when its
// last hour is a day old.
const (
	tableBulk   = 'b'
	bulkVersion = 1
	bulkLife    = hourSlots * time.Hour
)

// BulkOptions of a [Bulk].
type BulkOptions struct {
	// MaxKeys bounds the pairs of domain and family in memory; default 20,000.
	// One takes about 600 bytes; the others wait in the store.
	MaxKeys int
}

// Bulk counts the recipients that each big receiver got of mail from a domain in
// the last 24 hours. The hours slide as those of [Usage] do, so that the count is
// never too low. A message counts from the moment it asks, so that messages that
// come at once see each other, and no more if it is not accepted. Its methods may
// be called from many goroutines.
type Bulk struct {
	store kv.Store
	most  int

	// loading is held while a row is read and put into the map, which is also
	// the only time at which one is dropped.
	loading sync.Mutex
	mu      sync.Mutex
	keys    map[bulkKey]*bulkCount
	dirty   map[bulkKey]*bulkCount // not in the store as they are here
}

type bulkKey struct {
	tenant         mail.TenantID
	family, domain string
}

// bulkCount is the last day of one key; Bulk's mu guards it.
type bulkCount struct {
	hours   [hourSlots]hourCount
	pending int64 // asked by messages on their way
	dirty   bool
	used    int64 // hour of the last use
}

type hourCount struct{ at, n int64 }

// BulkShare is what one message has for one family, and with what there was
// before.
type BulkShare struct {
	Family     string
	Recipients int64 // of the message
	Total      int64 // in 24 hours, those of the message and of others on their way included
}

// BulkReservation is what one message counts for; it ends with Commit or Abort.
type BulkReservation struct {
	b      *Bulk
	now    time.Time
	parts  []*bulkCount
	keys   []bulkKey
	shares []BulkShare
}

// NewBulk makes a counter over store; see [Bulk.Run].
func NewBulk(store kv.Store, o BulkOptions) *Bulk {
	if o.MaxKeys <= 0 {
		o.MaxKeys = 20_000
	}
	return &Bulk{store: store, most: o.MaxKeys, keys: map[bulkKey]*bulkCount{}, dirty: map[bulkKey]*bulkCount{}}
}

// Reserve counts a message's shares for mail from domain and fills in their
// totals. A tenant other than 0 has its own count, for a domain that many
// tenants send from.
func (b *Bulk) Reserve(ctx context.Context, t mail.TenantID, domain string, now time.Time, shares []BulkShare) (*BulkReservation, error) {
	r := &BulkReservation{b: b, now: now, shares: shares}
	for i := range shares {
		key := bulkKey{t, shares[i].Family, domain}
		c, err := b.open(ctx, key, now, &shares[i])
		if err != nil {
			r.Abort()
			return nil, fmt.Errorf("reading how much mail from %s %s got: %w", domain, shares[i].Family, err)
		}
		r.parts, r.keys = append(r.parts, c), append(r.keys, key)
	}
	return r, nil
}

// Commit counts for good what the message reserved; it was accepted.
func (r *BulkReservation) Commit() { r.end(true) }

// Abort forgets it.
func (r *BulkReservation) Abort() { r.end(false) }

func (r *BulkReservation) end(accepted bool) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	for i, c := range r.parts {
		n := r.shares[i].Recipients
		c.pending -= n
		if accepted {
			c.add(r.now, n)
			c.dirty = true
			r.b.dirty[r.keys[i]] = c
		}
	}
	r.parts = nil
}

// open gives the count of a key, with the share pending there, and fills in its
// total.
func (b *Bulk) open(ctx context.Context, key bulkKey, now time.Time, s *BulkShare) (*bulkCount, error) {
	if c := b.known(key, now, s); c != nil {
		return c, nil
	}
	b.loading.Lock()
	defer b.loading.Unlock()
	if c := b.known(key, now, s); c != nil {
		return c, nil
	}
	c := &bulkCount{}
	err := b.store.View(ctx, func(r kv.Reader) error {
		row, err := r.Get(key.row())
		if err == nil {
			c.decode(row, now)
		}
		return err
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.keys) >= b.most {
		b.makeRoom()
	}
	b.keys[key] = c
	c.take(now, s)
	return c, nil
}

func (b *Bulk) known(key bulkKey, now time.Time, s *BulkShare) *bulkCount {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.keys[key]
	if c != nil {
		c.take(now, s)
	}
	return c
}

// take adds a share to what is pending, in one step with telling its total, so
// that no two messages are told the same.
func (c *bulkCount) take(now time.Time, s *BulkShare) {
	c.pending += s.Recipients
	c.used = hourOf(now)
	s.Total = c.day(now) + c.pending
}

// makeRoom drops, of some keys that the map gives at random, the one that was
// used longest ago and is in the store as it is here. When none is, none is
// dropped: the next flush frees them.
func (b *Bulk) makeRoom() {
	const sample = 16
	var victim *bulkCount
	var name bulkKey
	seen := 0
	for key, c := range b.keys {
		if c.pending == 0 && !c.dirty && (victim == nil || c.used < victim.used) {
			victim, name = c, key
		}
		if seen++; seen == sample {
			break
		}
	}
	if victim != nil {
		delete(b.keys, name)
	}
}

// Run writes what changed each second, and once more when ctx ends. Only an
// error of the store ends it before.
func (b *Bulk) Run(ctx context.Context) error { return EachSecond(ctx, b.Flush) }

// Flush writes what changed since the last one. What could not be written is
// written by the next.
func (b *Bulk) Flush(ctx context.Context) error {
	changed := b.changed()
	for i := 0; i < len(changed); i += page {
		batch := changed[i:min(i+page, len(changed))]
		err := b.store.Update(ctx, func(w kv.Writer) error {
			for _, r := range batch {
				if err := w.PutFor(r.key.row(), r.value, bulkLife); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.written(changed[:i])
			return fmt.Errorf("writing counts of bulk mail: %w", err)
		}
	}
	b.written(changed)
	return nil
}

// bulkRow is one key on its way to the store, with what it then held.
type bulkRow struct {
	key   bulkKey
	value []byte
}

func (b *Bulk) changed() []bulkRow {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := make([]bulkRow, 0, len(b.dirty))
	for key, c := range b.dirty {
		rows = append(rows, bulkRow{key, c.encode()})
	}
	return rows
}

// written lets go of what is in the store, unless it has changed meanwhile.
func (b *Bulk) written(done []bulkRow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range done {
		if c := b.dirty[w.key]; c != nil && slices.Equal(c.encode(), w.value) {
			c.dirty = false
			delete(b.dirty, w.key)
		}
	}
}

func (k bulkKey) row() []byte {
	b := append(make([]byte, 0, 6+len(k.family)+len(k.domain)), tableBulk)
	b = binary.BigEndian.AppendUint32(b, uint32(k.tenant))
	b = append(append(b, k.family...), 0)
	return append(b, k.domain...)
}

func (c *bulkCount) add(now time.Time, n int64) {
	at := hourOf(now)
	h := &c.hours[at%hourSlots]
	if h.at < at { // never the other way round, as the clock may have been set back
		*h = hourCount{at: at}
	}
	h.n += n
}

func (c *bulkCount) day(now time.Time) (sum int64) {
	hour := hourOf(now)
	for _, h := range c.hours {
		if h.at > hour-hourSlots {
			sum += h.n
		}
	}
	return sum
}

func (c *bulkCount) encode() []byte {
	hours := c.hours // oldest first
	slices.SortFunc(hours[:], func(a, b hourCount) int { return int(a.at - b.at) })
	row := []byte{bulkVersion}
	for _, h := range hours {
		if h.n > 0 {
			row = binary.AppendUvarint(binary.AppendUvarint(row, uint64(h.at)), uint64(h.n))
		}
	}
	return row
}

// decode takes in a row; what cannot be read of it counts as nothing, and so
// does an hour that is not of the last day, nor of the next, which it may be by a
// clock that has been set back.
func (c *bulkCount) decode(row []byte, now time.Time) {
	if len(row) == 0 || row[0] != bulkVersion {
		return
	}
	hour := hourOf(now)
	for row = row[1:]; len(row) > 0; {
		at, size := binary.Uvarint(row)
		if size <= 0 {
			return
		}
		row = row[size:]
		n, size := binary.Uvarint(row)
		if size <= 0 {
			return
		}
		row = row[size:]
		if int64(at) > hour-hourSlots && int64(at) < hour+hourSlots && n < 1<<40 {
			h := &c.hours[int64(at)%hourSlots]
			*h = hourCount{int64(at), h.n + int64(n)}
		}
	}
}
