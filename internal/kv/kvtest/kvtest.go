// Package kvtest says what every engine of kv must do.
package kvtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"behalf/internal/kv"
)

// Run tests an engine. open gives an empty store that the test need not close.
func Run(t *testing.T, open func(t *testing.T) kv.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, kv.Store)
	}{
		{"an empty store", empty},
		{"put, get, delete", putGetDelete},
		{"slices belong to the caller", slices},
		{"scans", scans},
		{"a scan ends with its context", scanContext},
		{"a scan of many rows", longScan},
		{"a view is one state", snapshot},
		{"a function reads what it wrote", readYourWrites},
		{"functions see each other in order", order},
		{"an error takes back its own writes only", failing},
		{"a panic takes back its own writes only", panicking},
		{"a writer is dead after its function", stale},
		{"keys and values have limits", limits},
		{"too big alone", tooBig},
		{"many large functions at once", largeBatches},
		{"a function of many rows", manyRows},
		{"a cancelled waiter is not run", cancelled},
		{"a started function has an outcome", startedOutcome},
		{"Go calls done in order", goOrder},
		{"Go joins the next commit alone", goAlone},
		{"Go and Update keep their order", goThenUpdate},
		{"lives end", lives},
		{"new rows come and go", newRows},
		{"a commit waits for what it needs", needs},
		{"what is needed and fails", needFails},
		{"one counter, many writers", counter},
		{"writers and readers together", mixed},
		{"Close commits what was queued", closing},
		{"Close while many write", closeUnderLoad},
		{"after Close", closed},
		{"backup", backup},
		{"it has not failed", notFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { _ = s.Close() })
			test.run(t, s)
		})
	}
}

var bg = context.Background()

func put(t *testing.T, s kv.Store, pairs ...string) {
	t.Helper()
	err := s.Update(bg, func(w kv.Writer) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := w.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// get gives "-" for a key that is not there.
func get(t *testing.T, s kv.Store, key string) (value string) {
	t.Helper()
	err := s.View(bg, func(r kv.Reader) error {
		v, err := r.Get([]byte(key))
		value = string(v)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func want(t *testing.T, s kv.Store, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := get(t, s, pairs[i]); got != pairs[i+1] {
			t.Errorf("%q holds %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
}

// soon fails when f takes longer than any engine should.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: still waiting", what)
	}
}

func keyOf(i int) string { return fmt.Sprintf("key/%06d", i) }

func notFailed(t *testing.T, s kv.Store) {
	put(t, s, "a", "1")
	select {
	case <-s.Failed():
		t.Fatal("it says that it failed")
	default:
	}
}
