package limit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// A row "y" + tenant (4 bytes) + hour since 1970 (4) + credential holds what
// passed in that hour; the tenant's own has no credential. Its value is numbers
// in the variable length encoding: a version, five counts of the hour, then for
// each step of five minutes that has any its place in the hour and five counts.
const (
	tableUsage   = 'y'
	usageVersion = 1
)

func keyUsage(t mail.TenantID, hour int64, credential string) []byte {
	k := append(make([]byte, 0, 9+len(credential)), tableUsage)
	k = binary.BigEndian.AppendUint32(k, uint32(t))
	k = binary.BigEndian.AppendUint32(k, uint32(hour))
	return append(k, credential...)
}

// usageHour reads a key; ok is false for one that is none.
func usageHour(key []byte) (hour int64, credential string, ok bool) {
	if len(key) < 9 || key[0] != tableUsage {
		return 0, "", false
	}
	return int64(binary.BigEndian.Uint32(key[5:9])), string(key[9:]), true
}

// encode writes the row of an hour.
func (r *ring) encode(hour int64) []byte {
	b := appendCounts([]byte{usageVersion}, r.hours[hour%hourSlots].counts)
	for i := range fineInDay {
		at := hour*fineInDay + i
		if s := &r.fine[at%fineSlots]; s.at == at && s.counts != [5]uint32{} {
			b = appendCounts(append(b, byte(i)), s.counts)
		}
	}
	return b
}

func appendCounts(b []byte, counts [5]uint32) []byte {
	for _, n := range counts {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

var errUsageRow = errors.New("not a usage row")

// decode takes in the row of an hour, later ones after earlier ones. An earlier
// hour whose place it takes is added to it, so that nothing is lost.
func (r *ring) decode(hour int64, b []byte) error {
	if len(b) == 0 || b[0] != usageVersion {
		return errUsageRow
	}
	total, b, err := readCounts(b[1:])
	if err != nil {
		return err
	}
	s := &r.hours[hour%hourSlots]
	for i := range total {
		total[i] += s.counts[i]
	}
	*s = slot{at: hour, counts: total}
	for last := -1; len(b) > 0; {
		i := int(b[0])
		if i <= last || i >= int(fineInDay) {
			return errUsageRow
		}
		last = i
		var counts [5]uint32
		if counts, b, err = readCounts(b[1:]); err != nil {
			return err
		}
		at := hour*fineInDay + int64(i)
		if s := &r.fine[at%fineSlots]; s.at < at {
			*s = slot{at: at, counts: counts}
		}
	}
	return nil
}

func readCounts(b []byte) (counts [5]uint32, rest []byte, err error) {
	for i := range counts {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > math.MaxUint32 {
			return counts, nil, errUsageRow
		}
		counts[i], b = uint32(n), b[size:]
	}
	return counts, b, nil
}

// load reads the last day of a tenant, and what a clock that has been set back has
// counted in the next. Rows that cannot be read count as none.
func (a *account) load(ctx context.Context, store kv.Store, t mail.TenantID, now time.Time) error {
	a.total, a.credentials = ring{}, nil
	first := hourOf(now) - hourSlots + 1
	return store.View(ctx, func(r kv.Reader) error {
		prefix := keyUsage(t, 0, "")[:5]
		return r.Scan(kv.Range{Prefix: prefix, From: keyUsage(t, max(0, first), "")}, func(k, v []byte) bool {
			hour, credential, ok := usageHour(k)
			if !ok || hour >= hourOf(now)+hourSlots {
				return true
			}
			into := &a.total
			if credential != "" {
				into = a.credential(credential)
			}
			var read ring = *into
			if read.decode(hour, v) == nil {
				*into = read
			}
			return true
		})
	})
}

// Run writes what changed each second, and once more when ctx ends, and each
// hour deletes what is older than a day. Only an error of the store ends it before.
func (u *Usage) Run(ctx context.Context) error {
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	var swept int64
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return u.Flush(last)
		case now := <-ticker.C:
			err := u.Flush(ctx)
			if hour := hourOf(now); err == nil && hour != swept {
				if err = u.sweep(ctx, now); err == nil {
					swept = hour
				}
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// usageRow is one row on its way to the store.
type usageRow struct{ key, value []byte }

// Flush writes what changed since the last one. What could not be written is
// written by the next.
func (u *Usage) Flush(ctx context.Context) error {
	u.mu.Lock()
	dirty := maps.Clone(u.dirty)
	u.mu.Unlock()
	var rows []usageRow
	for t, a := range dirty {
		rows = a.changed(rows, t)
	}
	err := u.write(ctx, rows)
	for t, a := range dirty {
		a.written(err == nil)
		u.clean(t, a)
	}
	if err != nil {
		return fmt.Errorf("writing usage: %w", err)
	}
	return nil
}

func (u *Usage) write(ctx context.Context, rows []usageRow) error {
	for batch := range slices.Chunk(rows, page) {
		err := u.store.Update(ctx, func(w kv.Writer) error {
			for _, r := range batch {
				if err := w.Put(r.key, r.value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// clean takes an account that holds no changes from the dirty ones.
func (u *Usage) clean(t mail.TenantID, a *account) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !a.mu.TryLock() {
		return // in use: the next flush will see
	}
	defer a.mu.Unlock()
	for r := range a.rings() {
		if r.dirty != 0 {
			return
		}
	}
	delete(u.dirty, t)
}

// rings are the tenant's and those of its credentials, with their names.
func (a *account) rings() iter.Seq2[*ring, string] {
	return func(yield func(*ring, string) bool) {
		if !yield(&a.total, "") {
			return
		}
		for name, r := range a.credentials {
			if !yield(r, name) {
				return
			}
		}
	}
}

// changed adds the rows of an account that changed.
func (a *account) changed(rows []usageRow, t mail.TenantID) []usageRow {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r, credential := range a.rings() {
		if r.dirty == 0 {
			continue
		}
		for i := range r.hours {
			if hour := r.hours[i].at; hour >= r.dirty {
				rows = append(rows, usageRow{keyUsage(t, hour, credential), r.encode(hour)})
			}
		}
		r.writing, r.dirty = r.dirty, 0
	}
	return rows
}

// written notes whether the rows that changed gave are in the store.
func (a *account) written(ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := range a.rings() {
		if !ok && r.writing != 0 {
			r.dirty = r.writing // which is no later than what changed since
		}
		r.writing = 0
	}
}

// sweep deletes rows that no window reaches any more.
func (u *Usage) sweep(ctx context.Context, now time.Time) error {
	oldest := hourOf(now) - hourSlots
	var from []byte
	for more := true; more; {
		var dead [][]byte
		n := 0
		more = false
		err := u.store.View(ctx, func(r kv.Reader) error {
			return r.Scan(kv.Range{Prefix: []byte{tableUsage}, From: from, KeysOnly: true}, func(k, _ []byte) bool {
				if n == page {
					from, more = append([]byte(nil), k...), true
					return false
				}
				n++
				if hour, _, ok := usageHour(k); !ok || hour < oldest {
					dead = append(dead, append([]byte(nil), k...))
				}
				return true
			})
		})
		if err == nil {
			err = deleteAll(ctx, u.store, dead)
		}
		if err != nil {
			return fmt.Errorf("deleting old usage: %w", err)
		}
	}
	return nil
}
