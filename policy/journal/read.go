package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"behalf/internal/keyring"
)

// Skipped is a stretch of a file that could not be read.
type Skipped struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Why    string `json:"why"`
}

// maxSkipped bounds the skipped stretches that are told one by one.
const maxSkipped = 20

// Reader gives recorded entries in the order they were written:
//
//	for r.Next() { use(r.Entry()) }
//	return r.Err()
type Reader struct {
	keys         *keyring.Keyring
	zip          *zstd.Decoder
	since, until int64

	files   []file
	name    string // of the file being read
	f       *os.File
	in      *bufio.Reader
	offset  int64 // in the file, of what is read next
	size    int64
	done    int64 // octets of the files before
	total   int64
	pending [][]byte // entries of the block that was read
	at      int64    // its offset

	entry   *Entry
	err     error
	skipped int
	told    []Skipped
}

// Read gives what is recorded of transactions that began at or after since and
// before until; the zero until is now. What is in memory is written before. The
// caller closes the reader.
func (j *Journal) Read(since, until time.Time) (*Reader, error) {
	j.write(true)
	j.disk.Lock() // so that no block is half written
	defer j.disk.Unlock()
	if until.IsZero() {
		until = time.Now()
	}
	r, err := newReader(j.keys, since, until)
	if err != nil {
		return nil, err
	}
	all, err := files(j.dir)
	if err != nil {
		r.Close()
		return nil, err
	}
	for _, f := range all {
		if f.ended.Before(since) {
			continue
		}
		r.files, r.total = append(r.files, f), r.total+f.size
	}
	return r, nil
}

func newReader(keys *keyring.Keyring, since, until time.Time) (*Reader, error) {
	r := &Reader{keys: keys, until: until.UnixNano()}
	if !since.IsZero() {
		r.since = since.UnixNano()
	}
	var err error
	r.zip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPlain))
	return r, err
}

// Next reads the next entry; false at the end or after an error.
func (r *Reader) Next() bool {
	for r.err == nil {
		for len(r.pending) > 0 {
			b := r.pending[0]
			r.pending = r.pending[1:]
			e, err := decode(b)
			if err != nil {
				r.skip(r.at, fmt.Errorf("an entry: %w", err))
				continue
			}
			if at := e.Time.UnixNano(); at >= r.since && at < r.until {
				r.entry = e
				return true
			}
		}
		if r.in == nil && !r.openNext() {
			return false
		}
		r.block()
	}
	return false
}

// Entry is what Next found.
func (r *Reader) Entry() *Entry { return r.entry }

// Err is why Next gave up; damage is no reason.
func (r *Reader) Err() error { return r.err }

// Skipped tells how many stretches could not be read, and the first of them.
func (r *Reader) Skipped() (int, []Skipped) { return r.skipped, r.told }

// Progress tells how many octets were read of how many there were.
func (r *Reader) Progress() (done, total int64) {
	return min(r.done+r.offset, r.total), r.total
}

// Close ends reading.
func (r *Reader) Close() error {
	r.zip.Close()
	return r.closeFile()
}

func (r *Reader) closeFile() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f, r.in = nil, nil
	return err
}

// openNext opens the next file; false when there is none. One that was dropped
// meanwhile is passed over.
func (r *Reader) openNext() bool {
	for len(r.files) > 0 {
		next := r.files[0]
		r.files = r.files[1:]
		f, err := os.Open(next.path)
		if errors.Is(err, fs.ErrNotExist) {
			r.total -= next.size
			continue
		}
		if err != nil {
			r.err = fmt.Errorf("reading policy inputs: %w", err)
			return false
		}
		r.f = f
		if r.begin(filepath.Base(next.path), f, next.size) {
			return true
		}
	}
	return false
}

// begin takes up a file of which size octets are to be read. What is appended
// meanwhile is left for another time.
func (r *Reader) begin(name string, f io.Reader, size int64) bool {
	r.name, r.size, r.offset = name, size, 0
	r.in = bufio.NewReaderSize(io.LimitReader(f, size), blockSize)
	b, _ := r.in.Peek(len(preface))
	switch {
	case string(b) == preface:
		r.drop(len(preface))
		return true
	case len(b) < len(preface) && bytes.HasPrefix([]byte(preface), b): // torn at its very beginning
		r.skip(0, errCut)
	case bytes.HasPrefix(b, []byte(preface[:len(preface)-2])):
		r.skip(0, errors.New("it was written by another version of Behalf"))
	default:
		return true // damaged; look for blocks
	}
	r.endFile()
	return false
}

func (r *Reader) endFile() {
	r.done, r.offset = r.done+r.size, 0
	if err := r.closeFile(); err != nil && r.err == nil {
		r.err = fmt.Errorf("reading policy inputs: %w", err)
	}
	r.in = nil
}

func (r *Reader) drop(n int) {
	n, _ = r.in.Discard(n)
	r.offset += int64(n)
}

// block reads the next block of the file; at its end, it closes the file.
func (r *Reader) block() {
	start := r.offset
	b, err := r.in.Peek(blockHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = fmt.Errorf("reading policy inputs: %w", err)
		return
	}
	if len(b) == 0 {
		r.endFile()
		return
	}
	h, ok := parseHeader(b)
	if !ok {
		r.resync(start)
		return
	}
	if h.sealed > maxSealed || h.plain > maxPlain || int64(h.sealed) > r.size-start-blockHeader {
		if h.version == blockVersion && h.sealed <= maxSealed { // its end is missing
			r.skip(start, errCut)
			r.drop(blockHeader)
			r.seek()
			return
		}
		r.resync(start)
		return
	}
	r.drop(blockHeader)
	switch {
	case h.version != blockVersion:
		r.skip(start, fmt.Errorf("version %d of a block is not known", h.version))
		r.drop(int(h.sealed))
	case h.last < r.since || h.first >= r.until:
		r.drop(int(h.sealed))
	default:
		r.readBlock(h, start)
	}
}

// readBlock opens the block whose header was read.
func (r *Reader) readBlock(h header, start int64) {
	sealed := make([]byte, h.sealed)
	n, err := io.ReadFull(r.in, sealed)
	r.offset += int64(n)
	if err != nil {
		r.skip(start, errCut)
		return
	}
	if r.pending, err = h.open(r.keys, r.zip, sealed); err != nil {
		r.pending = nil
		r.skip(start, err)
		return
	}
	r.at = start
}

// resync tells that no block begins here and goes on to where one may.
func (r *Reader) resync(start int64) {
	r.skip(start, errors.New("it is damaged"))
	r.drop(1)
	r.seek()
}

// seek goes forward to the next header that is whole, or to the end.
func (r *Reader) seek() {
	for {
		b, err := r.in.Peek(blockHeader)
		if _, ok := parseHeader(b); ok {
			return
		}
		if len(b) < blockHeader {
			r.drop(len(b))
			if err != nil && !errors.Is(err, io.EOF) {
				r.err = fmt.Errorf("reading policy inputs: %w", err)
			}
			return
		}
		ahead, _ := r.in.Peek(max(blockHeader, r.in.Buffered()))
		if i := bytes.Index(ahead[1:], magic[:1]); i >= 0 {
			r.drop(1 + i)
		} else {
			r.drop(len(ahead))
		}
	}
}

func (r *Reader) skip(offset int64, why error) {
	if r.skipped++; len(r.told) < maxSkipped {
		r.told = append(r.told, Skipped{r.name, offset, why.Error()})
	}
}
