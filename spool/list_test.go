package spool

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

func listAll(t *testing.T, s *Spool, f Filter, page int) []mail.ID {
	t.Helper()
	var out []mail.ID
	cursor := ""
	for range 10_000 {
		sts, next, err := s.List(t.Context(), f, cursor, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(sts) > page {
			t.Fatalf("%d messages on a page of %d", len(sts), page)
		}
		for _, st := range sts {
			out = append(out, st.Message.ID)
		}
		if next == "" {
			return out
		}
		cursor = next
	}
	t.Fatal("the list does not end")
	return nil
}

func candidatesAll(t *testing.T, s *Spool, f Filter, page int) (ids []mail.ID) {
	t.Helper()
	cursor := ""
	for range 1000 {
		some, next, err := s.Candidates(t.Context(), f, cursor, page)
		if err != nil || len(some) > page {
			t.Fatalf("%d candidates, %v", len(some), err)
		}
		ids = append(ids, some...)
		if next == "" {
			return ids
		}
		cursor = next
	}
	t.Fatal("the list does not end")
	return nil
}

func TestList(t *testing.T) {
	engines(t, func(t *testing.T, kvs kv.Store) {
		s := openSpool(t, kvs, newBodies(), Options{})
		start := now().Add(-time.Hour)
		var ids []mail.ID
		for i := range 60 {
			m, rs := message(s, mail.TenantID(1+i%2), fmt.Sprintf("user%d@d%d.example", i, i%3), "b@x.example")
			m.Accepted = start.Add(time.Duration(i) * time.Second)
			m.ID = s.NewID(m.Tenant, m.Accepted)
			m.Tag = fmt.Sprintf("tag%d", i%5)
			m.MessageID = fmt.Sprintf("<%d@acme.example>", i)
			if i == 10 {
				rs[0].State = mail.Held
			}
			st := accept(t, s, m, rs)
			if i == 20 {
				settle(t, s, deferred(st, 1, now()))
			}
			ids = append(ids, m.ID)
		}
		one := mail.TenantID(1)
		for _, c := range []struct {
			name string
			f    Filter
			want func(i int) bool
		}{
			{"all", Filter{}, func(int) bool { return true }},
			{"tenant", Filter{Tenant: &one}, func(i int) bool { return i%2 == 0 }},
			{"tag", Filter{Tag: "tag3"}, func(i int) bool { return i%5 == 3 }},
			{"tag of a tenant", Filter{Tenant: &one, Tag: "tag3"}, func(i int) bool { return i%2 == 0 && i%5 == 3 }},
			{"held", Filter{State: mail.Held}, func(i int) bool { return i == 10 }},
			{"queued", Filter{State: mail.Queued}, func(i int) bool { return true }},
			{"deferred", Filter{State: mail.Deferred}, func(i int) bool { return i == 20 }},
			{"delivered", Filter{State: mail.Delivered}, func(i int) bool { return false }},
			{"domain", Filter{Domain: "d1.example"}, func(i int) bool { return i%3 == 1 }},
			{"lane", Filter{Lane: "mx|d1.example|transactional"}, func(i int) bool { return i%3 == 1 }},
			{"held in a lane", Filter{State: mail.Held, Lane: "mx|x.example|transactional"}, func(i int) bool { return false }},
			{"recipient", Filter{Recipient: "USER7@D1.example"}, func(i int) bool { return i == 7 }},
			{"message-id", Filter{MessageID: "9@acme.example"}, func(i int) bool { return i == 9 }},
			{"since", Filter{Since: start.Add(50 * time.Second)}, func(i int) bool { return i >= 50 }},
			{"until", Filter{Tenant: &one, Until: start.Add(50 * time.Second)}, func(i int) bool { return i <= 50 && i%2 == 0 }},
			{"between", Filter{Since: start.Add(10 * time.Second), Until: start.Add(20 * time.Second)}, func(i int) bool { return i >= 10 && i <= 20 }},
			{"credential", Filter{Credential: "no/one"}, func(i int) bool { return false }},
		} {
			var want []mail.ID
			for i := len(ids) - 1; i >= 0; i-- {
				if c.want(i) {
					want = append(want, ids[i])
				}
			}
			for _, page := range []int{1, 7, 1000} {
				if got := listAll(t, s, c.f, page); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s by %d: got %d, want %d messages", c.name, page, len(got), len(want))
				}
				// Candidates are those and perhaps more, which facts exclude.
				got := candidatesAll(t, s, c.f, page)
				for _, id := range want {
					if !slices.Contains(got, id) {
						t.Errorf("%s by %d: a candidate is missing", c.name, page)
					}
				}
				bare := Filter{Tenant: c.f.Tenant, State: c.f.State, Since: c.f.Since, Until: c.f.Until}
				if c.f == bare && fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s by %d: %d candidates, want %d", c.name, page, len(got), len(want))
				}
			}
		}
		if _, _, err := s.List(t.Context(), Filter{}, "odd", 1); err == nil {
			t.Error("a bad cursor was taken")
		}
	})
}

// One call looks at a bounded number of rows, whatever it finds.
func TestListIsBounded(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	one := mail.TenantID(1)
	n := examined + 300
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range (n + i) / 50 {
				m, rs := message(s, one, "a@x.example")
				accept(t, s, m, rs).Release()
			}
		})
	}
	wg.Wait()
	sts, cursor, err := s.List(t.Context(), Filter{Tenant: &one, Tag: "none"}, "", 10)
	if err != nil || len(sts) != 0 || cursor == "" {
		t.Errorf("got %d messages, cursor %q, %v; want a cursor only", len(sts), cursor, err)
	}
	if got := listAll(t, s, Filter{Tenant: &one}, 500); len(got) != n {
		t.Errorf("listed %d of %d", len(got), n)
	}
}
