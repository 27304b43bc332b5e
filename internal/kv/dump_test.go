package kv_test

import (
	"bytes"
	"errors"
	"testing"

	"behalf/internal/kv"
)

func dump(t testing.TB, rows ...kv.Row) []byte {
	t.Helper()
	var buf bytes.Buffer
	d, err := kv.NewDumpWriter(&buf)
	for _, r := range rows {
		err = errors.Join(err, d.Put(r))
	}
	if err := errors.Join(err, d.Finish()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var dumped = []kv.Row{
	{Key: []byte("a"), Value: []byte("1")},
	{Key: []byte("empty")},
	{Key: bytes.Repeat([]byte("k"), kv.MaxKey), Value: make([]byte, kv.MaxValue), Expires: 1 << 33},
}

func TestDump(t *testing.T) {
	n := 0
	err := kv.ReadDump(bytes.NewReader(dump(t, dumped...)), func(r kv.Row) error {
		want := dumped[n]
		if !bytes.Equal(r.Key, want.Key) || !bytes.Equal(r.Value, want.Value) || r.Expires != want.Expires {
			t.Errorf("row %d comes back different", n)
		}
		n++
		return nil
	})
	if err != nil || n != len(dumped) {
		t.Errorf("%d of %d rows come back: %v", n, len(dumped), err)
	}
	fault := errors.New("no room")
	if err := kv.ReadDump(bytes.NewReader(dump(t, dumped...)), func(kv.Row) error { return fault }); !errors.Is(err, fault) {
		t.Errorf("the reader's own error becomes %v", err)
	}
}

func TestDumpDamage(t *testing.T) {
	good := dump(t, dumped[:2]...)
	for at := range good {
		for name, bad := range map[string][]byte{
			"cut off": good[:at],
			"changed": append(append(bytes.Clone(good[:at]), good[at]^0x10), good[at+1:]...),
		} {
			err := kv.ReadDump(bytes.NewReader(bad), func(kv.Row) error { return nil })
			if !errors.Is(err, kv.ErrDump) {
				t.Errorf("%s at %d of %d: %v", name, at, len(good), err)
			}
		}
	}
}

func FuzzReadDump(f *testing.F) {
	f.Add(dump(f))
	f.Add(dump(f, dumped[:2]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var rows []kv.Row
		err := kv.ReadDump(bytes.NewReader(b), func(r kv.Row) error { rows = append(rows, r); return nil })
		if err != nil {
			return
		}
		n := 0
		if err := kv.ReadDump(bytes.NewReader(dump(t, rows...)), func(kv.Row) error { n++; return nil }); err != nil || n != len(rows) {
			t.Errorf("%d of %d rows survive: %v", n, len(rows), err)
		}
	})
}
