package replay_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"behalf/internal/keyring"
	"behalf/mail"
	"behalf/policy"
	"behalf/policy/journal"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/relay/replay"
)

const body = "From: Acme <app@acme.example>\nTo: bob@there.example\nSubject: Your order\n\nhello\n"

// world is a relay that records. The tenant's domain is published.
func world(t testing.TB, rules map[string]string) (*relaytest.World, *replay.Runner) {
	t.Helper()
	keys, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.TempDir(), keys, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	w := relaytest.New(t, relaytest.Options{Rules: rules, Intake: func(o *relay.Options) { o.Journal = j }})
	w.Acme(`"labels":{"plan":"default"}`)
	w.Publish("acme", "acme.example")
	return w, &replay.Runner{Journal: j}
}

func run(t testing.TB, r *replay.Runner, set replay.Set, o replay.Options) *replay.Report {
	t.Helper()
	report, err := r.Run(t.Context(), set, o)
	if err != nil {
		t.Fatal(err)
	}
	if sum := report.Same + report.Differing + report.NotReached + report.Undecidable; sum != report.Decisions {
		t.Errorf("%d decisions, but %d in all kinds", report.Decisions, sum)
	}
	if report.Unreadable > 0 {
		t.Errorf("unreadable: %v", report.Skipped)
	}
	return report
}

