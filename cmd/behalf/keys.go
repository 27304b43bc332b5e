package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// adminKey reads the bootstrap admin key, and makes it at first start.
func adminKey(path string) (key string, made bool, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		key = strings.TrimSpace(string(b))
		if len(key) < 32 {
			return "", false, fmt.Errorf("the admin key in %s is shorter than 32 characters; delete the file to have a new one made", path)
		}
		return key, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("reading the admin key: %w", err)
	}
	var secret [32]byte
	rand.Read(secret[:])
	key = "bhf_" + base64.RawURLEncoding.EncodeToString(secret[:])
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", false, fmt.Errorf("making the folder of the admin key: %w", err)
	}
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		return "", false, fmt.Errorf("writing the admin key: %w", err)
	}
	return key, true, nil
}
