package relay_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/spool"
)

// letter is a message of a text that a person may have written.
func letter(subject, text string) string {
	return "From: Ann <support@acme.example>\nTo: you@there.example\nSubject: " + subject + "\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\n" + text + "\n"
}

const (
	stolen = "Dear customer, your mailbox is over its quota and will be closed today. Sign in at http://upgrade.example/ and confirm your password now, or else all of your messages and contacts will be removed for good."
	reply  = "Hello, thank you for your question about the blue cover. It can be had again from next week on, and we have put one aside for you in our shop near the station. Kind regards, Ann"
)

// reached counts the recipients of messages by whether they go out.
func reached(list []*spool.Stored) (out, held int) {
	for _, st := range list {
		for _, r := range st.Recipients {
			switch r.State {
			case mail.Queued:
				out++
			case mail.Held:
				held++
			}
		}
	}
	return out, held
}

// TestTakeover: somebody has a credential and sends to very many new people over
// many connections at once, some messages to hundreds. At most 300 of them get
// one, whatever runs at once, while mail of the same credential to people that it
// knows, its usual mail to a few new ones, the tenant's other credential and
// another tenant go on.
func TestTakeover(t *testing.T) {
	w := acme(t, relaytest.Options{}, `"labels": {"plan": "enterprise"}`)
	w.Apply(`{"kind":"credential","tenant":"acme","name":"other","secret":"bhf_acme-other-0123456789-0123456789-0123456789"}`)
	app := w.App()
	other := w.Login("acme/other", "bhf_acme-other-0123456789-0123456789-0123456789")
	for i := range 20 {
		w.Accepted(app, "app@acme.example", letter("Re: cover", reply), fmt.Sprintf("customer%d@there.example", i))
	}
	w.Offered()
	n := 1500
	if testing.Short() {
		n = 500
	}
	var next, refused atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				to := []string{fmt.Sprintf("victim%d@away.example", i)}
				for k := range 200 {
					if i%100 == 0 {
						to = append(to, fmt.Sprintf("victim%d-%d@away.example", i, k))
					}
				}
				if _, err := w.Send(app, "app@acme.example", letter("Your mailbox", fmt.Sprint(stolen, " Case ", i)), to...); err != nil {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	out, held := reached(w.Offered())
	t.Logf("of %d messages %d recipients reached, %d held, %d messages refused", n, out, held, refused.Load())
	if out > 300 || held == 0 || refused.Load() > 0 {
		t.Errorf("%d reached, %d held, %d refused", out, held, refused.Load())
	}
	for i := range 20 {
		for _, c := range []struct {
			p        *relay.Principal
			text, to string
		}{
			{app, reply, fmt.Sprintf("customer%d@there.example", i)},
			{app, stolen, fmt.Sprintf("customer%d@there.example", i)}, // to people it knows: not for us to judge
			{other, reply, fmt.Sprintf("new%d@there.example", i)},
		} {
			if st := w.Accepted(c.p, "app@acme.example", letter("Re: cover", c.text), c.to); st.Recipients[0].State != mail.Queued || st.Recipients[0].Next.After(time.Now()) {
				t.Fatalf("%s to %s: %+v", c.p.Username, c.to, st.Recipients[0])
			}
		}
	}
	// Who was written to by held mail alone is not known by that.
	st := w.Accepted(app, "app@acme.example", letter("Your mailbox", stolen), fmt.Sprintf("victim%d@away.example", n), "customer1@there.example")
	if a, b := st.Recipients[0], st.Recipients[1]; a.State != mail.Held || a.HeldBy != mail.HeldByPolicy || !strings.HasSuffix(a.Rule, ":unusual") || !strings.Contains(a.Reason, "unusual for this credential: ") || b.State != mail.Queued {
		t.Errorf("%+v, %+v", a, b)
	}
	eps, err := w.Intake.Habits.Episodes(t.Context(), st.Message.Tenant)
	if err != nil || len(eps) != 1 || eps[0].Credential != "acme/app" || eps[0].Recipients != int64(held)+1 || len(eps[0].Examples) != 5 || len(eps[0].Reasons) == 0 {
		t.Errorf("%+v, %v", eps, err)
	}
	told := 0
	events, _, err := w.Spool.Events(t.Context(), 0, 1<<20)
	for _, e := range events {
		if e.Type == mail.EventUnusual {
			told++
		}
	}
	if told != 1 || err != nil {
		t.Errorf("told %d times, %v", told, err)
	}
	// It was usual, says the administrator: the next ones go.
	if err := w.Intake.Habits.Close(context.Background(), st.Message.Tenant, "", true); err != nil {
		t.Fatal(err)
	}
	if st := w.Accepted(app, "app@acme.example", letter("Your mailbox", stolen), "victim-last@away.example"); st.Recipients[0].State != mail.Queued {
		t.Errorf("after the release: %+v", st.Recipients[0])
	}
}

// TestHeldTakesNoLimit: what is held as unusual leaves the tenant's limits to the
// mail that goes.
func TestHeldTakesNoLimit(t *testing.T) {
	w := ruled(t, map[string]string{
		"recipient": `limit contains {"rule": "few", "key": ["t"], "count": "recipients", "rate": 10, "per": "24h"}`,
		"message":   `hold contains {"rule": "unusual", "reason": "odd", "recipients": "new"} if {input.message.subject == "odd"; input.envelope.new_recipients > 0}`,
	}, "")
	for i := range 40 {
		st := w.Accepted(w.App(), "app@acme.example", letter("odd", reply), fmt.Sprintf("a%d@there.example", i))
		if st.Recipients[0].State != mail.Held {
			t.Fatalf("%+v", st.Recipients[0])
		}
	}
	for i := range 10 {
		w.Accepted(w.App(), "app@acme.example", letter("even", reply), fmt.Sprintf("b%d@there.example", i))
	}
	if _, err := w.Send(w.App(), "app@acme.example", letter("even", reply), "b11@there.example"); err == nil {
		t.Error("what goes is not counted")
	}
}

// TestTakeoverElsewhere: an attack that is spread over credentials of a tenant,
// or over tenants of one platform credential, gets through what one does for
// each of them, and no more.
func TestTakeoverElsewhere(t *testing.T) {
	w := acme(t, relaytest.Options{}, `"labels": {"plan": "enterprise"}, "allow_from_change": true`)
	w.Apply(`{"kind":"credential","tenant":"acme","name":"other","secret":"bhf_acme-other-0123456789-0123456789-0123456789"}`,
		`{"kind":"tenant","name":"globex","methods":["name"],"allow_from_change":true,"labels":{"plan":"enterprise"}}`,
		`{"kind":"credential","scope":"platform","tenants":["*"],"name":"app","secret":"`+platformSecret+`"}`)
	for _, c := range []struct {
		name string
		ways []*relay.Principal
	}{
		{"two credentials", []*relay.Principal{w.App(), w.Login("acme/other", "bhf_acme-other-0123456789-0123456789-0123456789")}},
		{"a platform credential", []*relay.Principal{w.Login("platform/app+acme", platformSecret), w.Login("platform/app+globex", platformSecret)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var next atomic.Int64
			var wg sync.WaitGroup
			for range 100 { // connections at once
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > 1000 {
							return
						}
						text := strings.Replace(letter("Your mailbox", fmt.Sprint(stolen, " Case ", i)), "support@acme.example", "app@elsewhere.example", 1)
						if _, err := w.Send(c.ways[i%2], "app@elsewhere.example", text, fmt.Sprintf("v%d@%s.example", i, strings.ReplaceAll(c.name, " ", "-"))); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			out, held := reached(w.Offered())
			t.Logf("%d reached, %d held", out, held)
			if out > 2*300 || out+held != 1000 {
				t.Errorf("%d reached, %d held", out, held)
			}
		})
	}
}

// TestHoldOfNewRecipients: what a hold of new recipients alone does to each of a
// message's recipients, at each stage, beside other holds.
func TestHoldOfNewRecipients(t *testing.T) {
	const (
		onlyNew = `hold contains {"rule": "unusual", "reason": "odd", "recipients": "new"}`
		later   = "\n" + `hold contains {"rule": "later", "reason": "later", "release_at": input.time + 3600000000000}`
		whole   = "\n" + `hold contains {"rule": "all", "reason": "all"}`
	)
	when := ` if input.message.subject == "odd"`
	for _, c := range []struct {
		name, stage, rules string
		known, new         mail.State
		forever            bool // the new one
	}{
		{"of the message", "message", onlyNew + when, mail.Queued, mail.Held, true},
		{"all of it as well", "message", onlyNew + when + whole + when, mail.Held, mail.Held, true},
		{"until later as well", "message", onlyNew + when + later + when, mail.Held, mail.Held, true},
		{"of the recipient", "recipient", onlyNew + ` if {input.recipient.first_time; input.envelope.from == "odd@acme.example"}`, mail.Queued, mail.Held, true},
		{"where nobody knows", "sender", onlyNew + ` if input.envelope.from == "odd@acme.example"`, mail.Held, mail.Held, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := map[string]string{c.stage: c.rules}
			if c.stage != "recipient" { // somebody asks who is new
				rules["recipient"] = `warn contains {"rule": "w", "reason": "new"} if {input.recipient.first_time; input.envelope.recipients > 100}`
			}
			w := ruled(t, rules, "")
			w.Accepted(w.App(), "app@acme.example", letter("even", reply), "known@there.example")
			st := w.Accepted(w.App(), "odd@acme.example", letter("odd", reply), "known@there.example", "new@there.example")
			known, fresh := st.Recipients[0], st.Recipients[1]
			if known.State != c.known || fresh.State != c.new || fresh.Next.IsZero() != c.forever {
				t.Errorf("known: %s, new: %s until %v", known.State, fresh.State, fresh.Next)
			}
			if c.known == mail.Queued && (known.Rule != "" || known.Reason != "") {
				t.Errorf("known: %+v", known)
			}
		})
	}
}

// TestHeldCounts: a message that is held as unusual for one recipient and goes to
// another is counted where messages are, also when that limit is named at the
// recipient stage; one of which nothing goes is not.
func TestHeldCounts(t *testing.T) {
	w := ruled(t, map[string]string{
		"recipient": `limit contains {"rule": "mails", "key": ["t"], "count": "messages", "rate": 10, "per": "24h"}`,
		"message": `hold contains {"rule": "unusual", "reason": "odd", "recipients": "new"} if {
			input.message.subject == "odd"
			input.envelope.new_recipients > 0
		}`,
	}, "")
	w.Accepted(w.App(), "app@acme.example", letter("even", reply), "old@there.example")
	for i := range 20 {
		w.Accepted(w.App(), "app@acme.example", letter("odd", reply), fmt.Sprintf("new%d@there.example", i))
	}
	for i := range 9 {
		w.Accepted(w.App(), "app@acme.example", letter("odd", reply), fmt.Sprintf("a%d@there.example", i), "old@there.example")
	}
	if _, err := w.Send(w.App(), "app@acme.example", letter("odd", reply), "b@there.example", "old@there.example"); err == nil {
		t.Error("messages that go to somebody are not counted")
	}
}

// TestTimedHoldsCount: new recipients whom a rule lets wait go out in time, so
// they are counted as those that go at once.
func TestTimedHoldsCount(t *testing.T) {
	w := ruled(t, map[string]string{
		"recipient": `hold contains {"rule": "later", "reason": "later", "release_at": time.format(time.add_date(input.time, 0, 0, 1))}`,
		"message":   `hold contains {"rule": "unusual", "reason": "odd", "recipients": "new"} if input.unusual.score >= 60`,
	}, "")
	timed := 0
	for i := range 400 {
		st := w.Accepted(w.App(), "app@acme.example", letter("Your mailbox", stolen), fmt.Sprintf("a%d@there.example", i))
		if r := st.Recipients[0]; r.State == mail.Held && !r.Next.IsZero() {
			timed++
		}
	}
	if timed > 300 || timed < 200 {
		t.Errorf("%d wait for the clock alone", timed)
	}
	// Nobody got mail yet.
	for i := range 20 {
		st := w.Accepted(w.App(), "app@acme.example", letter("Your mailbox", stolen), fmt.Sprintf("a%d@there.example", i))
		if !st.Recipients[0].Next.IsZero() {
			t.Fatalf("%+v", st.Recipients[0])
		}
	}
}
