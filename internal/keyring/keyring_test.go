package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyderivation"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"behalf/mail"
)

func mustNew(t *testing.T) *Keyring {
	t.Helper()
	k, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedValueOpensOnlyInItsPlace(t *testing.T) {
	k := mustNew(t)
	sealed, err := k.Seal(7, "connection/office", "password", []byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("s3cret")) {
		t.Fatal("the secret is readable in the sealed value")
	}
	got, err := k.Open(7, "connection/office", "password", sealed)
	if err != nil || string(got) != "s3cret" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	other := mustNew(t)
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"other tenant":     func() ([]byte, error) { return k.Open(8, "connection/office", "password", sealed) },
		"other record":     func() ([]byte, error) { return k.Open(7, "connection/home", "password", sealed) },
		"other field":      func() ([]byte, error) { return k.Open(7, "connection/office", "token", sealed) },
		"border moved":     func() ([]byte, error) { return k.Open(7, "connection/officep", "assword", sealed) },
		"other master key": func() ([]byte, error) { return other.Open(7, "connection/office", "password", sealed) },
		"damaged":          func() ([]byte, error) { return k.Open(7, "connection/office", "password", damaged) },
		"cut":              func() ([]byte, error) { return k.Open(7, "connection/office", "password", sealed[:5]) },
		"empty":            func() ([]byte, error) { return k.Open(7, "connection/office", "password", nil) },
	} {
		if b, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: Open = %q, %v; want ErrSealed", name, b, err)
		}
	}
}

func TestKeysLastAcrossStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "master.key")
	a, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v; want mode 0600", st, err)
	}
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	sealed, _ := a.Seal(3, "r", "f", []byte("x"))
	if got, err := b.Open(3, "r", "f", sealed); err != nil || string(got) != "x" {
		t.Errorf("after a restart Open = %q, %v", got, err)
	}
	if a.Derive("verp") != b.Derive("verp") {
		t.Error("Derive differs after a restart")
	}
	if a.Derive("verp") == a.Derive("pepper") || a.Derive("verp") == mustNew(t).Derive("verp") {
		t.Error("Derive does not depend on purpose and key file")
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 {
		t.Errorf("the folder holds %v; want the key file only", left)
	}
}

func TestTwoFirstStartsAgreeOnOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	rings := make([]*Keyring, 8)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() { rings[i], _ = Open(path) })
	}
	wg.Wait()
	for i, k := range rings {
		if k == nil || k.Derive("x") != rings[0].Derive("x") {
			t.Fatalf("start %d has another key", i)
		}
	}
}

func TestBadKeyFileIsRefusedWithWhatToDo(t *testing.T) {
	good, err := newFile()
	if err != nil {
		t.Fatal(err)
	}
	flip := bytes.Clone(good)
	flip[bytes.Index(flip, []byte(`"value"`))+20] ^= 1
	for _, tt := range []struct {
		name    string
		content []byte
		mode    os.FileMode
		want    string
	}{
		{"readable by all", good, 0o644, "chmod 600"},
		{"readable by the group", good, 0o640, "chmod 600"},
		{"empty", nil, 0o600, "damaged"},
		{"cut", good[:len(good)/2], 0o600, "damaged"},
		{"one bit", flip, 0o600, "checksum"},
		{"other JSON", []byte(`{"a":1}`), 0o600, "keyset is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "master.key")
			if err := os.WriteFile(path, tt.content, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Open: %v; want %q in it", err, tt.want)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, tt.content) {
				t.Error("the file was changed")
			}
		})
	}
}

// A second key in the master keyset makes new values be sealed with it while
// old ones stay readable: rotation needs no new format.
func TestRotationKeepsOldValues(t *testing.T) {
	m, err := newMaster()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := m.keyring()
	old, _ := before.Seal(1, "r", "f", []byte("old"))
	tmpl, err := keyderivation.CreatePRFBasedKeyTemplate(prf.HKDFSHA256PRFKeyTemplate(), aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	mgr := keyset.NewManagerFromHandle(m.seal)
	id, err := mgr.Add(tmpl)
	if err != nil {
		t.Fatal(err)
	}
	if err := mgr.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	m.seal, _ = mgr.Handle()
	after, err := m.keyring()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := after.Open(1, "r", "f", old); err != nil || string(got) != "old" {
		t.Fatalf("old value: %q, %v", got, err)
	}
	fresh, _ := after.Seal(1, "r", "f", []byte("new"))
	if _, err := before.Open(1, "r", "f", fresh); err == nil {
		t.Error("the new value was sealed with the old key")
	}
}

func BenchmarkOpen(b *testing.B) {
	k, _ := New()
	sealed, _ := k.Seal(mail.TenantID(1), "r", "f", make([]byte, 100))
	for b.Loop() {
		if _, err := k.Open(1, "r", "f", sealed); err != nil {
			b.Fatal(err)
		}
	}
}
