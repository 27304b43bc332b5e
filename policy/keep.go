package policy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"behalf/internal/fsync"

	"github.com/klauspost/compress/gzip"
)

// The files below [Options.Keep]. The first is what "tar xzf" gives back as a
// policy folder.
const (
	keptName    = "in-force.tar.gz"
	historyName = "history.json"
)

// maxHistoryFile bounds how much of the history is read back, in bytes.
const maxHistoryFile = 16 << 20

func (e *Engine) keptFile() string { return filepath.Join(e.o.Keep, keptName) }

// keep remembers a set that comes into force and the history that it ends.
func (e *Engine) keep(s *source, history []Activation) error {
	if e.o.Keep == "" {
		return nil
	}
	packed, err := s.pack()
	if err != nil {
		return err
	}
	past, err := json.Marshal(lastOf(history, maxHistory))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.o.Keep, 0o700); err != nil {
		return err
	}
	// The history is written first: should the second write fail, it tells of an
	// activation that did not happen, which the next start sees by the digest.
	if err := writeWhole(filepath.Join(e.o.Keep, historyName), past); err != nil {
		return err
	}
	return writeWhole(e.keptFile(), packed)
}

// readKept reads back the set that was in force last; nil when none was kept.
func (e *Engine) readKept() (*source, error) {
	if e.o.Keep == "" {
		return nil, nil
	}
	b, err := readFile(e.keptFile(), maxPacked)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s *source
	if err == nil {
		s, err = unpack(b)
	}
	if err != nil && e.o.Gate {
		return nil, fmt.Errorf("the set that was accepted last cannot be read back from %s; to start with what %s holds, remove that file: %w", e.keptFile(), e.where(), err)
	}
	if err != nil {
		e.log.Error("the policies that were in force last cannot be read back", "file", e.keptFile(), "error", err)
		return nil, nil
	}
	return s, nil
}

// past is the history so far: read back from disk at the start, in memory later.
func (e *Engine) past() []Activation {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.history) > 0 || e.o.Keep == "" {
		return slices.Clone(e.history)
	}
	b, err := readFile(filepath.Join(e.o.Keep, historyName), maxHistoryFile)
	if err == nil {
		err = json.Unmarshal(b, &e.history)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.history = nil
		e.log.Error("the history of the policies cannot be read back and begins anew", "error", err)
	}
	return slices.Clone(e.history)
}

// wasDefault tells whether a set came into force because no folder was there.
func (e *Engine) wasDefault(digest string) bool {
	history := e.past()
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Digest == digest {
			return history[i].Default
		}
	}
	return false
}

// resume puts the set in force that was when the relay stopped.
func (e *Engine) resume(s *set) {
	a := Activation{Digest: s.digest, At: time.Now(), Default: s.source.builtIn, Files: len(s.source.rego) + len(s.source.data)}
	history := e.past()
	// What ends the history otherwise was written and then not put in force.
	for n := len(history); n > 0; n-- {
		if last := history[n-1]; last.Digest == s.digest {
			a, history = last, history[:n-1]
			break
		}
	}
	e.mu.Lock()
	e.history = history
	e.mu.Unlock()
	e.putInForce(s, a)
	e.warnUnplanned(s)
	e.log.Info("policies loaded as they were", "digest", s.digest, "files", a.Files, "since", a.At)
}

// maxPacked bounds a packed set, in bytes; maxUnpacked what comes out of it.
const (
	maxPacked   = 2 * (maxSource + maxData)
	maxUnpacked = 2*maxSource + maxData
)

// pack writes the files of a set as a tar archive, compressed; the same files
// give the same bytes.
func (s *source) pack() ([]byte, error) {
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, set := range []map[string][]byte{s.rego, s.tests, s.data} {
		for _, name := range sortedKeys(set) {
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(set[name])), Typeflag: tar.TypeReg}); err != nil {
				return nil, err
			}
			if _, err := w.Write(set[name]); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	// A writer that keeps state between pieces takes more memory than most sets.
	z, err := gzip.NewWriterLevel(&packed, gzip.StatelessCompression)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(plain.Bytes())
	return packed.Bytes(), errors.Join(err, z.Close())
}

// unpack reads what pack wrote.
func unpack(b []byte) (*source, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	s := newSource()
	r := tar.NewReader(io.LimitReader(z, maxUnpacked+1000*maxFiles))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return s, s.check()
		}
		if err != nil {
			return nil, err
		}
		if err := s.add(h.Name, r); err != nil {
			return nil, err
		}
	}
}

// readFile reads a file of at most n bytes.
func readFile(name string, n int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, n+1))
	if err == nil && int64(len(b)) > n {
		err = fmt.Errorf("%s is bigger than %d bytes", name, n)
	}
	return b, err
}

// writeWhole puts a file in place that is either whole and on stable storage, or
// as it was before.
func writeWhole(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return fsync.Path(filepath.Dir(name))
}

// lastOf are the last n of a list.
func lastOf[T any](list []T, n int) []T {
	return list[max(0, len(list)-n):]
}
