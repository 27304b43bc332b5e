package blobtest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"behalf/internal/blob"
)

// maxToken is kv.MaxToken.
const maxToken = 256

// begins checks what Begin promises besides what Put does: the body can be read
// at once, and Wait may be called by anybody, often or never.
func begins(t *testing.T, s blob.Store) {
	type begun struct {
		size int
		ref  blob.Ref
		p    blob.Pending
	}
	var all []begun
	tokens := map[string]bool{}
	for n, size := range []int{0, 1, 4096, 1 << 20, 2 << 20} {
		ref, p, err := s.Begin(bg, OwnerOf(n), Bytes(BodyOf(n, size)))
		if err != nil {
			t.Fatal(err)
		}
		check(t, s, n, size, ref)
		all = append(all, begun{size, ref, p})
		if p == nil {
			continue
		}
		token := p.Token()
		if len(token) == 0 || len(token) > maxToken || !bytes.Equal(token, p.Token()) || tokens[string(token)] {
			t.Errorf("a body of %d octets has the token %x, then %x", size, token, p.Token())
		}
		tokens[string(token)] = true
	}
	var waiting sync.WaitGroup
	for n, b := range all {
		if b.p == nil || n == 1 { // nobody waits for the second
			continue
		}
		for range 3 {
			waiting.Go(func() {
				if err := b.p.Wait(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	waiting.Wait()
	for n, b := range all {
		check(t, s, n, b.size, b.ref)
		if err := s.Delete(OwnerOf(n), b.ref); err != nil {
			t.Error(err)
		}
		if b.p != nil {
			if err := b.p.Wait(); err != nil {
				t.Errorf("after the delete: %v", err)
			}
		}
	}
}

// beginRefuses checks that what fails before the sync is told by Begin.
func beginRefuses(t *testing.T, s blob.Store) {
	fault := errors.New("the client went away")
	if _, p, err := s.Begin(bg, OwnerOf(1), broken{5000, 2500, fault}); !errors.Is(err, fault) || p != nil {
		t.Errorf("a source that fails gives %v, %v", p, err)
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, p, err := s.Begin(ctx, OwnerOf(1), Bytes("x")); !errors.Is(err, context.Canceled) || p != nil {
		t.Errorf("a context that ended gives %v, %v", p, err)
	}
	ref, p, err := s.Begin(bg, OwnerOf(1), Bytes("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if p != nil && p.Wait() != nil {
		t.Errorf("the body at %+v was begun before Close, and Close did not sync it", ref)
	}
	if _, p, err := s.Begin(bg, OwnerOf(2), Bytes("x")); err == nil || p != nil {
		t.Errorf("after Close Begin gives %v, %v", p, err)
	}
}