func candidate(t testing.TB, w *relaytest.World, files map[string]string) policy.Pinned {
	t.Helper()
	dir := fstest.MapFS{}
	for name, text := range files {
		dir[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := w.Policy.Candidate(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// traffic sends messages of many kinds: accepted, refused at each stage, and
// given up.
func traffic(t testing.TB, w *relaytest.World, transactions, recipients int) {
	t.Helper()
	ctx := context.Background()
	p := w.App()
	for i := range transactions {
		from, text := "app@acme.example", body
		switch i % 10 {
		case 3: // no identity
			text = strings.Replace(body, "app@acme.example", "somebody@elsewhere.example", 1)
		case 5: // an attachment of a forbidden type
			text = "From: app@acme.example\nSubject: x\nMIME-Version: 1.0\nContent-Type: application/octet-stream; name=\"x.exe\"\nContent-Disposition: attachment; filename=\"x.exe\"\n\nMZ\n"
		}
		tr, err := w.Intake.Begin(ctx, p, relaytest.Client(), mail.Envelope{From: relaytest.Address(t, from)}, 0)
		if err != nil {
			continue
		}
		for n := range recipients {
			tr.Recipient(ctx, mail.Recipient{Address: relaytest.Address(t, fmt.Sprintf("bob%d@there%d.example", i*recipients+n, n%7))})
		}
		if i%10 == 7 {
			tr.Abort()
			continue
		}
		if _, err := tr.Write([]byte(relaytest.CRLF(text))); err != nil {
			t.Fatal(err)
		}
		tr.Commit(ctx)
	}
}

// TestNoDifference: what the set in force decided, it decides again.
func TestNoDifference(t *testing.T) {
	w, r := world(t, nil)
	traffic(t, w, 300, 33)
	report := run(t, r, w.Policy.Active(), replay.Options{})
	if report.Decisions < 10_000 || report.Transactions != 300 {
		t.Errorf("%d decisions of %d transactions", report.Decisions, report.Transactions)
	}
	if !report.Clean() || report.Same != report.Decisions {
		t.Errorf("%+v", report)
	}
	if len(report.Tenants) != 1 || report.Tenants[0].Tenant != "acme" || report.Tenants[0].Decisions != report.Decisions {
		t.Errorf("tenants %+v", report.Tenants)
	}
}

// TestChangedRule: exactly what a changed rule decides otherwise is found, and
// what would not be asked any more does not count as different.
func TestChangedRule(t *testing.T) {
	w, r := world(t, map[string]string{
		"r.rego": "package behalf.submission.recipient\ndeny contains {\"rule\":\"no-seven\",\"reason\":\"not seven\"} if startswith(input.recipient.address, \"bob7@\")\n",
		"m.rego": "package behalf.submission.message\ndeny contains {\"rule\":\"size\",\"reason\":\"too large\"} if input.message.size > 1000000\n",
	})
	traffic(t, w, 10, 3) // bob0 to bob29; transaction 7 is given up
	set := candidate(t, w, map[string]string{
		"r.rego": "package behalf.submission.recipient\ndeny contains {\"rule\":\"no-there2\",\"reason\":\"not there\"} if input.recipient.domain == \"there2.example\"\n" +
			"deny contains {\"rule\":\"no-first\",\"reason\":\"none of yours\"} if input.recipient.address in {\"bob0@there0.example\", \"bob1@there1.example\"}\n",
		"m.rego": "package behalf.submission.message\ndeny contains {\"rule\":\"subject\",\"reason\":\"no orders\"} if input.message.subject == \"Your order\"\n",
	})
	var told []replay.Example
	report := run(t, r, set, replay.Options{Difference: func(e *replay.Example) error { told = append(told, *e); return nil }})
	// All third recipients (10), two of the first transaction, bob7 who was
	// refused and is not any more, and the message stage of those with an order
	// that still have a recipient: not the first, not 5 (no such subject), not 7.
	kinds := map[string]int{}
	for _, k := range report.Rules {
		kinds[k.Was+" "+k.WasRule+" -> "+k.Would+" "+k.WouldRule] = k.Decisions
	}
	want := map[string]int{"accept  -> deny r.rego:no-there2": 10, "accept  -> deny r.rego:no-first": 2, "deny r.rego:no-seven -> accept ": 1, "accept  -> deny m.rego:subject": 7}
	if !reflect.DeepEqual(kinds, want) || report.Differing != 20 || len(told) != 20 {
		t.Errorf("%d differ, %d told\n got %v\nwant %v", report.Differing, len(told), kinds, want)
	}
	if report.NotReached != 1 || report.Decisions != 10+30+9 {
		t.Errorf("%d of %d not reached", report.NotReached, report.Decisions)
	}
	for _, e := range report.Examples {
		if e.Tenant != "acme" || e.Credential != "acme/app" || e.Time.IsZero() || e.Difference.Summary == "" {
			t.Errorf("example %+v", e)
		}
		if e.Package == policy.PackageMessage && (e.Subject != "Your order" || e.Message.IsZero() == strings.HasPrefix(e.From, "app@")) {
			t.Errorf("example %+v", e)
		}
	}
	if got := run(t, r, set, replay.Options{Examples: 4}).Examples; len(got) != 4 || got[0].Difference.WouldRule == got[1].Difference.WouldRule {
		t.Errorf("four examples of four kinds: %+v", got)
	}
	if got := run(t, r, set, replay.Options{Tenant: "globex"}); got.Decisions != 0 {
		t.Errorf("of another tenant %d decisions", got.Decisions)
	}
	if got := run(t, r, set, replay.Options{Since: time.Now()}); got.Decisions != 0 {
		t.Errorf("since now %d decisions", got.Decisions)
	}
}

// TestSenderRefused: nothing after a refusal at MAIL counts.
func TestSenderRefused(t *testing.T) {
	w, r := world(t, map[string]string{"m.rego": "package behalf.submission.message\nwarn contains {\"rule\":\"w\",\"reason\":\"hm\"}\n"})
	traffic(t, w, 5, 4)
	report := run(t, r, candidate(t, w, map[string]string{
		"s.rego": "package behalf.submission.sender\ndefer contains {\"rule\":\"later\",\"reason\":\"later\"}\n",
	}), replay.Options{})
	if report.Differing != 5 || report.NotReached != 5*5 || report.Decisions != 5*6 {
		t.Errorf("%+v", report)
	}
}

// TestChangedLimit shows how many messages more a smaller limit would have
// deferred, and a pace that would have held up some.
func TestChangedLimit(t *testing.T) {
	limited := func(rate int, over string) string {
		return fmt.Sprintf("package behalf.submission.sender\nlimit contains {\"rule\":\"hourly\",\"key\":[\"tenant\",input.tenant.id],\"count\":\"recipients\",\"rate\":%d,\"per\":\"1h\",\"burst\":%d,\"over\":%q}\n", rate, rate, over)
	}
	w, r := world(t, map[string]string{"l.rego": limited(15, "defer")})
	for range 20 {
		w.Send(w.App(), "app@acme.example", body, "bob@there.example")
	}
	if n := len(w.Offered()); n != 15 {
		t.Fatalf("%d accepted", n)
	}
	if report := run(t, r, w.Policy.Active(), replay.Options{}); !report.Clean() {
		t.Errorf("%+v", report)
	}
	report := run(t, r, candidate(t, w, map[string]string{"l.rego": limited(10, "defer")}), replay.Options{})
	want := []replay.LimitCount{{Tenant: "acme", Rule: "l.rego:hourly", Was: replay.Stops{Deferred: 5}, Would: replay.Stops{Deferred: 10}}}
	if !reflect.DeepEqual(report.Limits, want) || report.Differing != 20 {
		t.Errorf("%+v, %d differ", report.Limits, report.Differing)
	}
	report = run(t, r, candidate(t, w, map[string]string{"l.rego": limited(10, "pace")}), replay.Options{})
	want[0].Would = replay.Stops{Paced: 10}
	// The five that were deferred then did not come to the message stage, and
	// would not be accepted for lack of bytes; they were asked for all the same.
	if len(report.Limits) != 1 || report.Limits[0].Was != want[0].Was || report.Limits[0].Would.Deferred != 0 || report.Limits[0].Would.Paced < 5 {
		t.Errorf("%+v", report.Limits)
	}
}

// TestDeclaredSize: what a limit on bytes refuses at MAIL by the declared size,
// before the bytes come, it refuses in a replay; and what no SIZE was given for
// at the message stage.
func TestDeclaredSize(t *testing.T) {
	limited := func(rate int) string {
		return fmt.Sprintf("package behalf.submission.sender\nlimit contains {\"rule\":\"bytes\",\"key\":[\"tenant\",input.tenant.id],\"count\":\"bytes\",\"rate\":%d,\"per\":\"1h\",\"burst\":%d}\n", rate, rate)
	}
	w, r := world(t, map[string]string{"l.rego": limited(10_000)})
	text := relaytest.CRLF(body + strings.Repeat("x", 4000-len(body)))
	at, taken := make(map[string]int), 0
	for i := range 8 {
		declared := int64(0)
		if i%2 == 0 {
			declared = int64(len(text))
		}
		tr, err := w.Intake.Begin(t.Context(), w.App(), relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, declared)
		if err != nil {
			at["MAIL"]++
			continue
		}
		if err := tr.Recipient(t.Context(), mail.Recipient{Address: relaytest.Address(t, "bob@there.example")}); err != nil {
			t.Fatal(err)
		}
		tr.Write([]byte(text))
		if _, err := tr.Commit(t.Context()); err != nil {
			at["DATA"]++
		} else {
			taken++
		}
	}
	if taken != 2 || at["MAIL"] != 3 || at["DATA"] != 3 {
		t.Fatalf("%d taken, refused at %v", taken, at)
	}
	if report := run(t, r, w.Policy.Active(), replay.Options{}); !report.Clean() {
		t.Errorf("%+v", report)
	}
	report := run(t, r, candidate(t, w, map[string]string{"l.rego": limited(5000)}), replay.Options{})
	want := []replay.LimitCount{{Tenant: "acme", Rule: "l.rego:bytes", Was: replay.Stops{Deferred: 6}, Would: replay.Stops{Deferred: 7}}}
	if !reflect.DeepEqual(report.Limits, want) {
		t.Errorf("%+v", report.Limits)
	}
}

// TestMissingFacts: what nobody gathered cannot be decided, at the stages that
// read it.
func TestMissingFacts(t *testing.T) {
	w, r := world(t, map[string]string{"m.rego": "package behalf.submission.message\nwarn contains {\"rule\":\"w\",\"reason\":\"hm\"}\n"})
	traffic(t, w, 4, 2)
	report := run(t, r, candidate(t, w, map[string]string{
		"m.rego": "package behalf.submission.message\nwarn contains {\"rule\":\"w\",\"reason\":\"hm\"}\ndeny contains {\"rule\":\"x\",\"reason\":\"x\"} if input.message.headers[0][0] == \"X\"\n",
	}), replay.Options{})
	if report.Undecidable != 4 || report.Same != 4*3 || !reflect.DeepEqual(report.MissingFacts, []replay.FactCount{{Fact: "message.headers", Decisions: 4}}) {
		t.Errorf("%+v", report)
	}
	report = run(t, r, candidate(t, w, map[string]string{
		"r.rego": "package behalf.submission.recipient\ndefer contains {\"rule\":\"x\",\"reason\":\"x\"} if {\n\tinput.recipient.first_time\n\tinput.usage[\"1h\"].messages > 3\n}\n",
	}), replay.Options{})
	if report.Undecidable != report.Decisions || len(report.MissingFacts) != 2 {
		t.Errorf("%+v", report)
	}
}

// TestErrors of either side are differences, and alike on both are none.
func TestErrors(t *testing.T) {
	broken := "package behalf.submission.message\ndeny contains {\"rule\": \"r\", \"reason\": sprintf(\"%v\", [x])} if {\n\tx := to_number(input.message.subject)\n}\n"
	w, r := world(t, map[string]string{"m.rego": broken})
	if _, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example"); mail.AsFailure(err).Code != 451 {
		t.Fatal(err)
	}
	if report := run(t, r, w.Policy.Active(), replay.Options{}); !report.Clean() {
		t.Errorf("%+v", report)
	}
	report := run(t, r, candidate(t, w, map[string]string{"m.rego": "package behalf.submission.message\nwarn contains {\"rule\":\"w\",\"reason\":\"hm\"}\n"}), replay.Options{})
	if report.Differing != 1 || report.Rules[0].Was != "error" || report.Errors != 0 {
		t.Errorf("%+v", report)
	}
	w, r = world(t, map[string]string{"m.rego": "package behalf.submission.message\nwarn contains {\"rule\":\"w\",\"reason\":\"hm\"}\n"})
	traffic(t, w, 1, 1)
	report = run(t, r, candidate(t, w, map[string]string{"m.rego": broken}), replay.Options{})
	if report.Differing != 1 || report.Errors != 1 || report.Rules[0].Would != "error" || !strings.Contains(report.Examples[0].Difference.Summary, "accept -> error: ") {
		t.Errorf("%+v", report)
	}
}

// TestOneAtATime, which can be stopped and then run again.
func TestOneAtATime(t *testing.T) {
	w, r := world(t, nil)
	traffic(t, w, 3, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var second error
	_, err := r.Run(ctx, w.Policy.Active(), replay.Options{Progress: func(replay.Progress) error {
		_, second = r.Run(t.Context(), w.Policy.Active(), replay.Options{})
		cancel()
		return nil
	}})
	if !errors.Is(err, context.Canceled) || !errors.Is(second, replay.ErrBusy) {
		t.Errorf("stopped: %v; beside it: %v", err, second)
	}
	gone := errors.New("gone")
	if _, err := r.Run(t.Context(), w.Policy.Active(), replay.Options{Progress: func(replay.Progress) error { return gone }}); !errors.Is(err, gone) {
		t.Error(err)
	}
	run(t, r, w.Policy.Active(), replay.Options{})
	if _, err := new(replay.Runner).Run(t.Context(), w.Policy.Active(), replay.Options{}); !errors.Is(err, replay.ErrOff) {
		t.Error(err)
	}
}

// TestRecorded: a transaction leaves one record, however it ends.
func TestRecorded(t *testing.T) {
	w, r := world(t, nil)
	receipt, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
	if err != nil {
		t.Fatal(err)
	}
	w.Send(w.App(), "app@acme.example", strings.Replace(body, "app@acme.example", "x@elsewhere.example", 1), "bob@there.example")
	tr, err := w.Intake.Begin(t.Context(), w.App(), relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	tr.Abort()
	in, err := r.Journal.Read(time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var got []string
	for in.Next() {
		e := in.Entry()
		got = append(got, fmt.Sprintf("%d asks, accepted %v %v, %d %s", len(e.Asks), e.End.Accepted, e.End.Message == receipt.ID, e.End.Code, e.End.Reason))
		if e.Digest != w.Policy.Status().Digest || e.Credential.Username != "acme/app" {
			t.Errorf("entry %+v", e)
		}
	}
	want := []string{"3 asks, accepted true true, 0 ", "3 asks, accepted false false, 550 not-authentic", "1 asks, accepted false false, 0 "}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
