package mem_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/mem"
)

var bg = context.Background()

func write(key string) func(kv.Writer) error {
	return func(w kv.Writer) error { return w.Put([]byte(key), []byte(key)) }
}

func has(t *testing.T, s *mem.Store, key string) bool {
	t.Helper()
	err := s.View(bg, func(r kv.Reader) error {
		_, err := r.Get([]byte(key))
		return err
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestCut(t *testing.T) {
	for _, lucky := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := mem.New(mem.Options{Sync: 10 * time.Millisecond})
			if err := s.Update(bg, write("synced")); err != nil {
				t.Fatal(err)
			}
			errs := make(chan error, 2)
			go func() { errs <- s.Update(bg, write("under way")) }()
			time.Sleep(5 * time.Millisecond)
			go func() { errs <- s.Update(bg, write("next batch")) }()
			time.Sleep(time.Millisecond)
			if has(t, s, "under way") {
				t.Error("a view sees what is not synced")
			}
			found := s.Cut(lucky)
			for range 2 {
				if err := <-errs; !errors.Is(err, kv.ErrFailed) {
					t.Errorf("after the cut a writer got %v", err)
				}
			}
			<-s.Failed()
			if !has(t, found, "synced") || has(t, found, "under way") != lucky || has(t, found, "next batch") {
				t.Errorf("lucky %v: found %v %v %v", lucky, has(t, found, "synced"), has(t, found, "under way"), has(t, found, "next batch"))
			}
			if err := found.Update(bg, write("life goes on")); err != nil || !has(t, found, "life goes on") {
				t.Error(err)
			}
			if err := errors.Join(s.Close(), found.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	s := mem.New(mem.Options{})
	defer s.Close()
	if err := s.Update(bg, write("a")); err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	if err := s.Backup(bg, &dump); err != nil {
		t.Fatal(err)
	}
	loaded, err := mem.Load(bytes.NewReader(dump.Bytes()))
	if err != nil || !has(t, loaded, "a") {
		t.Fatalf("what was backed up is not there: %v", err)
	}
	if err := errors.Join(loaded.Update(bg, write("b")), loaded.Close()); err != nil {
		t.Error(err)
	}
	if _, err := mem.Load(bytes.NewReader(dump.Bytes()[:dump.Len()-1])); !errors.Is(err, kv.ErrDump) {
		t.Errorf("a backup that is cut off gives %v", err)
	}
}
