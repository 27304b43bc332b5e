package limit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
)

// A row "G" + number (8 bytes) is a page: the arrival times of keys that changed
// within a second, each a key and 8 bytes, big-endian nanoseconds since 1970. A
// later page holds over an earlier one.
//
// So what changed is written one behind the other, whatever the keys: rows of
// their own would be spread over all that there are, and the store would move
// all of them again and again. The oldest pages go when those together hold much
// more than there is in memory; what nothing newer holds of them is written anew.
const tablePage = 'G'

const (
	// page is how many keys one page holds at most.
	page     = 2000
	pairSize = 16 + 8
	// Pages hold at most twice the keys that are in memory and a few more, and
	// are no more than that many, and two for each that is full; but for a while
	// after much changed at once.
	fewKeys  = 10_000
	fewPages = 500
	// reviewed is how many keys one snapshot looks at in old pages at most,
	// besides twice as many as the one before wrote.
	reviewed = 32_000
)

// pages are what the store holds. They belong to Load and Snapshot.
type pages struct {
	held  []pageRef // oldest first
	keys  int       // in all of them, each as often as it is there
	next  uint64    // number
	wrote int       // keys, by the last snapshot
}

type pageRef struct {
	number uint64
	keys   int
}

func (p *pages) add(number uint64, keys int) {
	p.held = append(p.held, pageRef{number, keys})
	p.keys += keys
	p.next = number + 1
}

func keyPage(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{tablePage}, number)
}

func pageNumber(key []byte) (number uint64, ok bool) {
	if len(key) != 9 || key[0] != tablePage {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

func encodePage(rows []row) []byte {
	b := make([]byte, 0, len(rows)*pairSize)
	for i := range rows {
		b = append(b, rows[i].key[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(rows[i].tat))
	}
	return b
}

// eachPair gives the pairs of a page to fn; a rest that is none is left out.
func eachPair(b []byte, fn func(row)) {
	for ; len(b) >= pairSize; b = b[pairSize:] {
		if tat := int64(binary.BigEndian.Uint64(b[16:])); tat > 0 {
			fn(row{Key(b[:16]), tat})
		}
	}
}

// loadPages reads all pages into memory, in order.
func (l *Limiter) loadPages(ctx context.Context, store kv.Store, now int64) error {
	l.pages = pages{}
	for more := true; more; {
		n := 0
		more = false
		err := store.View(ctx, func(r kv.Reader) error {
			return r.Scan(kv.Range{Prefix: []byte{tablePage}, From: keyPage(l.pages.next)}, func(k, v []byte) bool {
				if more = n >= loadPage; more {
					return false
				}
				if number, ok := pageNumber(k); ok {
					l.pages.add(number, len(v)/pairSize)
					eachPair(v, func(r row) { l.restore(r, now, false) })
					n += len(v)/pairSize + 1
				}
				return true
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writePage writes what changed as one page.
func (l *Limiter) writePage(ctx context.Context, store kv.Store, rows []row) error {
	number := l.pages.next
	err := store.Update(ctx, func(w kv.Writer) error { return w.Put(keyPage(number), encodePage(rows)) })
	if err == nil {
		l.pages.add(number, len(rows))
		l.pages.wrote += len(rows)
	}
	return err
}

// review looks for old pages that may go once all that changed is written, and
// notes as changed what only they hold. It tells how many they are.
func (l *Limiter) review(ctx context.Context, store kv.Store) (n int, err error) {
	live, _ := l.Keys()
	p, now, looked := &l.pages, time.Now().UnixNano(), 0
	for n < min(len(p.held), page) && looked < reviewed+2*p.wrote {
		if p.keys-looked <= 2*live+fewKeys && len(p.held)-n <= fewPages+2*live/page {
			break
		}
		err := store.View(ctx, func(r kv.Reader) error {
			b, err := r.Get(keyPage(p.held[n].number))
			if errors.Is(err, kv.ErrNotFound) {
				return nil
			}
			eachPair(b, func(r row) { l.keep(r, now) })
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("reading limits: %w", err)
		}
		looked += p.held[n].keys
		n++
	}
	return n, nil
}

// keep sees to it that a pair which is still true is written again. One that is
// not is in a later page, or changed.
func (l *Limiter) keep(r row, now int64) {
	s := &l.shards[r.key.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.find(r.key); ok && r.tat > now && s.rows[i].tat == r.tat {
		s.touch(i)
	}
}

// drop deletes the n oldest pages.
func (l *Limiter) drop(ctx context.Context, store kv.Store, n int) error {
	if n == 0 {
		return nil
	}
	var keys [][]byte
	gone := 0
	for _, ref := range l.pages.held[:n] {
		keys = append(keys, keyPage(ref.number))
		gone += ref.keys
	}
	if err := deleteAll(ctx, store, keys); err != nil {
		return fmt.Errorf("deleting limits: %w", err)
	}
	l.pages.held = append(l.pages.held[:0], l.pages.held[n:]...)
	l.pages.keys -= gone
	return nil
}
