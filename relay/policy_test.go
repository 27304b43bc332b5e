package relay_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/tenant/suppress"

	"behalf/internal/kv"
)

// submission is a whole message as the HTTP door makes it.
func submission(from, text string, h relay.Hints, to ...string) relay.Submission {
	s := relay.Submission{Hints: h, Write: func(w io.Writer) error {
		_, err := w.Write([]byte(relaytest.CRLF(text)))
		return err
	}}
	if from != "" {
		s.Envelope.From, _ = mail.ParseAddress(from)
	}
	for _, a := range to {
		addr, _ := mail.ParseAddress(a)
		s.Recipients = append(s.Recipients, mail.Recipient{Address: addr})
	}
	return s
}

// ruled is a world under rules of one or more stages, each given as the text
// below its package line.
func ruled(t testing.TB, rules map[string]string, fields string) *relaytest.World {
	t.Helper()
	files := map[string]string{}
	for stage, text := range rules {
		files[stage+".rego"] = "package behalf.submission." + stage + "\n" + text
	}
	return acme(t, relaytest.Options{Rules: files}, fields)
}

// TestRefusals: deny and defer at each stage, with their codes and words.
func TestRefusals(t *testing.T) {
	for _, stage := range []string{"sender", "recipient", "message"} {
		for result, want := range map[string]string{
			`deny contains {"rule":"r","code":554,"enhanced":"5.7.26","reason":"not so"}`: "554 5.7.26",
			`defer contains {"rule":"r","reason":"not so"}`:                               "450 4.7.1",
			// deny beats defer beats hold
			"hold contains {\"rule\":\"h\",\"reason\":\"x\"}\ndefer contains {\"rule\":\"r\",\"reason\":\"nor so\"}\ndeny contains {\"rule\":\"r\",\"reason\":\"not so\"}": "550 5.7.1",
		} {
			w := ruled(t, map[string]string{stage: result}, "")
			_, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
			if f := wantFailure(t, err, want); !strings.Contains(f.Text, "not so") {
				t.Errorf("%s: %q", stage, f.Text)
			}
			if len(w.Offered()) != 0 {
				t.Errorf("%s: handed on", stage)
			}
		}
	}
}

// TestEngineErrorIsNotAcceptance at any stage.
func TestEngineErrorIsNotAcceptance(t *testing.T) {
	for _, stage := range []string{"sender", "recipient", "message"} {
		w := ruled(t, map[string]string{stage: "deny contains {\"rule\": \"r\", \"reason\": x} if {\n\tx := to_number(input.session.helo)\n}\nlimit contains {\"rule\": \"l\", \"key\": [\"x\"], \"count\": \"messages\", \"rate\": rate, \"per\": \"1h\"}\nrate := 1 if input.session.helo != \"\"\nrate := 2 if input.tenant.name == \"acme\"\n"}, "")
		_, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
		wantFailure(t, err, "451 4.3.0")
	}
}

// TestOneRecipientRefused leaves the others; over HTTP the receipt says who.
func TestOneRecipientRefused(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": `deny contains {"rule":"r","reason":"not him"} if input.recipient.address == "eve@there.example"`}, "")
	r, err := w.Intake.Accept(context.Background(), w.App(), relaytest.Client(), submission("app@acme.example", body, relay.Hints{}, "bob@there.example", "eve@there.example", "ann@there.example"))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Refused) != 1 || r.Refused[0].Address.Local != "eve" || r.Refused[0].Failure.Code != 550 {
		t.Errorf("refused %+v", r.Refused)
	}
	st := w.Offered()[0]
	if len(st.Recipients) != 2 || st.Recipients[1].Address.Local != "ann" {
		t.Errorf("recipients %+v", st.Recipients)
	}
	_, err = w.Intake.Accept(context.Background(), w.App(), relaytest.Client(), submission("app@acme.example", body, relay.Hints{}, "eve@there.example"))
	wantFailure(t, err, "550 5.7.1")
}

