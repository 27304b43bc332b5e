package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// Service is a server that bundles come from.
type Service struct {
	URL     string
	Headers map[string]string
	// Token is a bearer token; TokenPath a file that holds one, read at each
	// request.
	Token, TokenPath string
	HeaderTimeout    time.Duration // how long an answer may take to begin; default 10 s
	CACert           string        // PEM file of those who sign its certificate; default the system's
}

// Bundle is a policy bundle in OPA's format, fetched from a service.
type Bundle struct {
	Service  string
	Resource string // path below the service's URL; default bundles/<name>
	Persist  bool   // the last good one is kept below [Options.Keep]
	// The next poll comes at random between MinDelay and MaxDelay; default 60 s and
	// 120 s.
	MinDelay, MaxDelay time.Duration
	LongPoll           time.Duration // how long a server that can may wait for news; zero: not at all
	// KeyID names the key that must have signed it, where the signature does not;
	// Scope what the signature must say, and Exclude files that it need not cover.
	KeyID, Scope string
	Exclude      []string
	SizeLimit    int64 // bytes, as it comes and unpacked; default 36 MiB
}

// Key verifies bundles: a PEM public key for RS, PS and ES algorithms, a secret
// for HS algorithms.
type Key struct{ Algorithm, Key, Scope string }

// Bundles are where policies come from in place of a folder. With Keys, every
// bundle must be signed by one of them.
type Bundles struct {
	Services map[string]Service
	Bundles  map[string]Bundle
	Keys     map[string]Key
}

// content is what one bundle holds.
type content struct {
	roots    []string
	revision string
	modules  map[string][]byte
	data     map[string]any
}

// readBundle reads and verifies a bundle. Keys may be empty: then it must not be
// signed, because nobody could tell by whom.
func readBundle(raw []byte, o Bundle, keys map[string]Key) (*content, error) {
	if err := measure(raw, o.SizeLimit); err != nil {
		return nil, err
	}
	r := bundle.NewCustomReader(bundle.NewTarballLoaderWithBaseURL(bytes.NewReader(raw), "")).
		WithSizeLimitBytes(o.SizeLimit + 1).WithRegoVersion(ast.RegoV1)
	if len(keys) > 0 {
		known := make(map[string]*bundle.KeyConfig, len(keys))
		for id, k := range keys {
			known[id] = &bundle.KeyConfig{Key: k.Key, Algorithm: k.Algorithm, Scope: k.Scope}
		}
		r = r.WithBundleVerificationConfig(bundle.NewVerificationConfig(known, o.KeyID, o.Scope, o.Exclude))
	}
	b, err := r.Read()
	if err != nil {
		return nil, err
	}
	if b.Type() == bundle.DeltaBundleType {
		return nil, errors.New("this is a delta bundle; only whole ones are taken")
	}
	c := &content{revision: b.Manifest.Revision, modules: make(map[string][]byte, len(b.Modules)), data: b.Data}
	if b.Manifest.Roots != nil {
		c.roots = *b.Manifest.Roots
	}
	for _, m := range b.Modules {
		c.modules[strings.TrimPrefix(m.Path, "/")] = m.Raw
	}
	return c, nil
}

// measure refuses what is no archive, and one that grows beyond limit when it is
// unpacked, before anything of it is kept: whoever unpacks it makes room for what
// its files claim to have. Sparse files have next to nothing, so none is taken.
func measure(raw []byte, limit int64) error {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("this is no bundle: %w", err)
	}
	left := &io.LimitedReader{R: z, N: limit + 1}
	r := tar.NewReader(left)
	claimed := int64(0)
	for files := 0; ; files++ {
		h, err := r.Next()
		switch {
		case left.N <= 0 || err == nil && h.Size > limit-claimed:
			return fmt.Errorf("the bundle holds more than %d bytes when it is unpacked", limit)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("this is no bundle: %w", err)
		case isSparse(h):
			return errors.New("the bundle holds a sparse file; pack it without")
		case files == 4*maxFiles:
			return fmt.Errorf("the bundle has more than %d files", 4*maxFiles)
		}
		claimed += h.Size
	}
}

// isSparse tells whether a file of an archive has holes, in one of GNU's forms.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// join makes one set of all bundles, by name. What they say they own must not
// overlap.
func join(all map[string]*content) (*source, error) {
	names := sortedKeys(all)
	for i, a := range names {
		for _, b := range names[i+1:] {
			if root, twice := sharedRoot(all[a].roots, all[b].roots); twice {
				return nil, fmt.Errorf("the bundles %s and %s both own %q; give them roots of their own", a, b, root)
			}
		}
	}
	s, data := newSource(), map[string]any{}
	for _, name := range names {
		c := all[name]
		prefix := ""
		if len(all) > 1 {
			prefix = name + "/"
		}
		for _, file := range sortedKeys(c.modules) {
			if err := s.add(prefix+file, bytes.NewReader(c.modules[file])); err != nil {
				return nil, err
			}
		}
		data = merged(data, c.data)
	}
	if len(data) > 0 {
		b, err := json.Marshal(data)
		if err != nil {
			return nil, err
		}
		if err := s.add("data.json", bytes.NewReader(b)); err != nil {
			return nil, err
		}
	}
	return s, s.check()
}

// sharedRoot finds a root of one that lies in a root of the other.
func sharedRoot(a, b []string) (string, bool) {
	for _, x := range a {
		if i := slices.IndexFunc(b, func(y string) bool { return bundle.RootPathsOverlap(x, y) }); i >= 0 {
			return b[i], true
		}
	}
	return "", false
}

// merged is a with what b has besides; neither is changed.
func merged(a, b map[string]any) map[string]any {
	all := make(map[string]any, len(a)+len(b))
	for k, v := range a {
		all[k] = v
	}
	for k, v := range b {
		below, ok1 := all[k].(map[string]any)
		more, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			v = merged(below, more)
		}
		all[k] = v
	}
	return all
}
