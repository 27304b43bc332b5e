package relay_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
)

// told are the warnings of a message to three that is taken.
func told(t *testing.T, w *relaytest.World) []string {
	t.Helper()
	r, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example", "eve@there.example", "ann@there.example")
	if err != nil {
		t.Fatal(err)
	}
	return r.Warnings
}

// TestToldOfAHold: who is taken, and does not go, is told why; once.
func TestToldOfAHold(t *testing.T) {
	const eve = ` if input.recipient.address == "eve@there.example"`
	for _, c := range []struct {
		name, stage, rules string
		want               []string
	}{
		{"of all", "sender", `hold contains {"rule":"h","reason":"look at it","detail":"secret"}`, []string{"held: look at it"}},
		{"that ends", "message", `hold contains {"rule":"h","reason":"for a while","release_at":"2999-01-01T00:00:00Z"}`, []string{"held until 2999-01-01T00:00:00Z: for a while"}},
		{"of one", "recipient", `hold contains {"rule":"h","reason":"look at it"}` + eve, []string{"held for 1 of 3 recipients: look at it"}},
		{"of some that are new", "message", `hold contains {"rule":"h","reason":"new","recipients":"new"} if input.envelope.new_recipients > 0`, []string{"held: new"}},
		{"a discard", "recipient", `discard contains {"rule":"d","reason":"no such list"}` + eve, []string{"discarded for 1 of 3 recipients: no such list"}},
		{"after a warning", "sender", `hold contains {"rule":"h","reason":"look"}` + "\n" + `warn contains {"rule":"w","reason":"mind"}`, []string{"mind", "held: look"}},
		{"none", "sender", `pace contains {"rule":"p","until":"2999-01-01T00:00:00Z"}`, nil},
	} {
		w := ruled(t, map[string]string{c.stage: c.rules}, "")
		if got := told(t, w); !slices.Equal(got, c.want) {
			t.Errorf("%s: told %q, want %q", c.name, got, c.want)
		}
	}
}

// TestToldOfManyHolds says a few of them and how many more there are.
func TestToldOfManyHolds(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": `hold contains {"rule":"h","reason":sprintf("to %s", [input.recipient.address])}`}, "")
	var to []string
	for i := range 20 {
		to = append(to, fmt.Sprintf("r%d@there.example", i))
	}
	r, err := w.Send(w.App(), "app@acme.example", body, to...)
	if err != nil || len(r.Warnings) != 5 || r.Warnings[4] != "held or discarded for 16 more recipients" {
		t.Errorf("%v, %q", err, r.Warnings)
	}
}

// TestToldOfALimitOnce: of a limit that holds clients are told as of a limit.
func TestToldOfALimitOnce(t *testing.T) {
	w := ruled(t, map[string]string{"sender": rate("messages", 24, 1, `,"over":"hold"`)}, "")
	told(t, w)
	if got := told(t, w); len(got) != 1 || !strings.HasPrefix(got[0], "held until ") || !strings.Contains(got[0], "the limit l") {
		t.Errorf("told %q", got)
	}
}

// story is a message's ruling of a stage and its events of a kind.
func story(t *testing.T, w *relaytest.World, id mail.ID, kind mail.EventType) (rulings []string, of []mail.Event) {
	t.Helper()
	events, err := w.Spool.Timeline(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Accepted != nil {
			for _, r := range e.Accepted.Policy {
				rulings = append(rulings, strings.TrimSpace(r.Decision+" "+strings.Join(r.Rules, " ")+" "+r.About))
			}
		}
		if e.Type == kind {
			of = append(of, e)
		}
	}
	return rulings, of
}

// TestPaceIsInTheStory: each message that is delayed tells by what, and until
// when, not the first of a window alone.
func TestPaceIsInTheStory(t *testing.T) {
	const eve = ` if input.recipient.address == "eve@there.example"`
	until := time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, stage, rules string
		ruling, why        string
		recipients         []int
		at                 time.Time
	}{
		{"by a limit", "sender", rate("messages", 24, 1, `,"over":"pace"`), "pace sender.rego:l", "over the limit l: 24 messages in 24h, 1 at once", nil, time.Time{}},
		{"by a limit named earlier", "sender", rate("recipients", 24, 3, `,"over":"pace"`), "pace sender.rego:l", "over the limit l: 24 recipients in 24h, 3 at once", nil, time.Time{}},
		{"by a rule", "message", `pace contains {"rule":"p","until":"2999-01-01T00:00:00Z"}`, "pace message.rego:p", "paced by message.rego:p", nil, until},
		{"by the rule that says longest", "message", `pace contains {"rule":"a","until":"2998-01-01T00:00:00Z"}` + "\n" + `pace contains {"rule":"b","until":"2999-01-01T00:00:00Z"}`,
			"pace message.rego:a message.rego:b", "paced by message.rego:b", nil, until},
		{"one recipient", "recipient", `pace contains {"rule":"p","until":"2999-01-01T00:00:00Z"}` + eve, "pace recipient.rego:p eve@there.example", "paced by recipient.rego:p", []int{1}, until},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, map[string]string{c.stage: c.rules}, "")
			told(t, w)
			for range 2 {
				w.Offered()
				told(t, w)
				rulings, paced := story(t, w, w.Offered()[0].Message.ID, mail.EventPaced)
				if !slices.Contains(rulings, c.ruling) {
					t.Errorf("rulings %q, want %q among them", rulings, c.ruling)
				}
				if len(paced) != 1 || paced[0].Reason != c.why || !slices.Equal(paced[0].Recipients, c.recipients) {
					t.Fatalf("%+v, want %q of %v", paced, c.why, c.recipients)
				}
				if next := paced[0].Next; c.at.IsZero() && time.Until(next) < 10*time.Minute || !c.at.IsZero() && !next.Equal(c.at) {
					t.Errorf("until %v", next)
				}
			}
		})
	}
}

