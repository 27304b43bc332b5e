package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
)

// The pages of the start-up scan: small at first, so that delivery can begin
// while it runs.
const (
	firstPage = 256
	lastPage  = 8192
)

// Queues scans the whole due index once, at start, and calls fn for the queues
// as it finds them: with the time of the first entry and how many entries are of
// messages submitted before the given time, so that a caller who is told of later
// ones as they are put counts nothing twice. A long queue is told of once a page,
// with the counts to be added up. fn returns false to stop. Entries that change
// while it runs may be told of or not; who puts them knows of them.
func (s *Spool) Queues(ctx context.Context, before time.Time, fn func(q Queue, next time.Time, entries int) bool) error {
	from := s.p.table(tableDue, 0)
	for page := firstPage; from != nil; page = min(2*page, lastPage) {
		var found []found
		var err error
		if found, from, err = s.queuePage(ctx, from, page, before); err != nil {
			return fmt.Errorf("spool: scan the due index: %w", err)
		}
		for _, f := range found {
			if !fn(f.q, f.next, f.entries) {
				return nil
			}
		}
	}
	return nil
}

type found struct {
	q       Queue
	next    time.Time
	entries int
}

// queuePage reads one page; next is nil at the end.
func (s *Spool) queuePage(ctx context.Context, from []byte, page int, before time.Time) (out []found, next []byte, err error) {
	var queue, last []byte
	var bad error
	first := before.UnixMilli()
	n := 0
	err = s.st.View(ctx, func(r kv.Reader) error {
		rng := kv.Range{Prefix: s.p.table(tableDue, 0), From: from, KeysOnly: true}
		return r.Scan(rng, func(k, _ []byte) bool {
			n++
			if n == page {
				last = bytes.Clone(k)
			}
			if queue != nil && bytes.HasPrefix(k, queue) && len(k) == len(queue)+18 {
				if readMillis(k[len(queue)+6:]) < first { // its message's time, without parsing the rest
					out[len(out)-1].entries++
				}
				return n < page
			}
			var d Due
			if d, bad = parseDue(k); bad != nil {
				return false
			}
			queue = append(queue[:0], k[:len(k)-18]...)
			f := found{q: d.Queue, next: d.At}
			if d.ID.Time().UnixMilli() < first {
				f.entries = 1
			}
			out = append(out, f)
			return n < page
		})
	})
	if err = errors.Join(err, bad); err != nil || last == nil {
		return out, nil, err
	}
	return out, after(last), nil
}

// due reads what stands behind the queue in a key of the due index.
func (q Queue) due(p part, tail []byte) Due {
	d := Due{Queue: q, At: millisTime(readMillis(tail)), Chunk: int(binary.BigEndian.Uint16(tail[16:]))}
	binary.BigEndian.PutUint16(d.ID[0:], uint16(p))
	binary.BigEndian.PutUint32(d.ID[2:], uint32(q.Tenant))
	copy(d.ID[6:], tail[6:16])
	return d
}

// Due gives up to limit entries of a queue in order of time, strictly behind
// the given one; nil begins with the first. A Due with nothing but At is good
// as a cursor too. Callers keep a cursor: from the first means over the graves
// of all that was delivered.
func (s *Spool) Due(ctx context.Context, q Queue, behind *Due, limit int) ([]Due, error) {
	if limit <= 0 {
		return nil, nil
	}
	prefix := keyQueue(s.p, q)
	var from []byte
	if behind != nil {
		from = appendMillis(bytes.Clone(prefix), behind.At.UnixMilli())
		from = append(from, behind.ID[6:]...)
		from = after(append(from, byte(behind.Chunk>>8), byte(behind.Chunk)))
	}
	out := make([]Due, 0, min(limit, 64))
	var bad error
	err := s.st.View(ctx, func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: prefix, From: from, KeysOnly: true}, func(k, _ []byte) bool {
			if len(k) != len(prefix)+18 {
				_, bad = parseDue(k)
				return bad == nil
			}
			out = append(out, q.due(s.p, k[len(prefix):]))
			return len(out) < limit
		})
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("spool: read queue %s of tenant %d: %w", q.Lane, q.Tenant, err)
	}
	return out, nil
}
