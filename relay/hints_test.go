package relay

import (
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/mail"
)

func TestParseRoute(t *testing.T) {
	for in, want := range map[string][]mail.UpstreamID{
		"":                           nil,
		" , ":                        nil,
		"mx":                         {"mx"},
		"office, mx ,platform":       {"connection:office", "mx", "platform"},
		"connection:mx, mailbox":     {"connection:mx", "mailbox"},
		"MX":                         {"connection:MX"}, // names are as they are written
		"office,office,connection:a": {"connection:office", "connection:office", "connection:a"},
	} {
		if got := ParseRoute(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSetHint(t *testing.T) {
	var h Hints
	for name, value := range map[string]string{
		"Behalf-Tenant": " acme ", "BEHALF-STREAM": "news", "behalf-tag": "Welcome 1", "Behalf-Idempotency-Key": "k",
		"Behalf-Metadata": `{"order":"17"}`, "Behalf-Send-At": "2026-01-31T08:00:00+01:00", "Behalf-Route": "office", "Behalf-Method": "DOMAIN",
	} {
		if err := h.setHint(name, value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.Tenant != "acme" || h.Stream != "news" || h.Tag != "Welcome 1" || h.IdempotencyKey != "k" || h.Metadata["order"] != "17" ||
		!h.SendAt.Equal(time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)) || h.Route[0] != "connection:office" || h.Method != mail.MethodDomain {
		t.Errorf("%+v", h)
	}
	for name, value := range map[string]string{"Behalf-Metadata": "[]", "Behalf-Send-At": "soon", "Behalf-": "", "Behalf-Hurry": "yes"} {
		if err := h.setHint(name, value); err == nil || mail.AsFailure(err).Code != 550 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzHints: what passes is inside the bounds, whatever it was.
func FuzzHints(f *testing.F) {
	f.Add("Behalf-Stream", "broadcast")
	f.Add("Behalf-Metadata", `{"a":"b","c":null}`)
	f.Add("Behalf-Send-At", "2026-01-31T08:00:00Z")
	f.Add("Behalf-Route", "a,,b")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, name, value string) {
		var h Hints
		if h.setHint(name, value) != nil || h.check(now) != nil {
			return
		}
		if h.Stream == "" || len(h.Stream) > 40 || strings.ContainsAny(h.Stream, "|\x00/ \r\n:") || len(h.Tag) > maxTag || len(h.IdempotencyKey) > maxKey || len(h.Metadata) > maxMetadata {
			t.Errorf("%q, %q: %+v", name, value, h)
		}
		for _, u := range h.Route {
			if u == "" || u == mail.ConnectionPrefix {
				t.Errorf("%q: route %q", value, h.Route)
			}
		}
	})
}

// TestFateOrder: holds, paces and discards put together in any order come
// to the same.
func TestFateOrder(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2030, 1, n, 0, 0, 0, 0, time.UTC) }
	words := []func(*fateOfOne){
		func(f *fateOfOne) { f.hold(held{cause: cause{why: "short"}, until: day(2)}) },
		func(f *fateOfOne) { f.hold(held{cause: cause{why: "long"}, until: day(3)}) },
		func(f *fateOfOne) { f.pace(day(4), cause{}) },
		func(f *fateOfOne) { f.add(fateOfOne{}) },
	}
	perms := [][]int{{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 1, 0, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}}
	for _, p := range perms {
		var f fateOfOne
		for _, i := range p {
			words[i](&f)
		}
		r := mail.Recipient{State: mail.Queued, Next: day(1)}
		f.apply(&r, day(1))
		if r.State != mail.Held || r.Reason != "long" || !r.Next.Equal(day(4)) {
			t.Errorf("%v: %+v", p, r)
		}
	}
}
