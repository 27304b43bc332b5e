package habit

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/mail"
)

func open(t testing.TB) kv.Store {
	store := mem.New(mem.Options{})
	t.Cleanup(func() { store.Close() })
	return store
}

// like is a text of a fingerprint.
func like(l uint64) Text { return Text{Like: Likeness{Head: l, Rest: l}, Whole: true} }

// ask asks about a message and lets it pass, or holds it from Over on.
func ask(t testing.TB, h *Habits, q Question) (Answer, bool) {
	t.Helper()
	tk, a, err := h.Ask(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if a.Score >= Over && q.New > 0 {
		tk.Opens()
		tk.Done(mail.ID{}, 0, q.New)
		return a, false
	}
	tk.Done(mail.ID{}, q.New, 0)
	return a, true
}

func flush(t testing.TB, h *Habits) {
	t.Helper()
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What is usual, what is blamed and what is open is the same after a restart.
func TestRestart(t *testing.T) {
	store := open(t)
	h := New(store, Options{})
	text := TextOf("Your mailbox", true, []byte(phish))
	q := Question{Tenant: 7, Credential: "acme/app", Now: start.Add(time.Hour), New: 1, Text: TextOf("Invoice", true, []byte(invoice))}
	for range 150 {
		if _, ok := ask(t, h, q); !ok {
			t.Fatal("held")
		}
	}
	out := 0
	attack := q
	attack.Text = text
	for range 400 {
		if _, ok := ask(t, h, attack); ok {
			out++
		}
	}
	before, err := h.Episodes(t.Context(), 7)
	if err != nil || len(before) != 1 || before[0].Messages != int64(400-out) || out > 150 {
		t.Fatalf("%d out, %+v, %v", out, before, err)
	}
	flush(t, h)

	h = New(store, Options{})
	after, err := h.Episodes(t.Context(), 7)
	if err != nil || len(after) != 1 || after[0].Messages != before[0].Messages || after[0].Reasons[0] != before[0].Reasons[0] || !after[0].Since.Equal(before[0].Since) {
		t.Fatalf("%+v, %v", after, err)
	}
	a, ok := ask(t, h, attack)
	if ok || a.Held != before[0].Messages || a.NewRecipients != int64(150+out+1) {
		t.Errorf("after the restart: %+v, passed: %v", a, ok)
	}
	if eps, err := h.Episodes(t.Context(), 8); err != nil || len(eps) != 0 {
		t.Errorf("another tenant: %+v, %v", eps, err)
	}
	// The next day, the honest text has taught and the held one has not.
	q.Now, attack.Now = q.Now.Add(24*time.Hour), q.Now.Add(24*time.Hour)
	if _, ok := ask(t, h, q); !ok {
		t.Error("the usual text is held the next day")
	}
	if _, ok := ask(t, h, attack); ok {
		t.Error("the held text passes the next day")
	}
}

// What is not taken leaves no trace but in the number of messages.
func TestDrop(t *testing.T) {
	h := New(open(t), Options{})
	q := Question{Tenant: 7, Credential: "acme/app", Now: start, New: 200, Text: like(1)}
	for i := range 100 {
		tk, a, err := h.Ask(t.Context(), q)
		if err != nil || a.NewRecipients != 200 {
			t.Fatalf("%d: %+v, %v", i, a, err)
		}
		if i%2 == 0 && !tk.Opens() {
			t.Fatal("an episode that was dropped is still open")
		}
		tk.Drop()
		tk.Drop() // again does nothing
		tk.Done(mail.ID{}, 200, 0)
	}
	if eps, err := h.Episodes(t.Context(), 7); err != nil || len(eps) != 0 {
		t.Errorf("%+v, %v", eps, err)
	}
}

// A hundred at once get through what one after the other would, and a few.
func TestManyAtOnce(t *testing.T) {
	h := New(open(t), Options{})
	text := TextOf("Your mailbox", true, []byte(phish))
	var mu sync.Mutex
	var wg sync.WaitGroup
	out, opened := 0, 0
	for range 100 {
		wg.Go(func() {
			for range 20 {
				tk, a, err := h.Ask(t.Context(), Question{Tenant: 7, Credential: "acme/app", Now: start, New: 1, Text: text})
				if err != nil {
					t.Error(err)
					return
				}
				held := a.Score >= Over
				opens := held && tk.Opens()
				mu.Lock()
				if opens {
					opened++
				}
				if !held {
					out++
				}
				mu.Unlock()
				if held {
					tk.Done(mail.ID{}, 0, 1)
				} else {
					tk.Done(mail.ID{}, 1, 0)
				}
			}
		})
	}
	wg.Wait()
	if out > 300 || out < 100 || opened != 1 {
		t.Errorf("%d out, told %d times", out, opened)
	}
}

// One credential's attack is nothing to the tenant's others, and Close with a
// name ends that one alone.
func TestCredentialsApart(t *testing.T) {
	h := New(open(t), Options{})
	q := Question{Tenant: 7, Now: start, New: 1000, Text: like(1)}
	for _, q.Credential = range []string{"acme/a", "acme/b"} {
		ask(t, h, q)
	}
	q.New = 1
	q.Credential = "acme/c"
	if a, ok := ask(t, h, q); !ok || a.Score > 0 || a.Held > 0 {
		t.Errorf("another credential: %+v", a)
	}
	if err := h.Close(t.Context(), 7, "acme/a", true); err != nil {
		t.Fatal(err)
	}
	eps, err := h.Episodes(t.Context(), 7)
	if err != nil || len(eps) != 1 || eps[0].Credential != "acme/b" {
		t.Errorf("%+v, %v", eps, err)
	}
	if err := h.Close(t.Context(), 8, "", true); err != nil { // of another tenant: nothing
		t.Fatal(err)
	}
	if eps, err = h.Episodes(t.Context(), 7); err != nil || len(eps) != 1 {
		t.Errorf("%+v, %v", eps, err)
	}
}

// The number of profiles in memory is bounded, and nothing is lost by it.
func TestMemoryIsBounded(t *testing.T) {
	h := New(open(t), Options{MaxProfiles: 50})
	for i := range 500 {
		ask(t, h, Question{Tenant: mail.TenantID(i), Credential: "x/app", Now: start, New: 100, Text: like(1)})
		if i%20 == 19 {
			flush(t, h)
		}
	}
	if n := len(h.profiles); n > 100 { // two for each tenant, and not before a flush
		t.Errorf("%d profiles in memory", n)
	}
	for i := range 500 {
		if a, _ := ask(t, h, Question{Tenant: mail.TenantID(i), Credential: "x/app", Now: start}); a.NewRecipients != 100 {
			t.Fatalf("tenant %d: %+v", i, a)
		}
		if i%20 == 19 {
			flush(t, h)
		}
	}
}

// BenchmarkAsk is the question and its end: to recipients that are known, and to
// a new one.
func BenchmarkAsk(b *testing.B) {
	for name, n := range map[string]int64{"known": 0, "new": 1} {
		b.Run(name, func(b *testing.B) {
			h := New(open(b), Options{Floor: 1 << 40})
			b.ReportAllocs()
			for b.Loop() {
				tk, _, err := h.Ask(b.Context(), Question{Tenant: 7, Credential: "acme/app", Now: start, New: n, Text: like(1)})
				if err != nil {
					b.Fatal(err)
				}
				tk.Done(mail.ID{}, n, 0)
			}
		})
	}
}

// Writing costs what changed and not what is in memory.
func BenchmarkFlush(b *testing.B) {
	for _, profiles := range []int{10, 1_000, 20_000} {
		b.Run(strconv.Itoa(profiles), func(b *testing.B) {
			h := New(open(b), Options{})
			ask := func(t int) {
				tk, _, err := h.Ask(b.Context(), Question{Tenant: mail.TenantID(t), Credential: "app", Now: start})
				if err != nil {
					b.Fatal(err)
				}
				tk.Done(mail.ID{}, 0, 0)
			}
			for t := range profiles / 2 { // one of the credential, one of the tenant
				ask(t)
			}
			flush(b, h)
			b.ReportAllocs()
			for b.Loop() {
				ask(1)
				flush(b, h)
			}
		})
	}
}

// broken fails writes while it is told to.
type broken struct {
	kv.Store
	err   error
	wrote int
}

func (b *broken) Update(ctx context.Context, fn func(kv.Writer) error) error {
	if b.err != nil {
		return b.err
	}
	b.wrote++
	return b.Store.Update(ctx, fn)
}

// Nothing is written twice, and what could not be written is written by the next
// flush, be it more than one transaction holds.
func TestFlushWritesWhatChanged(t *testing.T) {
	st := &broken{Store: open(t)}
	h := New(st, Options{})
	ask := func(who int) {
		tk, _, err := h.Ask(t.Context(), Question{Tenant: mail.TenantID(who), Credential: "app", Now: start})
		if err != nil {
			t.Fatal(err)
		}
		tk.Done(mail.ID{}, 0, 0)
	}
	for who := range page { // with those of the tenants, two pages
		ask(who)
	}
	st.err = errors.New("the disk is full")
	for range 2 {
		if err := h.Flush(t.Context()); !errors.Is(err, st.err) {
			t.Fatalf("a flush to a full disk: %v", err)
		}
	}
	st.err = nil
	ask(1) // changed once more meanwhile
	flush(t, h)
	if st.wrote != 2 {
		t.Errorf("%d transactions, want 2", st.wrote)
	}
	flush(t, h)
	if st.wrote != 2 {
		t.Error("what had not changed was written again")
	}
	again := New(st, Options{})
	for who := range page {
		e, err := again.open(t.Context(), owner{mail.TenantID(who), "app"}, start)
		if err != nil {
			t.Fatal(err)
		}
		want := uint32(1)
		if who == 1 {
			want = 2
		}
		if n := e.p.at(hourOf(start)).Messages; n != want {
			t.Errorf("tenant %d has %d messages in the store, want %d", who, n, want)
		}
		e.mu.Unlock()
	}
}
