package sign

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// sameFor is how long a signature is used again. Its t= is that of the first use.
// Attempts that run at the same time may come in another order than their times.
const (
	sameFor = time.Hour
	order   = time.Minute
)

// Cache remembers the signatures made lately, so that a message that goes to
// many places, or is tried again, is signed once with each key. What is signed
// finds them, not who asks. It holds a bounded number of signatures.
type Cache struct {
	lru *lru.Cache[[32]byte, *made]
}

// NewCache gives a cache of n signatures, each about half a kibibyte.
func NewCache(n int) *Cache {
	l, _ := lru.New[[32]byte, *made](max(n, 1)) // refuses none but 0
	return &Cache{l}
}

// made is one signature, computed by the first that needs it while others wait.
type made struct {
	public crypto.PublicKey
	at     time.Time

	mu  sync.Mutex
	sig []byte // nil: not yet
}

// find gives the signature that stands, or will stand, under what id names.
func (c *Cache) find(id [32]byte, public crypto.PublicKey, now time.Time) *made {
	fresh := &made{public: public, at: now}
	if c == nil {
		return fresh
	}
	m, ok := c.lru.Get(id)
	if !ok {
		m, ok, _ = c.lru.PeekOrAdd(id, fresh)
	}
	if ok && m.serves(fresh) {
		return m
	}
	if ok {
		c.lru.Add(id, fresh)
	}
	return fresh
}

// serves reports whether m may stand where other would be made: it is of the
// same key, and recent.
func (m *made) serves(other *made) bool {
	age := other.at.Sub(m.at)
	p, ok := m.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && p.Equal(other.public) && age > -order && age < sameFor
}

// once gives the signature, and reports whether it was computed now.
func (m *made) once(compute func() ([]byte, error)) (sig []byte, computed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sig != nil {
		return m.sig, false, nil
	}
	m.sig, err = compute()
	return m.sig, err == nil, err
}

// identity names what a key signs, all but t=.
func identity(common [32]byte, bodyHash [32]byte, k Key, o *Options) [32]byte {
	b := make([]byte, 0, 256)
	b = append(append(b, common[:]...), bodyHash[:]...)
	if !o.Expires.IsZero() {
		b = binary.BigEndian.AppendUint64(b, uint64(o.Expires.Unix()))
	}
	text := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	text(k.Domain)
	text(k.Selector)
	for _, name := range o.Exclude {
		text(name)
	}
	return sha256.Sum256(b)
}
