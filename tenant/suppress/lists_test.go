package suppress_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/tenant/suppress"
)

func (l list) may(t mail.TenantID, stream, address string) bool {
	l.Helper()
	a, err := mail.ParseAddress(address)
	if err != nil {
		l.Fatal(err)
	}
	return l.lists.May(t, stream, a)
}

func (l list) read() {
	l.Helper()
	if err := l.lists.Run(context.Background()); err != nil {
		l.Fatal(err)
	}
}

// TestMay: who is on a list may be, however it is written, be it added before the
// lists were read, while they are, or after; others are not, but for few.
func TestMay(t *testing.T) {
	l := newList(t)
	const n = 2500 // more than are read at once
	name := func(i int) string { return fmt.Sprintf("r%d@there.example", i) }
	for i := range n {
		l.add(mail.TenantID(i%3+1), "broadcast", name(i), suppress.Manual)
	}
	l.lists = suppress.New(l.store) // a restart
	if !l.may(7, "broadcast", "bob@there.example") {
		t.Error("nobody can be ruled out before the lists were read")
	}
	l.add(7, "broadcast", "Early@There.example", suppress.Manual)
	l.read()
	l.add(7, "news", "Late@There.example", suppress.Manual)
	for i := range n {
		if !l.may(mail.TenantID(i%3+1), "broadcast", name(i)) {
			t.Fatalf("%s is on the list", name(i))
		}
	}
	if !l.may(7, "broadcast", "early@there.example") || !l.may(7, "news", "late@there.EXAMPLE") {
		t.Error("somebody who was added later is not seen")
	}
	wrong := 0
	for i := range n {
		if l.may(mail.TenantID(i%3+1), "transactional", name(i)) {
			wrong++
		}
	}
	if wrong > 5 {
		t.Errorf("of %d others %d are looked up", n, wrong)
	}
}

// TestMayBeforeCommit: an entry is seen no later than it is in the store.
func TestMayBeforeCommit(t *testing.T) {
	l := newList(t)
	l.read()
	stop := errors.New("stop")
	err := l.store.Update(context.Background(), func(w kv.Writer) error {
		if err := l.lists.Add(w, 7, suppress.Entry{Stream: "news", Address: "eve@there.example", Reason: suppress.Manual}); err != nil {
			return err
		}
		if !l.may(7, "news", "eve@there.example") {
			t.Error("it would be committed unseen")
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
}
