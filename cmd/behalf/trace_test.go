package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/mail"
	"behalf/web/api"
)

// The trace of a message whose first way was down, that was deferred by the
// destination, held by a person and then refused: all that a trace can tell.
func TestTraceOfTrouble(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	at := time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)
	down := mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "the account refuses our login")
	grey := mail.Fail(451, mail.Enhanced{4, 7, 1}, mail.OfDestination, mail.ReasonRate, "greylisted")
	gone := mail.Fail(550, mail.Enhanced{5, 1, 1}, mail.OfRecipient, mail.ReasonNoMailbox, "no such user")
	attempt := func(after time.Duration, kind mail.EventType, a mail.Attempt, next time.Time) mail.Event {
		return mail.Event{At: at.Add(after), Type: kind, Recipients: []int{0}, Attempt: &a, Next: next}
	}
	m := api.Message{
		Tenant: "acme", Stream: "transactional", From: "support@acme.example", Subject: "line\nbreak \x1b[31m", MessageID: "<1@acme.example>", Size: 1234,
		Door: mail.DoorSMTP, Credential: "acme/app", MailFrom: "support@acme.example",
		Recipients: []api.Recipient{{Address: "guest@elsewhere.example", State: mail.Failed, Reason: "no such user"}, {Address: "late@elsewhere.example", State: mail.Deferred, Next: at.Add(time.Hour)}},
		Events: []mail.Event{
			{At: at, Type: mail.EventAccepted, Accepted: &mail.Acceptance{
				Client: "192.0.2.1:4321", TLS: "TLS 1.3 TLS_AES_128_GCM_SHA256",
				Policy:    []mail.Ruling{{Package: "behalf.submission.sender", Decision: "accept", Rules: []string{"limits.rego:plan-messages"}}},
				Choices:   []mail.Choice{{Method: mail.MethodConnection, Upstream: "conn:office", Holds: true, Chosen: true, Why: "the account may send as it"}},
				Alignment: mail.Alignment{From: "acme.example", SPF: "pass", DKIM: "pass", DMARC: "pass"},
			}},
			attempt(time.Second, mail.EventDeferred, mail.Attempt{Upstream: "conn:office", Method: mail.MethodConnection, Host: "smtp.acme.example", Took: 80 * time.Millisecond, Failure: down}, at.Add(2*time.Second)),
			attempt(2*time.Second, mail.EventDeferred, mail.Attempt{Upstream: "mx", Method: mail.MethodDomain, Host: "mx.elsewhere.example", Addr: "192.0.2.25:25", TLS: "TLS 1.3, unverified",
				Signed: []string{"d=acme.example s=b1 a=rsa-sha256"}, From: "b-x@bounce.acme.example", Reply: "451 4.7.1 greylisted\nplease wait", Took: 1500 * time.Millisecond, Failure: grey}, at.Add(5*time.Minute)),
			{At: at.Add(time.Minute), Type: mail.EventHeld, Actor: "admin", Reason: "looks odd", Recipients: []int{0, 1}},
			attempt(5*time.Minute, mail.EventFailed, mail.Attempt{Upstream: "mx", Method: mail.MethodDomain, Host: "mx.elsewhere.example", Addr: "192.0.2.25:25", Reply: "550 5.1.1 no such user", Took: time.Second, Failure: gone}, time.Time{}),
		},
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeTrace(&out, raw); err != nil {
		t.Fatal(err)
	}
	golden(t, "trace-trouble.txt", out.String())
}

// The trace shows the thresholds of limits that a message was the first to reach;
// of a limit that is shared with others, a tenant is shown that it reached it.
func TestTraceOfLimits(t *testing.T) {
	event := func(kind mail.EventType, l mail.LimitEvent) mail.Event {
		l.Rule, l.Count, l.Allowed = "limits.rego:daily", "recipients", 200
		e, ok := mail.Event{At: time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC), Type: kind, Limit: &l}.ToTenant()
		if !ok {
			t.Errorf("%s is not shown", kind)
		}
		return e
	}
	raw, err := json.Marshal(api.Message{Events: []mail.Event{
		event(mail.EventLimitWarning, mail.LimitEvent{Used: 151, Percent: 75}),
		event(mail.EventLimitReached, mail.LimitEvent{Used: 200, Percent: 100}),
		event(mail.EventLimitReached, mail.LimitEvent{Used: 200, Percent: 100, Shared: true}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeTrace(&out, raw); err != nil {
		t.Fatal(err)
	}
	var told []string
	for line := range strings.Lines(out.String()) {
		if _, text, ok := strings.Cut(line, "  limit      "); ok {
			told = append(told, strings.TrimSpace(text))
		}
	}
	want := []string{
		"limits.rego:daily: 151 of 200 recipients used, first to pass 75 %",
		"limits.rego:daily: 200 of 200 recipients used, first to pass 100 %",
		"limits.rego:daily: reached; it is shared with others",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q in\n%s", told, out.String())
	}
}

// The trace of a message about which policy said all that it can say.
func TestTraceOfPolicy(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	at := time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)
	m := api.Message{
		Tenant: "acme", Stream: "transactional", From: "support@acme.example", Subject: "salaries", MessageID: "<1@acme.example>", Size: 1234,
		Door: mail.DoorSMTP, Credential: "acme/app", MailFrom: "support@acme.example",
		Recipients: []api.Recipient{{Address: "bob@elsewhere.example", State: mail.Queued, Next: at.Add(time.Hour)}, {Address: "eve@elsewhere.example", State: mail.Held, Reason: "a second person looks"}},
		Events: []mail.Event{
			{At: at, Type: mail.EventAccepted, Accepted: &mail.Acceptance{
				Client: "192.0.2.1:4321",
				Policy: []mail.Ruling{
					{Package: "behalf.submission.sender", Decision: "pace", Rules: []string{"limits.rego:plan"}},
					{Package: "behalf.submission.message", Decision: "hold", Rules: []string{"four-eyes.rego:four-eyes"}, Detail: "found in\nthe subject", About: "eve@elsewhere.example",
						Tags: []string{"four-eyes", "staff"}, Warnings: []string{"mind this", "and that"}, Rewrites: []string{"prefix Subject [INTERNAL]", "add X-Seen yes"}},
				},
			}},
			{At: at, Type: mail.EventHeld, Recipients: []int{1}, Reason: "a second person looks"},
			{At: at, Type: mail.EventPaced, Recipients: []int{0}, Next: at.Add(time.Hour), Reason: "over the limit plan: 10 messages in 24h"},
		},
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeTrace(&out, raw); err != nil {
		t.Fatal(err)
	}
	golden(t, "trace-policy.txt", out.String())
}
