// Package blobtest says what every store of bodies must do.
package blobtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"behalf/internal/blob"
)

// Run tests a store. open gives an empty one that the test need not close, and
// that drops what nobody owns after safe, or never if that is 0. It should be
// seconds: on a busy machine that is how long a body may wait for its owner.
func Run(t *testing.T, safe time.Duration, open func(t *testing.T) blob.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, blob.Store)
	}{
		{"bodies of all sizes", sizes},
		{"parts of a body", parts},
		{"a wrong place is no body", wrongPlace},
		{"delete", deletes},
		{"a source that fails", badSources},
		{"a context that ended", ended},
		{"begin", begins},
		{"what begin refuses", beginRefuses},
		{"many at once", many},
		{"reclaim keeps what lives", func(t *testing.T, s blob.Store) { reclaims(t, s, safe) }},
		{"an error of the owner ends reclaim", func(t *testing.T, s blob.Store) { reclaimError(t, s, safe) }},
		{"close", closes},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { _ = s.Close() })
			test.run(t, s)
		})
	}
}

var bg = context.Background()

// OwnerOf gives the nth owner.
func OwnerOf(n int) (o blob.Owner) {
	binary.BigEndian.PutUint64(o[8:], uint64(n)+1)
	return o
}

// BodyOf gives a body of size octets that differs for each n.
func BodyOf(n, size int) []byte {
	body := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(size)})
	_, _ = r.Read(body)
	return body
}

// Bytes is a blob.Source.
type Bytes []byte

// Size implements blob.Source.
func (b Bytes) Size() int64 { return int64(len(b)) }

