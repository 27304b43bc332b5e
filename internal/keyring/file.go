package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"behalf/internal/fsync"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// fileForm is the master key file: two Tink keysets in their JSON form, and the
// hex SHA-256 of both (compact), which tells a damaged file from a foreign one.
type fileForm struct {
	Note   string          `json:"note"`
	Seal   json.RawMessage `json:"seal"`
	Derive json.RawMessage `json:"derive"`
	Check  string          `json:"check"`
}

const (
	fileNote = "Behalf master key. Without it the secrets in the store are lost; keep a copy apart from the store."
	maxFile  = 1 << 20
)

// Open reads the key file at path, and makes it (0600, on stable storage)
// when there is none.
func Open(path string) (*Keyring, error) {
	b, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("making the master key file: %w", err)
		}
		b, err = read(path)
	}
	if err != nil {
		return nil, fmt.Errorf("master key file: %w", err)
	}
	m, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("master key file %s is damaged: %w; put back a copy, nothing else opens the secrets in the store", path, err)
	}
	return m.keyring()
}

func read(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if p := st.Mode().Perm(); p&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o); run: chmod 600 %s", path, p, path)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s is too large to be a key file", path)
	}
	return os.ReadFile(path)
}

func parse(b []byte) (m master, err error) {
	var f fileForm
	if err := json.Unmarshal(b, &f); err != nil {
		return m, fmt.Errorf("not JSON: %w", err)
	}
	sum, err := f.sum()
	if err != nil {
		return m, err
	}
	if sum != f.Check {
		return m, errors.New("its checksum does not fit")
	}
	if m.seal, err = readSet(f.Seal); err != nil {
		return m, fmt.Errorf("seal: %w", err)
	}
	if m.derive, err = readSet(f.Derive); err != nil {
		return m, fmt.Errorf("derive: %w", err)
	}
	return m, nil
}

func (f *fileForm) sum() (string, error) {
	var c bytes.Buffer
	for _, part := range []json.RawMessage{f.Seal, f.Derive} {
		if len(part) == 0 {
			return "", errors.New("a keyset is missing")
		}
		if err := json.Compact(&c, part); err != nil {
			return "", err
		}
	}
	h := sha256.Sum256(c.Bytes())
	return hex.EncodeToString(h[:]), nil
}

func readSet(b []byte) (*keyset.Handle, error) {
	return insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
}

func writeSet(h *keyset.Handle) (json.RawMessage, error) {
	var b bytes.Buffer
	err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b))
	return bytes.TrimSpace(b.Bytes()), err
}

// create writes a new key file. It never replaces one: the file is linked to
// its name, so of two first starts at once one loses, with fs.ErrExist.
func create(path string) error {
	b, err := newFile()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return fsync.Path(dir)
}

func newFile() ([]byte, error) {
	m, err := newMaster()
	if err != nil {
		return nil, err
	}
	f := fileForm{Note: fileNote}
	if f.Seal, err = writeSet(m.seal); err != nil {
		return nil, err
	}
	if f.Derive, err = writeSet(m.derive); err != nil {
		return nil, err
	}
	if f.Check, err = f.sum(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}