// TestNotPaced: what waits for another reason, or not at all, is not said to be
// paced.
func TestNotPaced(t *testing.T) {
	for name, rules := range map[string]string{
		"held":         `pace contains {"rule":"p","until":"2999-01-01T00:00:00Z"}` + "\n" + `hold contains {"rule":"h","reason":"x"}`,
		"until before": `pace contains {"rule":"p","until":"2001-01-01T00:00:00Z"}`,
	} {
		w := ruled(t, map[string]string{"message": rules}, "")
		told(t, w)
		if _, paced := story(t, w, w.Offered()[0].Message.ID, mail.EventPaced); len(paced) != 0 {
			t.Errorf("%s: %+v", name, paced)
		}
	}
}

// TestRefusedByALimitIsInTheStory, of the recipients that were taken.
func TestRefusedByALimitIsInTheStory(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": rate("recipients", 1, 2, "")}, "")
	r, err := w.Intake.Accept(context.Background(), w.App(), relaytest.Client(),
		submission("app@acme.example", body, relay.Hints{}, "a@there.example", "b@there.example", "c@there.example"))
	if err != nil {
		t.Fatal(err)
	}
	rulings, _ := story(t, w, r.ID, "")
	if want := "defer recipient.rego:l c@there.example"; !slices.Contains(rulings, want) {
		t.Errorf("rulings %q, want %q among them", rulings, want)
	}
}

// TestRulingsTellAll that rules said besides yes and no.
func TestRulingsTellAll(t *testing.T) {
	w := ruled(t, map[string]string{"message": `tag contains {"rule":"r","value":"news"}
warn contains {"rule":"r","reason":"mind"}
rewrite contains {"rule":"r","op":"subject_prefix","value":"[TEST]"}
`}, "")
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	events, err := w.Spool.Timeline(t.Context(), st.Message.ID)
	if err != nil {
		t.Fatal(err)
	}
	r := events[0].Accepted.Policy[0]
	if fmt.Sprint(r.Tags, r.Warnings) != "[news] [mind]" || len(r.Rewrites) != 1 || !strings.Contains(r.Rewrites[0], "prefix Subject [TEST]") {
		t.Errorf("%+v", r)
	}
}

// TestTenantLimitsAfterARestart: what holds is known to the rules, and what is
// used was stored.
func TestTenantLimitsAfterARestart(t *testing.T) {
	w := ruled(t, map[string]string{
		"sender": rate("messages", 100, 100, "") +
			`limit contains {"rule":"each","key":["credential",input.credential.username],"count":"messages","rate":10,"per":"1h"}
limit contains {"rule":"from","key":["tenant",input.tenant.id,input.session.addr],"count":"messages","rate":10,"per":"1h"}
limit contains {"rule":"bulk","key":["tenant",input.tenant.id],"count":"messages","rate":7,"per":"1h"} if input.stream == "broadcast"
`,
		"recipient": `limit contains {"rule":"one","key":["tenant",input.tenant.id,input.recipient.address],"count":"recipients","rate":3,"per":"1h"}`,
		"message":   `limit contains {"rule":"size","key":["tenant",input.tenant.id],"count":"bytes","rate":1000000,"per":"1h"} if not input.identity.foreign`,
	}, "")
	w.Apply(`{"kind":"credential","tenant":"acme","name":"other","secret":"bhf_other-secret-0123456789-0123456789-0123456789"}`)
	told(t, w)
	if err := w.Limits.Snapshot(t.Context(), w.Store); err != nil {
		t.Fatal(err)
	}
	w.Open()
	if err := w.Limits.Load(t.Context(), w.Store); err != nil {
		t.Fatal(err)
	}
	v, err := w.Directory.ViewByName(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.Intake.TenantLimits(t.Context(), v, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range list {
		used := l.Used()
		if l.Count == "bytes" && used > 0 {
			used = 1
		}
		got = append(got, fmt.Sprintf("%s %s %d", l.Name(), l.Key[len(l.Key)-1], used))
	}
	slices.Sort(got)
	id := v.Tenant.ID
	want := []string{fmt.Sprintf("bulk %d 0", id), "each acme/app 1", "each acme/other 0", fmt.Sprintf("l %d 1", id), fmt.Sprintf("size %d 1", id)}
	if !slices.Equal(got, want) {
		t.Errorf("limits %q, want %q", got, want)
	}
	if !list[0].Binding || list[0].Name() != "each" {
		t.Errorf("%+v binds", list[0])
	}
}
