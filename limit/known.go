package limit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"behalf/internal/kv"
	"behalf/mail"
)

const (
	// KnownFor is how long a tenant knows a recipient after it last mailed it.
	KnownFor = 90 * 24 * time.Hour
	// renewAfter is how old a row may get before mail to the recipient renews
	// it, so that a frequent recipient costs one write a week.
	renewAfter = 7 * 24 * time.Hour
	// knownInMemory bounds the recipients kept in memory, about 100 bytes each.
	knownInMemory = 1 << 16
)

// A row "k" + tenant (4 bytes) + hash of the address (16) holds the hour since
// 1970 in which the recipient was learnt (4).
const tableKnown = 'k'

// knownKey names a recipient of a tenant without holding its address.
type knownKey [1 + 4 + 16]byte

func keyKnown(t mail.TenantID, a mail.Address) (k knownKey) {
	k[0] = tableKnown
	binary.BigEndian.PutUint32(k[1:], uint32(t))
	var room [mail.MaxLocal + 64]byte // for most
	sum := sha256.Sum256(a.AppendKey(room[:0]))
	copy(k[5:], sum[:])
	return k
}

// Known tells which recipients a tenant has mailed in the last 90 days. Its
// memory holds only what a store has committed.
type Known struct {
	store  kv.Store
	memory *lru.Cache[knownKey, int64] // the hour in which it was learnt
}

// NewKnown makes it over store.
func NewKnown(store kv.Store) *Known {
	memory, err := lru.New[knownKey, int64](knownInMemory)
	if err != nil {
		panic(err) // the size is positive
	}
	return &Known{store: store, memory: memory}
}

// FirstTime reports whether the tenant has not mailed the address in 90 days.
func (k *Known) FirstTime(ctx context.Context, t mail.TenantID, a mail.Address) (bool, error) {
	key := keyKnown(t, a)
	if hour, ok := k.memory.Get(key); ok && fresh(hour, time.Now(), KnownFor) {
		return false, nil
	}
	return k.look(ctx, key)
}

// look is FirstTime by what the store knows.
func (k *Known) look(ctx context.Context, key knownKey) (bool, error) {
	var hour int64
	err := k.store.View(ctx, func(r kv.Reader) error {
		b, err := r.Get(key[:])
		hour = knownHour(b)
		return err
	})
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("looking up a known recipient: %w", err)
	case !fresh(hour, time.Now(), KnownFor):
		return true, nil
	}
	k.memory.Add(key, hour)
	return false, nil
}

// Learn notes in the transaction of w that the tenant mails the address. It
// writes only when the row is missing or a week old.
func (k *Known) Learn(w kv.Writer, t mail.TenantID, a mail.Address) error {
	key := keyKnown(t, a)
	now := time.Now()
	if hour, ok := k.memory.Peek(key); ok && fresh(hour, now, renewAfter) {
		return nil
	}
	return learn(w, key, now)
}

// learn is Learn of one that is not in memory.
func learn(w kv.Writer, key knownKey, now time.Time) error {
	b, err := w.Get(key[:])
	if err == nil && fresh(knownHour(b), now, renewAfter) {
		return nil
	}
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	return w.PutFor(append([]byte(nil), key[:]...), binary.BigEndian.AppendUint32(nil, uint32(hourOf(now))), KnownFor)
}

// knownHour reads a row; 0, which is never fresh, for one that is none.
func knownHour(b []byte) int64 {
	if len(b) != 4 {
		return 0
	}
	return int64(binary.BigEndian.Uint32(b))
}

func fresh(hour int64, now time.Time, life time.Duration) bool {
	return hour > hourOf(now.Add(-life))
}
