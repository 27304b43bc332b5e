package blobtest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"behalf/internal/blob"
)

// Owners is a model of those who own bodies.
type Owners struct {
	mu   sync.Mutex
	refs map[blob.Owner]blob.Ref
	// Moves counts the bodies that were moved.
	Moves int
}

// Set says where the body of an owner is.
func (o *Owners) Set(owner blob.Owner, ref blob.Ref) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refs == nil {
		o.refs = map[blob.Owner]blob.Ref{}
	}
	o.refs[owner] = ref
}

// Drop forgets an owner and gives where its body was.
func (o *Owners) Drop(owner blob.Owner) blob.Ref {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer delete(o.refs, owner)
	return o.refs[owner]
}

// Ref gives where the body of an owner is.
func (o *Owners) Ref(owner blob.Owner) (blob.Ref, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ref, there := o.refs[owner]
	return ref, there
}

// Alive is for Reclaim.
func (o *Owners) Alive(owner blob.Owner, ref blob.Ref) (bool, error) {
	now, there := o.Ref(owner)
	return there && now == ref, nil
}

// Move is for Reclaim.
func (o *Owners) Move(owner blob.Owner, from, to blob.Ref) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refs[owner] != from {
		return false, nil
	}
	o.refs[owner] = to
	o.Moves++
	return true, nil
}

func reclaims(t *testing.T, s blob.Store, safe time.Duration) {
	t.Parallel()
	var owners Owners
	const n, size = 600, 3000
	for i := range n {
		owners.Set(OwnerOf(i), put(t, s, i, size))
	}
	large := 2 << 20
	owners.Set(OwnerOf(n), put(t, s, n, large))
	var side sync.WaitGroup
	side.Go(func() { // while others come and go
		for i := range 200 {
			other := 10_000 + i
			ref, err := s.Put(bg, OwnerOf(other), Bytes(BodyOf(other, size)))
			if err != nil {
				t.Error(err)
				return
			}
			owners.Set(OwnerOf(other), ref)
		}
	})
	for i := range n {
		if i%10 == 0 {
			continue
		}
		if err := s.Delete(OwnerOf(i), owners.Drop(OwnerOf(i))); err != nil {
			t.Error(err)
		}
		if i%100 == 1 {
			if err := s.Reclaim(bg, owners.Alive, owners.Move); err != nil {
				t.Error(err)
			}
		}
	}
	side.Wait()
	for range 10 {
		time.Sleep(safe / 8)
		if err := s.Reclaim(bg, owners.Alive, owners.Move); err != nil {
			t.Error(err)
		}
	}
	for i := 0; i < n; i += 10 {
		ref, _ := owners.Ref(OwnerOf(i))
		check(t, s, i, size, ref)
	}
	for i := 10_000; i < 10_200; i++ {
		ref, _ := owners.Ref(OwnerOf(i))
		check(t, s, i, size, ref)
	}
	ref, _ := owners.Ref(OwnerOf(n))
	check(t, s, n, large, ref)
}

func reclaimError(t *testing.T, s blob.Store, safe time.Duration) {
	t.Parallel()
	fault := errors.New("the store is down")
	var owners Owners
	for i := range 100 {
		owners.Set(OwnerOf(i), put(t, s, i, 3000))
	}
	alive := func(blob.Owner, blob.Ref) (bool, error) { return false, fault }
	time.Sleep(safe * 5 / 4)
	for range 5 {
		if err := s.Reclaim(bg, alive, owners.Move); err != nil && !errors.Is(err, fault) {
			t.Errorf("reclaim gives %v", err)
		}
	}
	for i := range 100 {
		ref, _ := owners.Ref(OwnerOf(i))
		check(t, s, i, 3000, ref)
	}
}
