package suppress_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/mail"
	"behalf/tenant/suppress"
)

type list struct {
	*testing.T
	store *mem.Store
	lists *suppress.Lists
}

func newList(t *testing.T) list {
	store := mem.New(mem.Options{})
	l := list{t, store, suppress.New(store)}
	t.Cleanup(func() { l.store.Close() })
	return l
}

func (l list) update(fn func(w kv.Writer) error) {
	l.Helper()
	if err := l.store.Update(context.Background(), fn); err != nil {
		l.Fatal(err)
	}
}

func (l list) add(t mail.TenantID, stream, address string, r suppress.Reason) {
	l.Helper()
	l.update(func(w kv.Writer) error {
		return l.lists.Add(w, t, suppress.Entry{Stream: stream, Address: address, Reason: r, Added: time.UnixMilli(1700000000000).UTC()})
	})
}

func (l list) find(t mail.TenantID, stream, address string) (e *suppress.Entry) {
	l.Helper()
	a, err := mail.ParseAddress(address)
	if err != nil {
		l.Fatal(err)
	}
	err = l.store.View(context.Background(), func(r kv.Reader) (err error) { e, err = suppress.Find(r, t, stream, a); return err })
	if err != nil {
		l.Fatal(err)
	}
	return e
}

// TestScope: an entry holds for one tenant and one stream, however the address
// is written.
func TestScope(t *testing.T) {
	l := newList(t)
	l.add(7, "broadcast", "Eve@There.Example", suppress.Unsubscribed)
	for _, c := range []struct {
		tenant          mail.TenantID
		stream, address string
		found           bool
	}{
		{7, "broadcast", "eve@there.example", true},
		{7, "broadcast", "EVE@THERE.EXAMPLE", true},
		{7, "broadcast", "eve+x@there.example", false},
		{7, "broadcas", "eve@there.example", false},
		{7, "transactional", "eve@there.example", false},
		{8, "broadcast", "eve@there.example", false},
		{0, "broadcast", "eve@there.example", false},
	} {
		e := l.find(c.tenant, c.stream, c.address)
		if (e != nil) != c.found {
			t.Errorf("%d, %s, %s: %+v", c.tenant, c.stream, c.address, e)
		}
		if e != nil && (e.Reason != suppress.Unsubscribed || e.Address != "eve@there.example" || e.Stream != "broadcast" || e.Added.IsZero()) {
			t.Errorf("%+v", e)
		}
	}
}

// TestFirstReasonStays: who unsubscribed is not made a manual entry, which
// somebody might think could be taken off again.
func TestFirstReasonStays(t *testing.T) {
	l := newList(t)
	l.add(7, "broadcast", "eve@there.example", suppress.Unsubscribed)
	l.add(7, "broadcast", "eve@there.example", suppress.Manual)
	if e := l.find(7, "broadcast", "eve@there.example"); e.Reason != suppress.Unsubscribed {
		t.Errorf("%+v", e)
	}
}

func TestRemove(t *testing.T) {
	l := newList(t)
	l.add(7, "broadcast", "eve@there.example", suppress.Manual)
	a, _ := mail.ParseAddress("EVE@there.example")
	for range 2 { // once more is no error
		l.update(func(w kv.Writer) error { return suppress.Remove(w, 7, "broadcast", a) })
	}
	if e := l.find(7, "broadcast", "eve@there.example"); e != nil {
		t.Errorf("%+v", e)
	}
}

func TestAddRefuses(t *testing.T) {
	l := newList(t)
	for _, e := range []suppress.Entry{{Stream: "broadcast", Address: "nobody"}, {Stream: "", Address: "a@b.example"}, {Stream: "a\x00b", Address: "a@b.example"}} {
		err := l.store.Update(context.Background(), func(w kv.Writer) error { return l.lists.Add(w, 7, e) })
		if err == nil {
			t.Errorf("%+v was added", e)
		}
	}
}

// TestList pages through one tenant's entries, each once, in order.
func TestList(t *testing.T) {
	l := newList(t)
	want := []string{"broadcast a@b.example", "broadcast c@b.example", "news a@b.example", "transactional z@b.example"}
	for i := len(want) - 1; i >= 0; i-- {
		stream, address, _ := strings.Cut(want[i], " ")
		l.add(7, stream, address, suppress.Manual)
		l.add(6, stream, address, suppress.Manual)
		l.add(8, stream, address, suppress.Manual)
	}
	for limit := 1; limit <= 5; limit++ {
		var got []string
		for cursor := ""; ; {
			es, next, err := suppress.List(context.Background(), l.store, 7, cursor, limit)
			if err != nil || len(es) > limit {
				t.Fatal(err, len(es))
			}
			for _, e := range es {
				got = append(got, e.Stream+" "+e.Address)
			}
			if next == "" {
				break
			}
			cursor = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %q", limit, got)
		}
	}
}
