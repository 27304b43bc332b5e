package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

// Spool keeps the messages of one partition. Its methods may be called from
// many goroutines.
type Spool struct {
	st       kv.Store
	bodies   blob.Store
	o        Options
	p        part
	codec    codec
	buffers  *buffers
	feed     feed
	stats    statistics
	marks    [classes]atomic.Int64 // low-water marks of the timer index, ms
	feedMark atomic.Int64          // the sweep of the feed has come to this number
	saved    [classes]int64        // marks on stable storage; Run's own

	coming    coming
	fresh     fresh
	chunks    chunks
	followers sync.Map      // name to the next event number
	kick      chan struct{} // events were appended outside of our transactions

	txs, prepares sync.Pool // *tx, *prepared
}

// Open reads where the spool stands. It starts nothing: see [Spool.Run].
func Open(ctx context.Context, st kv.Store, bodies blob.Store, o Options) (*Spool, error) {
	if o.Partition >= maxPartition {
		return nil, fmt.Errorf("spool: partition %d: want below %d", o.Partition, maxPartition)
	}
	c, err := newCodec()
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	o.fill()
	s := &Spool{
		st: st, bodies: bodies, o: o, p: part(o.Partition), codec: c,
		buffers: newBuffers(o.MemoryDraft, o.MemoryAll),
		coming:  coming{ids: make(map[mail.ID]struct{})},
		stats:   statistics{ages: make(map[int64]int64)},
		kick:    make(chan struct{}, 1),
	}
	if err := st.View(ctx, s.recover); err != nil {
		return nil, fmt.Errorf("spool: open: %w", err)
	}
	return s, nil
}

func (s *Spool) recover(r kv.Reader) error {
	for class := range byte(classes) {
		mark, err := loadMark(s.p, r, markName(class))
		if err != nil {
			return err
		}
		s.marks[class].Store(mark)
	}
	mark, err := loadMark(s.p, r, "f")
	if err != nil {
		return err
	}
	s.feedMark.Store(mark)
	if err := errors.Join(s.feed.load(s.p, r), s.stats.load(s.p, r)); err != nil {
		return err
	}
	s.fresh.floor = time.Now()
	if youngest := millisTime(s.stats.now.Youngest); youngest.After(s.fresh.floor) {
		s.fresh.floor = youngest // the clock was set back since
	}
	return nil
}

func (o *Options) fill() {
	if o.KeepBodies <= 0 {
		o.KeepBodies = 7 * 24 * time.Hour
	}
	if o.KeepEvents <= 0 {
		o.KeepEvents = 90 * 24 * time.Hour
	}
	o.KeepEvents = max(o.KeepEvents, o.KeepBodies)
	if o.MemoryDraft <= 0 {
		o.MemoryDraft = 1 << 20
	}
	if o.MemoryAll <= 0 {
		o.MemoryAll = 64 << 20
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if o.Delays == nil {
		o.Delays = []time.Duration{3 * time.Minute, time.Hour, 4 * time.Hour}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// NewID makes the id of a message that t submits at the given time.
func (s *Spool) NewID(t mail.TenantID, at time.Time) mail.ID {
	return mail.NewID(uint16(s.p), t, at)
}