// WriteTo implements blob.Source.
func (b Bytes) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for len(b) > 0 { // in pieces, as they gather
		k, err := w.Write(b[:min(len(b), 32<<10)])
		n, b = n+int64(k), b[k:]
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Read opens and reads a body.
func Read(s blob.Store, owner blob.Owner, ref blob.Ref) ([]byte, error) {
	b, err := s.Open(bg, owner, ref)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	return all, errors.Join(err, b.Close())
}

func put(t *testing.T, s blob.Store, n, size int) blob.Ref {
	t.Helper()
	ref, err := s.Put(bg, OwnerOf(n), Bytes(BodyOf(n, size)))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func check(t *testing.T, s blob.Store, n, size int, ref blob.Ref) {
	t.Helper()
	got, err := Read(s, OwnerOf(n), ref)
	if err != nil {
		t.Errorf("body %d of %d octets: %v", n, size, err)
	} else if !bytes.Equal(got, BodyOf(n, size)) {
		t.Errorf("body %d of %d octets comes back with %d, or different", n, size, len(got))
	}
}

func sizes(t *testing.T, s blob.Store) {
	all := []int{0, 1, 31, 32, 4095, 4096, 4097, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 7}
	refs := make([]blob.Ref, len(all))
	for n, size := range all {
		refs[n] = put(t, s, n, size)
		if refs[n].Size != int64(size) {
			t.Errorf("the Ref of %d octets says %d", size, refs[n].Size)
		}
	}
	for n, size := range all {
		check(t, s, n, size, refs[n])
	}
}

func parts(t *testing.T, s blob.Store) {
	for n, size := range []int{5000, 2 << 20} {
		ref := put(t, s, n, size)
		b, err := s.Open(bg, OwnerOf(n), ref)
		if err != nil {
			t.Fatal(err)
		}
		body, part := BodyOf(n, size), make([]byte, 100)
		if k, err := b.ReadAt(part, 1234); k != 100 || err != nil || !bytes.Equal(part, body[1234:1334]) {
			t.Errorf("a part of %d octets comes back as %d: %v", 100, k, err)
		}
		if k, err := b.ReadAt(part, int64(size)-10); k != 10 || !errors.Is(err, io.EOF) || !bytes.Equal(part[:10], body[size-10:]) {
			t.Errorf("the last 10 octets come back as %d: %v", k, err)
		}
		if k, err := b.ReadAt(part, int64(size)+5); k != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("behind the end are %d octets: %v", k, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func wrongPlace(t *testing.T, s blob.Store) {
	small, large := put(t, s, 1, 100), put(t, s, 2, 2<<20)
	for name, open := range map[string]struct {
		owner blob.Owner
		ref   blob.Ref
	}{
		"another owner":            {OwnerOf(2), small},
		"another owner, large":     {OwnerOf(1), large},
		"another size":             {OwnerOf(1), blob.Ref{Segment: small.Segment, Offset: small.Offset, Size: small.Size - 1}},
		"another size, large":      {OwnerOf(2), blob.Ref{Segment: large.Segment, Offset: large.Offset, Size: large.Size + 1}},
		"another offset":           {OwnerOf(1), blob.Ref{Segment: small.Segment, Offset: small.Offset + 1, Size: small.Size}},
		"an offset behind the end": {OwnerOf(1), blob.Ref{Segment: small.Segment, Offset: 1 << 40, Size: small.Size}},
		"a negative offset":        {OwnerOf(1), blob.Ref{Segment: small.Segment, Offset: -5, Size: small.Size}},
		"a negative size":          {OwnerOf(1), blob.Ref{Segment: small.Segment, Offset: small.Offset, Size: -1}},
		"an absurd size":           {OwnerOf(1), blob.Ref{Segment: small.Segment, Offset: small.Offset, Size: 1 << 50}},
		"another segment":          {OwnerOf(1), blob.Ref{Segment: small.Segment + 77, Offset: small.Offset, Size: small.Size}},
		"nowhere":                  {OwnerOf(3), blob.Ref{}},
	} {
		if b, err := s.Open(bg, open.owner, open.ref); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: opened %v, %v", name, b, err)
		}
	}
}

func deletes(t *testing.T, s blob.Store) {
	kept := put(t, s, 1, 100)
	for n, size := range map[int]int{2: 100, 3: 2 << 20} {
		ref := put(t, s, n, size)
		for range 2 {
			if err := s.Delete(OwnerOf(n), ref); err != nil {
				t.Errorf("delete of %d octets: %v", size, err)
			}
		}
	}
	if err := s.Delete(OwnerOf(9), blob.Ref{Segment: 99, Offset: 99, Size: 9}); err != nil {
		t.Errorf("delete of what never was: %v", err)
	}
	check(t, s, 1, 100, kept)
}

// broken is a source that gives gives octets, says that it has says, and ends
// with err.
type broken struct {
	says, gives int
	err         error
}

func (b broken) Size() int64 { return int64(b.says) }

func (b broken) WriteTo(w io.Writer) (int64, error) {
	n, err := Bytes(make([]byte, b.gives)).WriteTo(w)
	return n, errors.Join(err, b.err)
}

func badSources(t *testing.T, s blob.Store) {
	fault := errors.New("the client went away")
	for _, size := range []int{5000, 2 << 20} {
		if _, err := s.Put(bg, OwnerOf(1), broken{size, size / 2, fault}); !errors.Is(err, fault) {
			t.Errorf("a source of %d octets that fails gives %v", size, err)
		}
		if _, err := s.Put(bg, OwnerOf(1), broken{size, size / 2, nil}); err == nil {
			t.Errorf("a source that is shorter than its %d octets is stored", size)
		}
		if _, err := s.Put(bg, OwnerOf(1), broken{size, size + 1, nil}); err == nil {
			t.Errorf("a source that is longer than its %d octets is stored", size)
		}
		check(t, s, 1, size, put(t, s, 1, size))
	}
}

func ended(t *testing.T, s blob.Store) {
	ref := put(t, s, 1, 10)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := s.Put(ctx, OwnerOf(2), Bytes("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put gives %v", err)
	}
	if _, err := s.Open(ctx, OwnerOf(1), ref); !errors.Is(err, context.Canceled) {
		t.Errorf("Open gives %v", err)
	}
}

func many(t *testing.T, s blob.Store) {
	var all sync.WaitGroup
	for g := range 20 {
		all.Go(func() {
			for i := range 20 {
				n := g*1000 + i
				size := n * 7919 % 20_000
				ref, err := s.Put(bg, OwnerOf(n), Bytes(BodyOf(n, size)))
				if err != nil {
					t.Error(err)
					return
				}
				check(t, s, n, size, ref)
				if i%2 == 0 {
					if err := s.Delete(OwnerOf(n), ref); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
}

func closes(t *testing.T, s blob.Store) {
	put(t, s, 1, 10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close gives %v", err)
	}
	if _, err := s.Put(bg, OwnerOf(2), Bytes("x")); err == nil {
		t.Error("after Close a Put succeeds")
	}
}
