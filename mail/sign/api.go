package sign

import (
	"crypto"
	"time"
)

type Key struct {
	Domain, Selector string
	Signer           crypto.Signer
}

func (k Key) Algorithm() string { return "" } // rsa-sha256, ed25519-sha256; "" if unfit
func (k Key) String() string    { return "" } // d=… s=… a=…

func PublicRecord(pub crypto.PublicKey) (string, error) { return "", nil }

type Record struct {
	KeyType string
	Public  crypto.PublicKey
	Revoked bool
	Testing bool
}

func ParseRecord(txt string) (Record, error)       { return Record{}, nil }
func (r Record) Matches(pub crypto.PublicKey) bool { return false }

type Options struct {
	Keys    []Key
	Time    time.Time
	Expires time.Time // zero: no x=
	Exclude []string  // fields the hop rewrites
}

type Draft struct{}

func NewDraft(header []byte, bodyHash [32]byte, o Options) (*Draft, error) { return &Draft{}, nil }
func (d *Draft) Size() int                                                 { return 0 }
func (d *Draft) Sign() ([]byte, error)                                     { return nil, nil }
func Sign(header []byte, bodyHash [32]byte, o Options) ([]byte, error)     { return nil, nil }

func GenerateRSA(bits int) (crypto.Signer, error)      { return nil, nil }
func GenerateEd25519() (crypto.Signer, error)          { return nil, nil }
func ParsePrivate(pem []byte) (crypto.Signer, error)   { return nil, nil }
func MarshalPrivate(key crypto.Signer) ([]byte, error) { return nil, nil }
