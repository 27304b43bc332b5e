package aside

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// Library makes signatures in the helper.
type Library interface {
	Version() string
	// Key takes an RSA key in PKCS #1. It keeps nothing of der.
	Key(der []byte) (Key, error)
}

// Key is a key that a Library holds. Signatures are made by PKCS #1 v1.5, by
// several goroutines at once, and none while or after it is freed.
type Key interface {
	Sign(digest *[sha256.Size]byte) ([]byte, error)
	Free()
}

// Serve is the helper: it answers what comes in until that ends. Without a
// library it says why, and ends.
func Serve(in io.Reader, out io.Writer, open func() (Library, error)) error {
	lib, err := open()
	if err != nil {
		_, werr := out.Write(appendFrame(nil, kindNoLibrary, protocol, cut(err.Error())))
		return errors.Join(err, werr)
	}
	if _, err := out.Write(appendFrame(nil, kindHello, protocol, cut(lib.Version()))); err != nil {
		return err
	}
	s := &service{out: out, keys: newKeys(lib), jobs: make(chan job, inFlight)}
	defer s.keys.freeAll()
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(s.work)
	}
	err = s.read(&frames{from: in})
	close(s.jobs)
	workers.Wait()
	return errors.Join(err, s.failed)
}

// cut bounds a text to what a frame surely holds.
func cut(text string) []byte { return []byte(text[:min(len(text), 1000)]) }

// service is a helper at work.
type service struct {
	keys *keys
	jobs chan job

	mu     sync.Mutex
	out    io.Writer
	failed error // why nothing can be written any more
}

// job is a signature to make.
type job struct {
	number uint64
	key    *heldKey // nil: unknown
	digest [sha256.Size]byte
}

// read takes requests until they end.
func (s *service) read(from *frames) error {
	for {
		f, err := from.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		switch {
		case f.kind == kindKey:
			s.keys.add(f.number, f.body)
			clear(f.body)
		case f.kind == kindSign && len(f.body) == 8+sha256.Size:
			j := job{number: f.number, key: s.keys.find(binary.BigEndian.Uint64(f.body))}
			copy(j.digest[:], f.body[8:])
			s.jobs <- j
		default:
			return fmt.Errorf("a request of kind %q with %d octets", f.kind, len(f.body))
		}
	}
}

// work signs until there are no more jobs.
func (s *service) work() {
	var b []byte
	for j := range s.jobs {
		b = j.key.answer(b[:0], &j)
		s.write(b)
	}
}

// write gives an answer out, at once: the next is some hundred microseconds away.
func (s *service) write(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		if _, err := s.out.Write(b); err != nil {
			s.failed = fmt.Errorf("write an answer: %w", err)
		}
	}
}
