package limit

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"behalf/internal/kv"
)

// A row "g" + key holds the arrival time of one key as 8 bytes, big-endian
// nanoseconds since 1970. It is gone by itself soon after that time.
const tableLimit = 'g'

const (
	snapshotEvery = time.Second
	// sweepShards is how many shards are swept each second: all of them in 16.
	sweepShards = shardCount / 16
	// page is how many rows one transaction reads or writes.
	page = 2000
	// rowGrace is how much longer than its bucket a row lives.
	rowGrace = 10 * time.Second
)

func keyLimit(k Key) []byte { return append([]byte{tableLimit}, k[:]...) }

// decodeLimit reads a row; ok is false for one that is none.
func decodeLimit(key, value []byte) (r row, ok bool) {
	if len(key) != 1+len(r.key) || key[0] != tableLimit || len(value) != 8 {
		return r, false
	}
	r = row{Key(key[1:]), int64(binary.BigEndian.Uint64(value))}
	return r, r.tat > 0
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
				if n == loadPage {
					from, more = append([]byte(nil), k...), true
					return false
				}
				n++
				r, ok := decodeLimit(k, v)
				if !ok || r.tat <= now || r.tat > horizon {
					if len(dead) < page { // the others go next time, or by themselves
						dead = append(dead, append([]byte(nil), k...))
					}
					return true
				}
				l.restore(r, now)
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

// loadPage is how many rows one view reads: it is over in well under a second.
const loadPage = 100_000

func (l *Limiter) restore(r row, now int64) {
	s := &l.shards[r.key.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	l.dropped.Add(s.makeRoom(r.key, l.maxEach, now))
	s.put(r.key, r.tat, false)
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
			return l.last(ctx, store)
		case now := <-ticker.C:
			// What changed is written first: a bucket that is full by now may have a
			// row that says otherwise.
			if err := l.Snapshot(ctx, store); err != nil && ctx.Err() == nil {
				return err
			}
			for i := range sweepShards {
				s := &l.shards[next+i]
				s.mu.Lock()
				s.sweep(now.UnixNano())
				s.mu.Unlock()
			}
		}
	}
}

// A stop may take lastLeast to write what changed, and lastEach for each key there
// is: a minute for a million, which is several times what it takes.
const (
	lastLeast = 10 * time.Second
	lastEach  = 50 * time.Microsecond
)

// last is the snapshot of a stop, after ctx has ended.
func (l *Limiter) last(ctx context.Context, store kv.Store) error {
	held, _ := l.Keys()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLeast+time.Duration(held)*lastEach)
	defer cancel()
	return l.Snapshot(ctx, store)
}

// Snapshot writes what changed since the last one. What could not be written is
// written by the next.
func (l *Limiter) Snapshot(ctx context.Context, store kv.Store) error {
	var rows []row
	for i := range l.shards {
		s := &l.shards[i]
		for {
			had := len(rows)
			s.mu.Lock()
			rows = s.take(page, rows)
			s.mu.Unlock()
			if len(rows) == had && len(rows) < page {
				break // the next shard fills the page
			}
			if len(rows) < page {
				continue
			}
			if err := l.write(ctx, store, rows); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	return l.write(ctx, store, rows)
}

func (l *Limiter) write(ctx context.Context, store kv.Store, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	now := time.Now().UnixNano()
	err := store.Update(ctx, func(w kv.Writer) error {
		for _, r := range rows {
			life := time.Duration(max(0, r.tat-now)) + rowGrace
			if err := w.PutFor(keyLimit(r.key), binary.BigEndian.AppendUint64(nil, uint64(r.tat)), life); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return nil
	}
	for _, r := range rows {
		s := &l.shards[r.key.shard()]
		s.mu.Lock()
		if i, ok := s.find(r.key); ok {
			s.touch(i)
		}
		s.mu.Unlock()
	}
	return fmt.Errorf("writing limits: %w", err)
}
