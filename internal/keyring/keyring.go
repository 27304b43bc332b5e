// Package keyring seals tenants' secrets at rest. A master key file holds two
// Tink keysets: one from which a sealing key of each tenant is derived, and one
// for keys of the relay itself. A sealed value is bound to its tenant, record
// and field, so that it cannot be moved to where another one stood, and carries
// the id of its key, so that keys can be rotated without a new format.
package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyderivation"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"behalf/mail"
)

// ErrSealed is wrapped when a sealed value cannot be opened: it was sealed with
// another master key, for another place, or is damaged.
var ErrSealed = errors.New("sealed value cannot be opened")

// maxTenants bounds the derived keys that are kept, a few KiB each.
const maxTenants = 1024

// Keyring seals and opens values. Its methods may be called from many
// goroutines.
type Keyring struct {
	deriver keyderivation.KeysetDeriver
	prf     *prf.Set
	tenants *lru.Cache[mail.TenantID, tink.AEAD]
}

// New makes a keyring with fresh keys that are written nowhere.
func New() (*Keyring, error) {
	m, err := newMaster()
	if err != nil {
		return nil, err
	}
	return m.keyring()
}

// master is what a key file holds.
type master struct {
	seal   *keyset.Handle // derives one AEAD keyset a tenant
	derive *keyset.Handle // PRF for Derive
}

func newMaster() (master, error) {
	sealing, err := keyderivation.CreatePRFBasedKeyTemplate(prf.HKDFSHA256PRFKeyTemplate(), aead.AES256GCMKeyTemplate())
	if err != nil {
		return master{}, fmt.Errorf("making a master key: %w", err)
	}
	var m master
	if m.seal, err = keyset.NewHandle(sealing); err != nil {
		return master{}, fmt.Errorf("making a master key: %w", err)
	}
	if m.derive, err = keyset.NewHandle(prf.HKDFSHA256PRFKeyTemplate()); err != nil {
		return master{}, fmt.Errorf("making a master key: %w", err)
	}
	return m, nil
}

func (m master) keyring() (*Keyring, error) {
	deriver, err := keyderivation.New(m.seal)
	if err != nil {
		return nil, fmt.Errorf("sealing keys: %w", err)
	}
	set, err := prf.NewPRFSet(m.derive)
	if err != nil {
		return nil, fmt.Errorf("derivation keys: %w", err)
	}
	if _, err := set.ComputePrimaryPRF(nil, 32); err != nil {
		return nil, fmt.Errorf("derivation keys: %w", err)
	}
	tenants, err := lru.New[mail.TenantID, tink.AEAD](maxTenants)
	if err != nil {
		return nil, err
	}
	return &Keyring{deriver: deriver, prf: set, tenants: tenants}, nil
}

// tenant gives the sealing keys of one tenant. They have the same ids as the
// master's, so that old values stay readable after a rotation.
func (k *Keyring) tenant(t mail.TenantID) (tink.AEAD, error) {
	if a, ok := k.tenants.Get(t); ok {
		return a, nil
	}
	h, err := k.deriver.DeriveKeyset(binary.BigEndian.AppendUint32([]byte("behalf tenant "), uint32(t)))
	if err != nil {
		return nil, fmt.Errorf("deriving the key of a tenant: %w", err)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of a tenant: %w", err)
	}
	k.tenants.Add(t, a)
	return a, nil
}

// Seal encrypts plaintext for a field of a record of a tenant; record and field
// are names of the caller's choice that stay the same.
func (k *Keyring) Seal(t mail.TenantID, record, field string, plaintext []byte) ([]byte, error) {
	a, err := k.tenant(t)
	if err != nil {
		return nil, err
	}
	return a.Encrypt(plaintext, place(t, record, field))
}

// Open gives back what Seal got for the same tenant, record and field.
func (k *Keyring) Open(t mail.TenantID, record, field string, sealed []byte) ([]byte, error) {
	a, err := k.tenant(t)
	if err != nil {
		return nil, err
	}
	plain, err := a.Decrypt(sealed, place(t, record, field))
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w: another master key, another place, or damaged", field, record, ErrSealed)
	}
	return plain, nil
}

// place is the associated data; lengths make it unambiguous.
func place(t mail.TenantID, record, field string) []byte {
	b := make([]byte, 0, 12+len(record)+len(field))
	b = binary.BigEndian.AppendUint32(b, uint32(t))
	b = binary.BigEndian.AppendUint32(b, uint32(len(record)))
	b = append(b, record...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

// Derive gives the key that the relay uses for purpose, the same at every
// start with the same key file, and unrelated to that of any other purpose.
func (k *Keyring) Derive(purpose string) [32]byte {
	b, err := k.prf.ComputePrimaryPRF([]byte("behalf "+purpose), 32)
	if err != nil {
		panic("keyring: " + err.Error()) // the PRF was tried when the keyring was made
	}
	return [32]byte(b)
}
