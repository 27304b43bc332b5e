package limit

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"behalf/internal/kv"
)

// A row "g" + key holds the arrival time of one key as 8 bytes, big-endian
// nanoseconds since 1970. Pages have taken the place of these rows; those of an
// earlier version are read at a start, and written as pages.
const tableLimit = 'g'

const (
	snapshotEvery = time.Second
	// sweepShards is how many shards are swept each second: all of them in 16.
	sweepShards = shardCount / 16
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

// Load reads what an earlier run wrote. Call it before the first Reserve, and
// before the first Snapshot to a store.
func (l *Limiter) Load(ctx context.Context, store kv.Store) error {
	now := time.Now().UnixNano()
	err := l.loadPages(ctx, store, now)
	rows := 0
	if err == nil {
		rows, err = l.loadRows(ctx, store, now) // an earlier version wrote them since
	}
	if err == nil && rows > 0 {
		err = l.convert(ctx, store)
	}
	if err != nil {
		return fmt.Errorf("loading limits: %w", err)
	}
	return nil
}

// loadRows reads the rows of an earlier version, and tells how many there are.
func (l *Limiter) loadRows(ctx context.Context, store kv.Store, now int64) (rows int, err error) {
	var from []byte
	for more := true; more && err == nil; {
		n := 0
		more = false
		err = store.View(ctx, func(r kv.Reader) error {
			return r.Scan(kv.Range{Prefix: []byte{tableLimit}, From: from}, func(k, v []byte) bool {
				if n == loadPage {
					from, more = append([]byte(nil), k...), true
					return false
				}
				n++
				if r, ok := decodeLimit(k, v); ok {
					l.restore(r, now, true)
				}
				return true
			})
		})
		rows += n
	}
	return rows, err
}

// convert writes what the rows of an earlier version said, and deletes them.
func (l *Limiter) convert(ctx context.Context, store kv.Store) error {
	if err := l.Snapshot(ctx, store); err != nil {
		return err
	}
	for {
		var old [][]byte
		err := store.View(ctx, func(r kv.Reader) error {
			return r.Scan(kv.Range{Prefix: []byte{tableLimit}, KeysOnly: true}, func(k, _ []byte) bool {
				old = append(old, append([]byte(nil), k...))
				return len(old) < convertAtOnce
			})
		})
		if err != nil || len(old) == 0 {
			return err
		}
		if err := deleteAll(ctx, store, old); err != nil {
			return err
		}
	}
}

const (
	// loadPage is how many keys one view reads: it is over in well under a second.
	loadPage = 100_000
	// convertAtOnce is how many old rows one transaction deletes.
	convertAtOnce = 20_000
)

// restore takes in what the store says of a key, later rows after earlier ones:
// that it is full again, too. What is dirty is to be written.
func (l *Limiter) restore(r row, now int64, dirty bool) {
	s := &l.shards[r.key.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	// No clock is so far off, nor any limit so long, that an instant beyond were true.
	if r.tat <= now || r.tat > now+2*int64(maxSpan) {
		switch i, ok := s.find(r.key); {
		case ok && dirty && r.tat <= now:
			s.put(r.key, r.tat, true) // or a page would say otherwise at the next start
		case ok:
			s.remove(i)
		}
		return
	}
	l.dropped.Add(s.makeRoom(r.key, l.maxEach, now))
	s.put(r.key, r.tat, dirty)
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
// written by the next. It is for one goroutine.
func (l *Limiter) Snapshot(ctx context.Context, store kv.Store) error {
	old, err := l.review(ctx, store)
	if err != nil {
		return err
	}
	l.pages.wrote = 0
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
	if err := l.write(ctx, store, rows); err != nil {
		return err
	}
	return l.drop(ctx, store, old)
}

func (l *Limiter) write(ctx context.Context, store kv.Store, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	err := l.writePage(ctx, store, rows)
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
