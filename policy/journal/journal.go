package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"behalf/internal/keyring"
)

const (
	blockSize  = 64 << 10        // from which a block is written
	flushEvery = time.Second     // at which a smaller one is
	maxMemory  = 8 << 20         // of blocks that wait for the disk
	sweepEvery = 5 * time.Minute // when old segments go
	logEvery   = time.Minute     // about what could not be recorded
)

// Options of a [Journal].
type Options struct {
	Keep    time.Duration         // how long; default 7 days
	Size    int64                 // octets on disk, at most about; default 1 GiB
	Full    func() bool           // the disk has no room for this; default: it has
	Log     *slog.Logger          // default: nowhere
	Metrics prometheus.Registerer // default: nowhere
}

// Journal records questions to the policy. Its methods may be called from many
// goroutines.
type Journal struct {
	dir     string
	keys    *keyring.Keyring
	o       Options
	next    atomic.Uint64 // names transactions
	buffers sync.Pool
	records sync.Pool
	dropped prometheus.Counter
	wake    chan struct{} // a block is full

	mu     sync.Mutex // guards what follows
	open   block
	full   []block
	queued int // octets in full
	spare  []byte
	closed bool
	told   time.Time // when a loss was logged last
	untold int       // entries lost since

	disk sync.Mutex // guards what follows; taken before mu
	out  *segment
	zip  *zstd.Encoder
	tmp  []byte // what zip packs into
}

// Open makes a journal in dir, which is made if missing. It records at once and
// writes while [Journal.Run] runs.
func Open(dir string, keys *keyring.Keyring, o Options) (*Journal, error) {
	if o.Keep <= 0 {
		o.Keep = 7 * 24 * time.Hour
	}
	if o.Size <= 0 {
		o.Size = 1 << 30
	}
	if o.Full == nil {
		o.Full = func() bool { return false }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for recorded policy inputs: %w", err)
	}
	j := &Journal{dir: dir, keys: keys, o: o, wake: make(chan struct{}, 1)}
	j.next.Store(uint64(time.Now().UnixNano())) // no transaction before had these numbers
	j.dropped = prometheus.NewCounter(prometheus.CounterOpts{Name: "behalf_policy_unrecorded_total", Help: "Transactions, or parts of large ones, whose policy inputs could not be recorded."})
	var err error
	// What repeats is most of what can be saved; the rest is not worth its time.
	if j.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockSize), zstd.WithNoEntropyCompression(true)); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		if err := o.Metrics.Register(j.dropped); err != nil {
			return nil, fmt.Errorf("metrics of the policy journal: %w", err)
		}
	}
	return j, j.sweep(time.Now())
}

// Run writes blocks and drops old segments, until ctx ends.
func (j *Journal) Run(ctx context.Context) error {
	flush, sweep := time.NewTicker(flushEvery), time.NewTicker(sweepEvery)
	defer flush.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-j.wake:
			j.write(false)
		case <-flush.C:
			j.write(true)
		case now := <-sweep.C:
			if err := j.sweep(now); err != nil {
				j.o.Log.Warn("old policy inputs could not be dropped", "err", err)
			}
		}
	}
}

// Close writes what is left; nothing is recorded from then on.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.write(true)
	j.disk.Lock()
	defer j.disk.Unlock()
	return errors.Join(j.out.close(), j.zip.Close())
}

// append takes one entry, in two pieces, or counts it as lost.
func (j *Journal) append(head, asks []byte, at int64) {
	size := len(head) + len(asks)
	if size > maxEntry {
		j.lost(1, fmt.Errorf("an entry of %d octets is too large", size))
		return
	}
	var err error
	j.mu.Lock()
	switch {
	case j.closed:
		err = errors.New("the relay is stopping")
	case j.queued+len(j.open.b)+size > maxMemory:
		err = errors.New("the disk is too slow")
	default:
		j.open.add(head, asks, at)
		if len(j.open.b) >= blockSize {
			j.rotate()
		}
	}
	j.mu.Unlock()
	if err != nil {
		j.lost(1, err)
	}
}

// rotate ends the open block; mu is held.
func (j *Journal) rotate() {
	j.full, j.queued = append(j.full, j.open), j.queued+len(j.open.b)
	j.open = block{b: j.spare[:0]}
	if j.spare = nil; cap(j.open.b) == 0 {
		j.open.b = make([]byte, 0, blockSize+splitAt)
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// write writes all full blocks, and the open one too if all.
func (j *Journal) write(all bool) {
	j.disk.Lock()
	defer j.disk.Unlock()
	for {
		j.mu.Lock()
		if all && len(j.full) == 0 && j.open.entries > 0 {
			j.rotate()
			all = false // what comes meanwhile has time
		}
		if len(j.full) == 0 {
			j.full = nil
			j.mu.Unlock()
			return
		}
		b := j.full[0]
		j.full = j.full[1:]
		j.mu.Unlock()
		if err := j.writeBlock(&b); err != nil {
			j.lost(b.entries, err)
		}
		j.mu.Lock()
		j.queued -= len(b.b)
		if cap(b.b) <= 2*(blockSize+splitAt) {
			j.spare = b.b
		}
		j.mu.Unlock()
	}
}

// writeBlock appends one block to the segment; disk is held.
func (j *Journal) writeBlock(b *block) error {
	if j.o.Full() {
		return errors.New("the disk is nearly full")
	}
	j.tmp = j.zip.EncodeAll(b.b, j.tmp[:0])
	sealed, err := b.seal(j.keys, j.tmp)
	if err != nil {
		return err
	}
	now := time.Now()
	if j.out != nil && (j.out.size+int64(len(sealed)) > j.segmentSize() || now.Sub(j.out.begun) >= j.segmentAge()) {
		if err := j.out.close(); err != nil {
			j.o.Log.Warn("closing recorded policy inputs", "err", err)
		}
		j.out = nil
		if err := j.sweep(now); err != nil {
			j.o.Log.Warn("old policy inputs could not be dropped", "err", err)
		}
	}
	if j.out == nil {
		if j.out, err = newSegment(j.dir, now); err != nil {
			return err
		}
	}
	if err := j.out.append(sealed); err != nil {
		j.out.close() // a new one next time; what is torn is at its end
		j.out = nil
		return err
	}
	return nil
}

// lost counts entries that could not be recorded and says so once a minute.
func (j *Journal) lost(n int, err error) {
	j.dropped.Add(float64(n))
	j.mu.Lock()
	j.untold += n
	tell := time.Since(j.told) >= logEvery
	n = j.untold
	if tell {
		j.told, j.untold = time.Now(), 0
	}
	j.mu.Unlock()
	if tell {
		j.o.Log.Error("policy inputs are not recorded, and cannot be replayed later; mail is not affected", "transactions", n, "err", err)
	}
}

// buffer is a buffer to encode into.
func (j *Journal) buffer() *[]byte {
	if b, ok := j.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 2048)
	return &b
}

func (j *Journal) putBuffer(b *[]byte) {
	if cap(*b) <= 4*splitAt {
		j.buffers.Put(b)
	}
}
