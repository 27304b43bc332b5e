package spool

import (
	"bytes"
	"io"
	"os"
	"testing"
)

func TestDraft(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, memStore(t), newBodies(), Options{MemoryDraft: 100 << 10, MemoryAll: 300 << 10, TempDir: dir})
	for _, c := range []struct {
		size   int
		memory bool
	}{{0, true}, {1, true}, {5 << 10, true}, {5<<10 + 1, true}, {8 << 10, true}, {8<<10 + 1, true}, {100 << 10, true}, {100<<10 + 1, false}, {1 << 20, false}} {
		want := bytes.Repeat([]byte("0123456789abcdef"), c.size/16+1)[:c.size]
		d := s.Draft()
		for rest := want; len(rest) > 0; {
			n, err := d.Write(rest[:min(len(rest), 777)])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if d.Size() != int64(c.size) {
			t.Errorf("%d: size %d", c.size, d.Size())
		}
		got, memory := d.Bytes()
		if memory != c.memory || memory && !bytes.Equal(got, want) {
			t.Errorf("%d: in memory %v, want %v", c.size, memory, c.memory)
		}
		for range 2 {
			var buf bytes.Buffer
			if n, err := d.WriteTo(&buf); n != int64(c.size) || err != nil || !bytes.Equal(buf.Bytes(), want) {
				t.Errorf("%d: WriteTo %d, %v", c.size, n, err)
			}
		}
		all, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()+10))
		if err != nil || !bytes.Equal(all, want) {
			t.Errorf("%d: ReadAt %d, %v", c.size, len(all), err)
		}
		if names, _ := os.ReadDir(dir); len(names) != 0 {
			t.Errorf("%d: the file has a name", c.size)
		}
		d.Discard()
		d.Discard()
		if _, err := d.Write([]byte("x")); err == nil {
			t.Error("a discarded draft takes more")
		}
		if used := s.buffers.used.Load(); used != 0 {
			t.Errorf("%d: %d octets are in use", c.size, used)
		}
	}
}

// Beyond the common budget drafts go to files, and memory is used again later.
func TestDraftsShareABudget(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{MemoryDraft: 32 << 10, MemoryAll: 64 << 10, TempDir: t.TempDir()})
	full := bytes.Repeat([]byte("x"), 32<<10)
	var ds []*Draft
	inMemory := 0
	for range 5 {
		d := s.Draft()
		d.Write(full)
		if _, ok := d.Bytes(); ok {
			inMemory++
		}
		ds = append(ds, d)
	}
	if inMemory != 2 {
		t.Errorf("%d drafts are in memory, want 2", inMemory)
	}
	for _, d := range ds {
		d.Discard()
	}
	d := s.Draft()
	d.Write(full)
	if _, ok := d.Bytes(); !ok {
		t.Error("the memory was not given back")
	}
	d.Discard()
}

// A body that was put is young, and the draft is empty.
func TestDraftIsHandedOver(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{MemoryDraft: 16 << 10, TempDir: t.TempDir()})
	for _, size := range []int{10, 100 << 10} {
		body := string(bytes.Repeat([]byte("x"), size))
		m, rs := message(s, 1, "a@x.example")
		d := draft(t, s, body)
		st, err := s.Put(t.Context(), d, m, rs, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Discard()
		if young := size < 16<<10; (st.Young != nil) != young {
			t.Errorf("%d octets: young %v", size, st.Young != nil)
		}
		if got := readBody(t, s, st); got != body {
			t.Errorf("%d octets: read %d", size, len(got))
		}
		st.Release()
		if s.buffers.used.Load() != 0 {
			t.Errorf("%d octets: the memory was not given back", size)
		}
	}
}

// A body that is as large as was said has its room at once; a word that is
// wrong, or of more than is believed, costs nothing but that.
func TestDraftExpects(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{MemoryDraft: 300 << 10, TempDir: t.TempDir()})
	for _, c := range []struct{ said, size, first, last int64 }{
		{0, 4 << 10, 5 << 10, 5 << 10},
		{0, 66_000, 5 << 10, 80 << 10},
		{66_000, 66_000, 80 << 10, 80 << 10},
		{66_000, 100, 80 << 10, 80 << 10},
		{4 << 10, 66_000, 5 << 10, 80 << 10},
		{expectMost + 1, 66_000, 5 << 10, 80 << 10},
		{1 << 40, 100, 5 << 10, 5 << 10},
	} {
		d := s.Draft()
		d.Expect(c.said)
		d.Write([]byte("x"))
		if used := s.buffers.used.Load(); used != c.first {
			t.Errorf("%d said, %d sent: the first octet takes %d, want %d", c.said, c.size, used, c.first)
		}
		for d.Size() < c.size {
			d.Write(bytes.Repeat([]byte("x"), int(min(1000, c.size-d.Size()))))
		}
		if used := s.buffers.used.Load(); used != c.last {
			t.Errorf("%d said, %d sent: the whole takes %d, want %d", c.said, c.size, used, c.last)
		}
		d.Discard()
	}
}

// A size that is only said keeps no room from others.
func TestDraftExpectsItsShare(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{MemoryAll: 400 << 10, TempDir: t.TempDir()})
	for i, want := range []int64{160, 320, 325, 330} { // KiB
		d := s.Draft()
		defer d.Discard()
		d.Expect(expectMost)
		d.Write([]byte("x"))
		if used := s.buffers.used.Load(); used != want<<10 {
			t.Errorf("%d drafts take %d, want %d KiB", i+1, used, want)
		}
	}
}
