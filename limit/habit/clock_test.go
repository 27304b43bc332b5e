package habit

import (
	"testing"
	"time"
)

// passes asks for one new recipient at each time and gives how many pass.
func passes(t *testing.T, h *Habits, n int, at func(i int) time.Time) (out int) {
	text := TextOf("Your mailbox", true, []byte(phish))
	for i := range n {
		if _, ok := ask(t, h, Question{Tenant: 7, Credential: "acme/app", Now: at(i), New: 1, Text: text}); ok {
			out++
		}
	}
	return out
}

// TestOldTransactions: who opens sessions over hours and ends them at once does
// not have the floor once for each.
func TestOldTransactions(t *testing.T) {
	for name, at := range map[string]func(i int) time.Time{
		"the oldest first": func(i int) time.Time { return start.Add(time.Duration(i/300) * time.Hour) },
		"the newest first": func(i int) time.Time { return start.Add(time.Duration(23-i/300) * time.Hour) },
		"a day older":      func(i int) time.Time { return start.Add(-25 * time.Duration(i%2) * time.Hour) },
		"a day's work":     func(i int) time.Time { return start.Add(-time.Duration(i%26) * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			if out := passes(t, New(open(t), Options{}), 24*300, at); out > 300 {
				t.Errorf("%d passed", out)
			}
		})
	}
}

// TestClockSteps: a clock that steps back does not open the floor anew, also
// after a restart, and one that was far ahead is forgotten after a day.
func TestClockSteps(t *testing.T) {
	store := open(t)
	for _, back := range []time.Duration{time.Hour, 5 * time.Hour, 24 * time.Hour, 26 * time.Hour, 30 * 24 * time.Hour} {
		h := New(store, Options{})
		begin := start.AddDate(1, 0, 0)
		passes(t, h, 400, func(int) time.Time { return begin })
		flush(t, h)
		h = New(store, Options{})
		if out := passes(t, h, 400, func(int) time.Time { return begin.Add(-back) }); out > 0 {
			t.Errorf("%d more passed after a step of %v", out, back)
		}
		flush(t, h)
	}
	h := New(open(t), Options{})
	q := Question{Tenant: 7, Credential: "acme/app", Now: start.AddDate(3, 0, 0), New: 100, Text: like(1)}
	ask(t, h, q)
	q.Now = start
	ask(t, h, q)
	for day := range 4 {
		q.Now, q.Text = start.Add(time.Duration(2+day)*25*time.Hour), like(mix(uint64(day)+7))
		if a, ok := ask(t, h, q); !ok || a.NewRecipients != 100 {
			t.Errorf("day %d: %+v", day, a)
		}
	}
	if p := h.profiles[owner{7, "acme/app"}].p; p.Today != dayOf(hourOf(q.Now)) || p.Usual.Day[single] < 100 {
		t.Errorf("it does not learn: today %d, usual %v", p.Today, p.Usual.Day)
	}
}

// TestBlameFades: blame ends two weeks after it began, or was confirmed, be there
// more of the text or not; a release ends it at once.
func TestBlameFades(t *testing.T) {
	h := New(open(t), Options{})
	text := TextOf("News", true, []byte(answer(3)))
	q := Question{Tenant: 7, Credential: "acme/app", Now: start, New: 300, Text: text}
	for range 20 {
		ask(t, h, q)
	}
	if err := h.Close(t.Context(), 7, "", false); err != nil {
		t.Fatal(err)
	}
	q.New = 1
	day := 1
	for ; day < 30; day++ {
		q.Now = start.AddDate(0, 0, day)
		if _, ok := ask(t, h, q); ok {
			break
		}
	}
	if day != blamedFor {
		t.Errorf("blamed for %d days", day)
	}

	h = New(open(t), Options{})
	q.Now, q.New = start, 300
	for range 20 {
		ask(t, h, q)
	}
	for _, usual := range []bool{false, true} {
		if err := h.Close(t.Context(), 7, "", usual); err != nil {
			t.Fatal(err)
		}
		q.New = 1
		if a, ok := ask(t, h, q); ok != usual {
			t.Errorf("released: %v: %+v", usual, a)
		}
	}
}

// TestHeldOctets: what is held is counted for the credential and the tenant, with
// what is being decided on at the moment, until an episode ends.
func TestHeldOctets(t *testing.T) {
	store := open(t)
	h := New(store, Options{})
	q := Question{Tenant: 7, Credential: "acme/a", Now: start, New: 1000, Text: like(1), Size: 100}
	if a, ok := ask(t, h, q); ok || a.HeldOctets != 0 || a.TenantHeldOctets != 0 {
		t.Fatalf("%+v", a)
	}
	tk, a, err := h.Ask(t.Context(), q)
	if err != nil || a.HeldOctets != 100 || a.TenantHeldOctets != 100 {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, _ := ask(t, h, q); a.HeldOctets != 200 || a.TenantHeldOctets != 200 {
		t.Errorf("%+v", a)
	}
	tk.Drop()
	q.Credential = "acme/b"
	if a, _ := ask(t, h, q); a.HeldOctets != 0 || a.TenantHeldOctets != 200 {
		t.Errorf("%+v", a)
	}
	flush(t, h)
	h = New(store, Options{})
	known := Question{Tenant: 7, Credential: "acme/a", Now: start, Size: 100}
	if a, _ := ask(t, h, known); a.HeldOctets != 200 || a.TenantHeldOctets != 300 {
		t.Errorf("after a restart: %+v", a)
	}
	if err := h.Close(t.Context(), 7, "acme/a", false); err != nil {
		t.Fatal(err)
	}
	if a, _ := ask(t, h, known); a.HeldOctets != 0 || a.TenantHeldOctets != 100 {
		t.Errorf("after the end of one: %+v", a)
	}
}
