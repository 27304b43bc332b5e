package suppress

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"behalf/internal/kv"
	"behalf/mail"
)

// Lists are the lists of all tenants. Most mail goes to nobody who is on one, so
// a filter in memory tells that without a look into the store: a [Lists.May] that
// says no is right, one that says yes may be wrong.
//
// It is right because nothing else writes an entry: [Lists.Add] notes it before
// its transaction can be committed, [Lists.Run] notes those of before, and until
// that is done every answer is yes. Of what is taken off a list the filter keeps
// the trace until the next start. There must be one Lists to a store.
type Lists struct {
	store kv.Store
	seed  maphash.Seed
	bits  []atomic.Uint64
	whole atomic.Bool // every entry in the store is in bits
}

const (
	// filterBits take 1 MiB: of a hundred thousand entries one address in two
	// thousand is looked up in vain, of a million one in twenty.
	filterBits = 1 << 23
	// atOnce is how many entries are read in one View.
	atOnce = 1000
)

// New makes the lists of a store; see [Lists.Run].
func New(store kv.Store) *Lists {
	return &Lists{store: store, seed: maphash.MakeSeed(), bits: make([]atomic.Uint64, filterBits/64)}
}

// Run reads the lists once, and returns.
func (l *Lists) Run(ctx context.Context) error {
	from := []byte(prefix)
	for from != nil {
		var err error
		if from, err = l.read(ctx, from); err != nil {
			return fmt.Errorf("reading the suppression lists: %w", err)
		}
	}
	l.whole.Store(true)
	return nil
}

// read notes some entries and gives where the next begin; nil: those were all.
func (l *Lists) read(ctx context.Context, from []byte) (next []byte, err error) {
	n := 0
	err = l.store.View(ctx, func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: []byte(prefix), From: from}, func(k, _ []byte) bool {
			l.note(k)
			if n++; n == atOnce {
				next = append(append(next, k...), 0)
			}
			return next == nil
		})
	})
	return next, err
}

// places are the two bits of a key.
func (l *Lists) places(key []byte) [2]uint64 {
	h := maphash.Bytes(l.seed, key)
	return [2]uint64{h % filterBits, h >> 32 % filterBits}
}

func (l *Lists) note(key []byte) {
	for _, p := range l.places(key) {
		l.bits[p/64].Or(1 << (p % 64))
	}
}

// May tells whether a may be on the list of t for a stream; false is certain.
func (l *Lists) May(t mail.TenantID, stream string, a mail.Address) bool {
	if !l.whole.Load() {
		return true
	}
	var room [128]byte // for most
	for _, p := range l.places(a.AppendKey(appendStream(room[:0], t, stream))) {
		if l.bits[p/64].Load()&(1<<(p%64)) == 0 {
			return false
		}
	}
	return true
}

// Add puts an address on the list of t for a stream. An entry that is there
// already stays as it is.
func (l *Lists) Add(w kv.Writer, t mail.TenantID, e Entry) error {
	a, err := mail.ParseAddress(e.Address)
	if err != nil {
		return err
	}
	if e.Stream == "" || strings.ContainsRune(e.Stream, 0) {
		return fmt.Errorf("suppressing %s: %q is no stream", a, e.Stream)
	}
	k := key(t, e.Stream, a.Key())
	if _, err := w.Get(k); !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	b, err := encode(&e)
	if err != nil {
		return err
	}
	l.note(k) // first
	return w.Put(k, b)
}
