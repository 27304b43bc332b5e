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

	"behalf/internal/blob"
	"behalf/internal/fsync"
)

func (s *Store) largePath(owner blob.Owner) string {
	name := hex.EncodeToString(owner[:])
	return filepath.Join(s.largeDir(), name[len(name)-2:], name)
}

// putLarge writes a file of its own: under a temporary name, synced, renamed,
// and the directory synced.
func (s *Store) putLarge(ctx context.Context, owner blob.Owner, body blob.Source, size int64) (blob.Ref, error) {
	path := s.largePath(owner)
	if err := s.makeLargeDir(filepath.Dir(path)); err != nil {
		return blob.Ref{}, err
	}
	f, err := os.CreateTemp(s.tempDir(), "body-*")
	if err != nil {
		return blob.Ref{}, err
	}
	defer os.Remove(f.Name()) // in vain once it is renamed
	if err := errors.Join(fillFile(ctx, f, body, size), f.Close()); err != nil {
		return blob.Ref{}, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return blob.Ref{}, err
	}
	if err := fsync.Path(filepath.Dir(path)); err != nil {
		return blob.Ref{}, err
	}
	return blob.Ref{Size: size}, nil
}

func fillFile(ctx context.Context, f *os.File, body blob.Source, size int64) error {
	n, err := body.WriteTo(contextWriter{ctx, f})
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("the source gave %d octets, not %d", n, size)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		return fmt.Errorf("the file has not the size of the source: %w", err)
	}
	return f.Sync()
}

// contextWriter stops a long write when its context ends.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w contextWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

func (s *Store) openLarge(owner blob.Owner, ref blob.Ref) (blob.Body, error) {
	f, err := os.Open(s.largePath(owner))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open body: %w", blob.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("open body: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != ref.Size {
		err = fmt.Errorf("the file has %d octets, not %d: %w", info.Size(), ref.Size, blob.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("open body: %w", errors.Join(err, f.Close()))
	}
	return &largeBody{f, ref.Size}, nil
}

// makeLargeDir makes one of the directories of large bodies. Nobody finds it
// there before its name is durable: Open syncs those of earlier processes.
func (s *Store) makeLargeDir(path string) error {
	s.largeMu.Lock()
	defer s.largeMu.Unlock()
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return makeDir(path)
}

// makeDir makes a directory whose name is durable.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return fsync.Path(filepath.Dir(path))
}

// removeAll removes the files in a directory.
func removeAll(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return err
}
