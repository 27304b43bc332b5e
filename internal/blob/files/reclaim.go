package files

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"behalf/internal/blob"
)

const (
	sparsePercent  = 30        // below this much alive a segment is emptied
	examinePerCall = 256 << 20 // octets of segments whose frames are asked for
	copiesAtOnce   = 32        // so that they share syncs and commits
	largeDirs      = 256
	largePerCall   = 16 // directories of large bodies
)

// reclaim is one call of Reclaim.
type reclaim struct {
	*Store
	ctx   context.Context
	alive func(blob.Owner, blob.Ref) (bool, error)
	move  func(o blob.Owner, from, to blob.Ref) (bool, error)
	room  int64 // what may still be examined
}

// Reclaim implements blob.Store. Its work is bounded; call it every few
// seconds. Nothing younger than SafeAge is dropped unless it was deleted.
func (s *Store) Reclaim(ctx context.Context, alive func(blob.Owner, blob.Ref) (bool, error),
	move func(o blob.Owner, from, to blob.Ref) (bool, error)) error {
	s.reclaiming.Lock()
	defer s.reclaiming.Unlock()
	r := &reclaim{Store: s, ctx: ctx, alive: alive, move: move, room: examinePerCall}
	for _, seg := range s.sealedSegments() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.segment(seg); err != nil {
			return fmt.Errorf("reclaim segment %d: %w", seg.number, err)
		}
	}
	for range largePerCall {
		if err := r.large(s.largeNext); err != nil {
			return fmt.Errorf("reclaim large bodies: %w", err)
		}
		s.largeNext = (s.largeNext + 1) % largeDirs
	}
	return nil
}

// sealedSegments gives those that may go, oldest first; never the highest.
func (s *Store) sealedSegments() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	highest := s.highest()
	var all []*segment
	for _, seg := range s.segments {
		if !seg.sealed.IsZero() && seg.number != highest {
			all = append(all, seg)
		}
	}
	slices.SortFunc(all, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return all
}

// What to do with a segment.
type verdict int

const (
	keep verdict = iota
	remove
	examine
)

func (s *Store) judge(g *segment) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !g.moved.IsZero():
		if time.Since(g.moved) >= s.opts.Grace {
			return remove
		}
	case g.young != nil && g.young.alive == 0:
		return remove
	case g.stuck || time.Since(g.sealed) < s.opts.SafeAge:
	case !g.counted, g.young != nil: // once, to find what nobody came to own
		return examine
	case g.live < g.size*sparsePercent/100:
		return examine
	}
	return keep
}

func (r *reclaim) segment(g *segment) error {
	switch r.judge(g) {
	case remove:
		return r.remove(g)
	case examine:
		if r.room <= 0 {
			return nil
		}
		r.room -= g.size
		return r.examine(g)
	}
	return nil
}

func (s *Store) remove(g *segment) error {
	err := os.Remove(s.segmentPath(g.number))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.segments, g.number)
	return nil
}

// examine asks for every frame of a segment whether it lives, then removes,
// empties or keeps the segment.
func (r *reclaim) examine(g *segment) error {
	f, err := os.Open(r.segmentPath(g.number))
	if err != nil {
		return err
	}
	defer f.Close()
	r.mu.Lock()
	g.young, g.counted, g.live = nil, false, 0 // deletes from now on count below zero
	r.mu.Unlock()
	living, octets, damaged, err := r.living(f, g.number)
	if err != nil {
		return err
	}
	r.mu.Lock()
	g.counted, g.live = true, g.live+octets
	g.stuck = damaged > 0
	r.mu.Unlock()
	switch {
	case damaged > 0:
		// A body behind a damaged header can still be read by its Ref.
		r.opts.Log.Error("a segment of bodies is damaged; it is kept. After a power cut that is a body that nobody was told is here; otherwise look at the disk",
			"segment", r.segmentPath(g.number), "octets", damaged)
		return nil
	case len(living) == 0:
		return r.remove(g)
	case octets < g.size*sparsePercent/100:
		return r.empty(f, g, living)
	}
	return nil
}

// living gives the frames that live and their octets. Damage counts only in
// front of a good frame: what is behind the last one was never acknowledged.
func (r *reclaim) living(f io.ReaderAt, number uint64) (living []frame, octets, damaged int64, err error) {
	w := newWalker(f, number)
	for {
		fr, bad, err := w.next()
		if errors.Is(err, io.EOF) {
			return living, octets, damaged, nil
		}
		if err == nil {
			err = r.ctx.Err()
		}
		if err != nil {
			return nil, 0, 0, err
		}
		damaged += bad
		ok, err := r.alive(fr.owner, refOf(number, fr))
		if err != nil {
			return nil, 0, 0, err
		}
		if ok {
			living = append(living, fr)
			octets += frameHeader + fr.size
		}
	}
}

func refOf(number uint64, f frame) blob.Ref {
	return blob.Ref{Segment: number, Offset: f.offset, Size: f.size}
}

// empty copies what lives to the current segment and tells the owners. The
// segment goes a while later, when nobody can be about to open an old Ref.
func (r *reclaim) empty(f io.ReaderAt, g *segment, living []frame) error {
	group, ctx := errgroup.WithContext(r.ctx)
	group.SetLimit(copiesAtOnce)
	for _, fr := range living {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return r.copy(ctx, f, g, fr) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !g.stuck {
		g.moved = time.Now()
	}
	return r.ctx.Err()
}

func (r *reclaim) copy(ctx context.Context, f io.ReaderAt, g *segment, fr frame) error {
	from := refOf(g.number, fr)
	buf, err := readFrame(f, fr.owner, from)
	if errors.Is(err, blob.ErrCorrupt) {
		r.opts.Log.Error("a body is damaged; its segment is kept", "segment", r.segmentPath(g.number),
			"offset", fr.offset, "owner", hex.EncodeToString(fr.owner[:]))
		r.mu.Lock()
		defer r.mu.Unlock()
		g.stuck = true
		return nil
	}
	if err != nil {
		return err
	}
	p, err := r.write.append(ctx, buf)
	if err != nil {
		return wrapFull(err)
	}
	if err := p.Wait(); err != nil {
		return errors.Join(wrapFull(err), r.Delete(fr.owner, p.ref))
	}
	moved, err := r.move(fr.owner, from, p.ref)
	if err == nil && !moved {
		err = r.Delete(fr.owner, p.ref)
	}
	return err
}

// large removes the large bodies of one directory that nobody owns.
func (r *reclaim) large(n int) error {
	dir := filepath.Join(r.largeDir(), fmt.Sprintf("%02x", n))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.largeFile(dir, e); err != nil {
			return err
		}
	}
	return nil
}

func (r *reclaim) largeFile(dir string, e fs.DirEntry) error {
	var owner blob.Owner
	if n, err := hex.Decode(owner[:], []byte(e.Name())); err != nil || n != len(owner) {
		return nil // not ours
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil || time.Since(info.ModTime()) < r.opts.SafeAge {
		return err
	}
	ok, err := r.alive(owner, blob.Ref{Size: info.Size()})
	if err != nil || ok {
		return err
	}
	err = os.Remove(filepath.Join(dir, e.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
