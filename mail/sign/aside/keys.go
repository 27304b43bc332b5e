package aside

import (
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxKeys is how many keys the helper holds, each about 7 KiB.
const maxKeys = 1024

// keys are those that the helper was handed. Only its reader uses the table.
type keys struct {
	lib   Library
	table *simplelru.LRU[uint64, *heldKey]
}

func newKeys(lib Library) *keys {
	table, _ := simplelru.NewLRU(maxKeys, func(_ uint64, k *heldKey) { k.free() }) // refuses none but 0
	return &keys{lib, table}
}

// add keeps a copy of der. The key is read by who first signs with it, which
// takes as long as two signatures.
func (k *keys) add(number uint64, der []byte) {
	k.table.Remove(number)
	k.table.Add(number, &heldKey{lib: k.lib, der: slices.Clone(der)})
}

// find gives nil for a key that is not there.
func (k *keys) find(number uint64) *heldKey {
	held, _ := k.table.Get(number)
	return held
}

func (k *keys) freeAll() { k.table.Purge() }

// heldKey is a key of the helper.
type heldKey struct {
	lib Library

	read sync.Once
	mu   sync.RWMutex // held for reading while signing
	der  []byte       // until it is read
	key  Key          // nil: not read, or freed
	err  error        // why it cannot be read
	gone bool
}

// load reads the key, once.
func (k *heldKey) load() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return
	}
	if key, err := k.lib.Key(k.der); err != nil {
		k.err = err
	} else {
		k.key = key
	}
	clear(k.der)
	k.der = nil
}

// answer appends what there is to say to a job.
func (k *heldKey) answer(b []byte, j *job) []byte {
	if k == nil {
		return appendFrame(b, kindUnknown, j.number)
	}
	k.read.Do(k.load)
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch {
	case k.gone:
		return appendFrame(b, kindUnknown, j.number)
	case k.err != nil:
		return appendFrame(b, kindRefused, j.number, cut(k.err.Error()))
	}
	sig, err := k.key.Sign(&j.digest)
	if err != nil {
		return appendFrame(b, kindRefused, j.number, cut(err.Error()))
	}
	return appendFrame(b, kindSignature, j.number, sig)
}

// free waits for those who sign.
func (k *heldKey) free() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		k.key.Free()
	}
	clear(k.der)
	k.der, k.key, k.gone = nil, nil, true
}
