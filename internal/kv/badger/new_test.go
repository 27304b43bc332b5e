package badger

import (
	"errors"
	"testing"

	"behalf/internal/kv"
)

// A row that is in Badger stays deleted, although its key was put as new again
// before the table that says so was flushed.
func TestPutNewOverBadger(t *testing.T) {
	key := []byte("k")
	put := func(w kv.Writer) error { return w.PutNew(key, []byte("v")) }
	del := func(w kv.Writer) error { return w.Delete(key) }
	both := func(w kv.Writer) error { return errors.Join(del(w), put(w)) }
	for name, changes := range map[string][]func(kv.Writer) error{
		"in one function":      {both, del},
		"in several":           {del, put, del},
		"once more":            {both, both, del},
		"as the last function": {func(w kv.Writer) error { return errors.Join(both(w), del(w)) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, fns := range [][]func(kv.Writer) error{{put}, changes} { // a stop flushes
				s := openSmall(t, dir, small)
				for _, fn := range fns {
					if err := s.Update(bg, fn); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			s := openSmall(t, dir, small)
			err := s.View(bg, func(r kv.Reader) error {
				_, err := r.Get(key)
				return err
			})
			if !errors.Is(err, kv.ErrNotFound) {
				t.Errorf("the row is back: %v", err)
			}
		})
	}
}