// TestRefusalAfterDATA names the recipient, when the tenant comes in the header
// and the recipients are ruled on after DATA.
func TestRefusalAfterDATA(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": `deny contains {"rule":"r","reason":"not him"} if input.recipient.address == "eve@there.example"`}, "")
	w.Apply(`{"kind":"credential","scope":"platform","tenants":["*"],"name":"app","secret":"` + platformSecret + `"}`)
	_, err := w.Send(w.Login("platform/app", platformSecret), "app@acme.example", "Behalf-Tenant: acme\n"+body, "bob@there.example", "eve@there.example")
	if f := wantFailure(t, err, "550 5.7.1"); !strings.Contains(f.Text, "eve@there.example") {
		t.Errorf("%q does not name eve", f.Text)
	}
}

// TestFates: what becomes of recipients under the actions short of a refusal,
// together and each alone.
func TestFates(t *testing.T) {
	const (
		hold    = `hold contains {"rule":"h","reason":"look at it"}`
		holdTo  = `hold contains {"rule":"t","reason":"for a while","release_at":"2999-01-01T00:00:00Z"}`
		holdTo2 = `hold contains {"rule":"u","reason":"for longer","release_at":"2999-01-02T00:00:00Z"}`
		pace    = `pace contains {"rule":"p","until":"2998-01-01T00:00:00Z"}`
		pace2   = `pace contains {"rule":"p","until":"2999-06-01T00:00:00Z"}`
		discard = `discard contains {"rule":"d","reason":"trap"}`
		onlyEve = ` if input.recipient.address == "eve@there.example"`
	)
	y2998, y2999 := time.Date(2998, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
	type fate struct {
		state  mail.State
		reason string
		next   time.Time // zero: at once, or for ever
	}
	queued := fate{state: mail.Queued}
	for _, c := range []struct {
		name                       string
		sender, recipient, message string
		bob, eve                   fate
	}{
		{"nothing", "", "", "", queued, queued},
		{"a hold of the message", hold, "", "", fate{mail.Held, "look at it", time.Time{}}, fate{mail.Held, "look at it", time.Time{}}},
		{"a hold that ends", "", "", holdTo, fate{mail.Held, "for a while", y2999}, fate{mail.Held, "for a while", y2999}},
		{"the longer hold", holdTo, "", holdTo2, fate{mail.Held, "for longer", y2999.AddDate(0, 0, 1)}, fate{mail.Held, "for longer", y2999.AddDate(0, 0, 1)}},
		{"a hold of one", "", holdTo + onlyEve, "", queued, fate{mail.Held, "for a while", y2999}},
		{"a hold of one, and of all without end", "", holdTo + onlyEve, hold, fate{mail.Held, "look at it", time.Time{}}, fate{mail.Held, "look at it", time.Time{}}},
		{"a hold without end of one, and of all with one", holdTo, hold + onlyEve, "", fate{mail.Held, "for a while", y2999}, fate{mail.Held, "look at it", time.Time{}}},
		{"a hold without end is not ended by a pace", pace, hold + onlyEve, "", fate{mail.Queued, "", y2998}, fate{mail.Held, "look at it", time.Time{}}},
		{"a hold ends not before the pace does", pace2, holdTo + onlyEve, "", fate{mail.Queued, "", y2999.AddDate(0, 5, 0)}, fate{mail.Held, "for a while", y2999.AddDate(0, 5, 0)}},
		{"a pace", "", "", pace, fate{mail.Queued, "", y2998}, fate{mail.Queued, "", y2998}},
		{"a pace of one", "", pace + onlyEve, "", queued, fate{mail.Queued, "", y2998}},
		{"a discard", "", "", discard, fate{mail.Discarded, "trap", time.Time{}}, fate{mail.Discarded, "trap", time.Time{}}},
		{"a discard of one beats a hold of all", hold, discard + onlyEve, "", fate{mail.Held, "look at it", time.Time{}}, fate{mail.Discarded, "trap", time.Time{}}},
		{"a discard of all beats a hold of one", "", hold + onlyEve, discard, fate{mail.Discarded, "trap", time.Time{}}, fate{mail.Discarded, "trap", time.Time{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, map[string]string{"sender": c.sender, "recipient": c.recipient, "message": c.message}, "")
			st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example", "eve@there.example")
			for i, want := range []fate{c.bob, c.eve} {
				r := st.Recipients[i]
				if want.state == mail.Queued && want.next.IsZero() {
					want.next = st.Message.Accepted
				}
				if r.State != want.state || r.Reason != want.reason || !r.Next.Equal(want.next) && r.Next.Sub(want.next).Abs() > time.Second {
					t.Errorf("recipient %d is %s, %q, next %v; want %+v", i, r.State, r.Reason, r.Next, want)
				}
				if r.State == mail.Queued && r.Next.After(st.Message.Expires.Add(-time.Hour)) {
					t.Errorf("recipient %d waits until %v, and the message ends at %v", i, r.Next, st.Message.Expires)
				}
			}
		})
	}
}

// TestSuppressionBeatsHold: who is on the list gets nothing, whatever the policy
// said of it, and only in that stream.
func TestSuppressionBeatsHold(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": `hold contains {"rule":"h","reason":"look"}`}, "")
	v, _ := w.Directory.ViewByName(context.Background(), "acme")
	err := w.Store.Update(context.Background(), func(wr kv.Writer) error {
		return w.Intake.Lists.Add(wr, v.Tenant.ID, suppress.Entry{Stream: "broadcast", Address: "Eve@There.example", Reason: suppress.Manual})
	})
	if err != nil {
		t.Fatal(err)
	}
	st := w.Accepted(w.App(), "app@acme.example", "Behalf-Stream: broadcast\n"+body, "bob@there.example", "eve@there.example")
	if st.Recipients[0].State != mail.Held || st.Recipients[1].State != mail.Suppressed || st.Recipients[1].Reason != "manual" {
		t.Errorf("recipients %+v", st.Recipients)
	}
	es, err := w.Spool.Timeline(context.Background(), st.Message.ID)
	if err != nil || len(es) != 3 || es[0].Type != mail.EventAccepted ||
		es[1].Type != mail.EventHeld || es[1].Reason != "look" || !slices.Equal(es[1].Recipients, []int{0}) ||
		es[2].Type != mail.EventSuppressed || es[2].Reason != "manual" || !slices.Equal(es[2].Recipients, []int{1}) {
		t.Errorf("%v; timeline %+v", err, es)
	}
	st = w.Accepted(w.App(), "app@acme.example", body, "eve@there.example")
	if st.Recipients[0].State != mail.Held {
		t.Errorf("in another stream: %+v", st.Recipients)
	}
}

// TestEffects: warnings, tags and edits, said of each recipient, are said once.
func TestEffects(t *testing.T) {
	w := ruled(t, map[string]string{
		"recipient": "warn contains {\"rule\":\"w\",\"reason\":\"mind the gap\"}\ntag contains {\"rule\":\"t\",\"value\":\"bulk\"}\nrewrite contains {\"rule\":\"a\",\"op\":\"add_header\",\"name\":\"X-Lane\",\"value\":\"slow\"}",
		"message":   `rewrite contains {"rule":"s","op":"subject_prefix","value":"[Acme]"}` + "\n" + `rewrite contains {"rule":"x","op":"remove_header","name":"X-Secret"}`,
	}, "")
	r, err := w.Send(w.App(), "app@acme.example", "X-Secret: yes\n"+body, "bob@there.example", "eve@there.example")
	if err != nil || !slices.Equal(r.Warnings, []string{"mind the gap"}) {
		t.Errorf("%v; warnings %q", err, r.Warnings)
	}
	st := w.Offered()[0]
	if !slices.Equal(st.Message.Tags, []string{"bulk"}) {
		t.Errorf("tags %q", st.Message.Tags)
	}
	out := w.Render(st, 0, 0)
	if out.Header.Count("X-Lane") != 1 || out.Header.Get("Subject") != "[Acme] Hi" || out.Header.Has("X-Secret") {
		t.Errorf("rendered\n%s", out.Text)
	}
	es, err := w.Spool.Timeline(context.Background(), st.Message.ID)
	if err != nil || len(es) != 1 || len(es[0].Accepted.Policy) != 2 {
		t.Errorf("%v; rulings %+v", err, es[0].Accepted.Policy)
	}
}

// TestRedirection: Rego chooses among what the tenant has, and invents nothing.
func TestRedirection(t *testing.T) {
	const fields = `"route":[{"upstream":"mx"},{"upstream":"platform"}],"methods":["domain","name"],"allow_from_change":true`
	for _, c := range []struct{ name, rules, want, refused string }{
		{"a route", `route contains {"rule":"r","priority":1,"use":["platform"]}`, "platform/domain", ""},
		{"by priority", `route contains {"rule":"r","priority":2,"use":["mx"]}` + "\n" + `route contains {"rule":"q","priority":1,"use":["platform"]}`, "platform/domain", ""},
		{"a method", `method contains {"rule":"m","use":["name"]}`, "mx/name", ""},
		{"a connection that is not there is passed over", `route contains {"rule":"r","use":["connection:office","platform"]}`, "platform/domain", ""},
		{"nothing that is there", `route contains {"rule":"r","use":["connection:office"]}`, "", "451 4.3.0"},
		{"a method the tenant does not use is passed over", `method contains {"rule":"m","use":["address","name"]}`, "mx/name", ""},
		{"no method that the tenant uses", `method contains {"rule":"m","use":["address"]}`, "", "451 4.3.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, map[string]string{"message": c.rules}, fields)
			w.Apply(`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`)
			_, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
			if c.refused != "" {
				wantFailure(t, err, c.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			st := w.Offered()[0]
			if got := string(st.Message.Wishes[0].Upstream) + "/" + string(st.Message.Wishes[0].Methods[0]); got != c.want {
				t.Errorf("goes by %s, want %s; %+v", got, c.want, st.Message.Wishes)
			}
			if _, err := w.Plan(st, 0); err != nil {
				t.Errorf("and then at the attempt: %v", err)
			}
		})
	}
}

// TestWhatPoliciesSee is the input of each stage, as the policy can tell it.
func TestWhatPoliciesSee(t *testing.T) {
	see := func(what string) string {
		return `warn contains {"rule":"w","reason":sprintf("` + what + `=%v", [` + what + `])}` + "\n"
	}
	w := ruled(t, map[string]string{
		"sender":    see("input.tenant.name") + see("input.credential.username") + see("input.session.addr") + see("input.envelope.from"),
		"recipient": see("input.recipient.site") + see("input.recipient.first_time") + see("input.envelope.recipients"),
		"message":   see("input.message.subject") + see("input.message.tag") + see("input.stream") + see("input.identity.verified") + see("input.message.attachments[0].filename"),
	}, "")
	text := "Behalf-Tag: welcome\nBehalf-Stream: news\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n" + strings.TrimSuffix(body, "\nHello\n") +
		"\n--b\n\nHello\n--b\nContent-Type: text/csv\nContent-Disposition: attachment; filename=a.csv\n\n1\n--b--\n"
	for i := range 2 {
		r, err := w.Send(w.App(), "app@acme.example", text, "bob@mail.there.co.uk")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"tenant.name=acme", "credential.username=acme/app", "session.addr=198.51.100.7", "envelope.from=app@acme.example",
			"recipient.site=there.co.uk", fmt.Sprintf("recipient.first_time=%v", i == 0), "envelope.recipients=0",
			"message.subject=Hi", "message.tag=welcome", "input.stream=news", "identity.verified=true", "filename=a.csv",
		} {
			if !strings.Contains(strings.Join(r.Warnings, "\n"), want) {
				t.Errorf("message %d: no %s in %q", i, want, r.Warnings)
			}
		}
	}
}
