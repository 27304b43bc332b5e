package limit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
)

// A row "g" + hash holds the arrival time of one key as 8 bytes, big-endian
// nanoseconds since 1970.
const tableLimit = 'g'

const (
	snapshotEvery = time.Second
	// sweepShards is how many shards are swept each second: all of them in 16.
	sweepShards = shardCount / 16
	// page is how many rows one transaction reads or writes.
	page = 2000
)

func keyLimit(h hash) []byte { return append([]byte{tableLimit}, h[:]...) }

// decodeLimit reads a row; ok is false for one that is none.
func decodeLimit(key, value []byte) (h hash, tat int64, ok bool) {
	if len(key) != 1+len(h) || key[0] != tableLimit || len(value) != 8 {
		return h, 0, false
	}
	tat = int64(binary.BigEndian.Uint64(value))
	return hash(key[1:]), tat, tat > 0
}

// Load reads what an earlier run wrote, and deletes rows that mean nothing any
// more. Call it before the first Reserve.
func (l *Limiter) Load(ctx context.Context, store kv.Store) error {
	now := time.Now().UnixNano()
	// No clock is so far off, nor any limit so long, that this were true.
	horizon := now + 2*int64(maxSpan)
	var from []byte
	for more := true; more; {
		var dead [][]byte
		n := 0
		more = false
		err := store.View(ctx, func(r kv.Reader) error {
			return r.Scan(kv.Range{Prefix: []byte{tableLimit}, From: from}, func(k, v []byte) bool {
				if n == page {
					from, more = append([]byte(nil), k...), true
					return false
				}
				n++
				h, tat, ok := decodeLimit(k, v)
				if !ok || tat <= now || tat > horizon {
					dead = append(dead, append([]byte(nil), k...))
					return true
				}
				l.restore(h, tat, now)
				return true
			})
		})
		if err == nil {
			err = deleteAll(ctx, store, dead)
		}
		if err != nil {
			return fmt.Errorf("loading limits: %w", err)
		}
	}
	return nil
}

func (l *Limiter) restore(h hash, tat, now int64) {
	s := &l.shards[h.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buckets) >= l.maxEach {
		l.dropped.Add(s.makeRoom(now))
	}
	s.buckets[h] = bucket{tat: tat, stored: true}
}

func deleteAll(ctx context.Context, store kv.Store, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	return store.Update(ctx, func(w kv.Writer) error {
		for _, k := range keys {
			if err := w.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Run writes what changed to the store each second, and once more when ctx ends,
// when it returns. Only an error of the store ends it before.
func (l *Limiter) Run(ctx context.Context, store kv.Store) error {
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	for next := 0; ; next = (next + sweepShards) % shardCount {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return l.Snapshot(last, store)
		case now := <-ticker.C:
			for i := range sweepShards {
				l.shards[next+i].sweep(now.UnixNano())
			}
			if err := l.Snapshot(ctx, store); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// Snapshot writes what changed since the last one. What could not be written is
// written by the next.
func (l *Limiter) Snapshot(ctx context.Context, store kv.Store) error {
	var errs error
	for i := range l.shards {
		s := &l.shards[i]
		for {
			c := s.takeChanges(page)
			if len(c.rows) == 0 && len(c.gone) == 0 {
				break
			}
			if err := store.Update(ctx, c.write); err != nil {
				s.putBack(c)
				errs = errors.Join(errs, err)
				break
			}
		}
		if errs != nil {
			return fmt.Errorf("writing limits: %w", errs)
		}
	}
	return nil
}

// changes are some of a shard's, on their way to the store.
type changes struct {
	gone []hash
	rows []limitRow
}

type limitRow struct {
	key hash
	tat int64
}

// write deletes before it puts, because a key may have gone and come again.
func (c changes) write(w kv.Writer) error {
	for _, h := range c.gone {
		if err := w.Delete(keyLimit(h)); err != nil {
			return err
		}
	}
	for _, r := range c.rows {
		if err := w.Put(keyLimit(r.key), binary.BigEndian.AppendUint64(nil, uint64(r.tat))); err != nil {
			return err
		}
	}
	return nil
}

// takeChanges takes up to n changes from the shard's lists. While any key that
// went is left, only such are taken.
func (s *shard) takeChanges(n int) changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c changes
	k := min(n, len(s.gone))
	c.gone = append(c.gone, s.gone[:k]...)
	s.gone = append(s.gone[:0], s.gone[k:]...)
	used := 0
	for _, h := range s.changed {
		if k+len(c.rows) == n {
			break
		}
		used++
		b, ok := s.buckets[h]
		if !ok || !b.dirty {
			continue // dropped since, or listed twice
		}
		b.dirty, b.stored = false, true
		s.buckets[h] = b
		c.rows = append(c.rows, limitRow{h, b.tat})
	}
	s.changed = append(s.changed[:0], s.changed[used:]...)
	if len(s.changed) == 0 && cap(s.changed) > 4*page {
		s.changed = nil
	}
	return c
}

// putBack notes again what could not be written.
func (s *shard) putBack(c changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range c.gone {
		if len(s.gone) < maxGone {
			s.gone = append(s.gone, h)
		}
	}
	for _, r := range c.rows {
		if b, ok := s.buckets[r.key]; ok && !b.dirty {
			b.dirty = true
			s.buckets[r.key] = b
			s.changed = append(s.changed, r.key)
		}
	}
}
