package policy

import (
	"testing"
	"time"

	"behalf/mail"
)

func TestCompare(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	deny := Decision{Action: Deny, Code: 550, Enhanced: mail.Enhanced{5, 7, 1}, Reason: "no", Rules: []string{"identity.rego:identity-missing", "a.rego:tag"}}
	with := func(d Decision, change func(*Decision)) Decision {
		change(&d)
		return d
	}
	daily := Limit{Rule: "limits.rego:daily", Key: []string{"tenant", "1"}, Count: CountRecipients, Rate: 1000, Per: 24 * time.Hour, Burst: 200, Over: OverPace, MaxWait: 90 * time.Minute}
	hourly := Limit{Rule: "limits.rego:hourly", Key: []string{"tenant", "1"}, Count: CountMessages, Rate: 10, Per: time.Hour, Burst: 10}
	limited := func(l ...Limit) Decision { return Decision{Limits: l} }
	slower := daily
	slower.Rate = 500
	hold := Decision{Action: Hold, Reason: "look", ReleaseAt: noon, Rules: []string{"h.rego:h"}}
	const message, recipient = PackageMessage, PackageRecipient
	for name, tt := range map[string]struct {
		pkg        string
		was, would Decision
		want       string // the summary; empty: the same
		rules      [2]string
	}{
		"nothing":                {message, Decision{Digest: "a"}, Decision{Digest: "b"}, "", [2]string{}},
		"the log only":           {message, with(deny, func(d *Decision) { d.Detail = "x" }), deny, "", [2]string{}},
		"another rule, the same": {message, with(deny, func(d *Decision) { d.Rules = []string{"b.rego:b"} }), deny, "", [2]string{}},
		"refused": {message, Decision{Rules: []string{"a.rego:tag"}}, deny,
			"accept -> deny 550 5.7.1 by identity.rego:identity-missing", [2]string{"", "identity.rego:identity-missing"}},
		"let through": {message, deny, Decision{}, "deny 550 5.7.1 by identity.rego:identity-missing -> accept", [2]string{"identity.rego:identity-missing", ""}},
		"another code": {message, deny, with(deny, func(d *Decision) { d.Code = 554 }),
			"deny 550 5.7.1 by identity.rego:identity-missing -> deny 554 5.7.1 by identity.rego:identity-missing",
			[2]string{"identity.rego:identity-missing", "identity.rego:identity-missing"}},
		"another word": {message, deny, with(deny, func(d *Decision) { d.Reason = "never" }),
			"deny 550 5.7.1 by identity.rego:identity-missing: reason no -> never",
			[2]string{"identity.rego:identity-missing", "identity.rego:identity-missing"}},
		"what a refused message would have got": {message, with(deny, func(d *Decision) { d.Tags, d.Limits = []string{"t"}, []Limit{daily} }), deny, "", [2]string{}},
		"sets in another order": {message, Decision{Tags: []string{"a", "b"}, Warnings: []string{"x", "y", "x"}, Limits: []Limit{daily, hourly}},
			Decision{Tags: []string{"b", "a"}, Warnings: []string{"y", "x"}, Limits: []Limit{hourly, daily, daily}}, "", [2]string{}},
		"a limit's defaults": {message, limited(hourly), limited(with2(hourly, func(l *Limit) { l.Over, l.MaxWait = OverDefer, time.Hour })), "", [2]string{}},
		"a slower limit": {message, limited(daily, hourly), limited(slower, hourly),
			"limit limits.rego:daily: 1000 recipients in 24h, burst 200, over pace for up to 1h30m by tenant 1 -> limits.rego:daily: 500 recipients in 24h, burst 200, over pace for up to 1h30m by tenant 1",
			[2]string{"limits.rego:daily", "limits.rego:daily"}},
		"a limit more": {recipient, limited(), limited(hourly),
			"limit none -> limits.rego:hourly: 10 messages in 1h, burst 10, over defer by tenant 1", [2]string{"", "limits.rego:hourly"}},
		"a limit less": {recipient, limited(hourly), limited(),
			"limit limits.rego:hourly: 10 messages in 1h, burst 10, over defer by tenant 1 -> none", [2]string{"limits.rego:hourly", ""}},
		"a renamed limit counts anew": {recipient, limited(hourly), limited(with2(hourly, func(l *Limit) { l.Rule = "limits.rego:hour" })),
			"limit limits.rego:hourly: 10 messages in 1h, burst 10, over defer by tenant 1 -> none; limit none -> limits.rego:hour: 10 messages in 1h, burst 10, over defer by tenant 1",
			[2]string{"limits.rego:hourly", ""}},
		"another order of the route": {message, Decision{Route: []mail.UpstreamID{"mx", "platform"}}, Decision{Route: []mail.UpstreamID{"platform", "mx"}},
			"route mx, platform -> platform, mx", [2]string{}},
		"a route that nobody reads": {recipient, Decision{Route: []mail.UpstreamID{"mx"}}, Decision{}, "", [2]string{}},
		"a tag":                     {message, Decision{Rules: []string{"a.rego:a"}}, Decision{Tags: []string{"t"}, Rules: []string{"a.rego:a", "t.rego:t"}}, "tags none -> t", [2]string{"", "t.rego:t"}},
		"edits of other fields in another order": {message,
			Decision{Edits: []mail.Edit{{Op: mail.EditAdd, Name: "X-A", Value: "1"}, {Op: mail.EditAdd, Name: "X-B", Value: "1"}}},
			Decision{Edits: []mail.Edit{{Op: mail.EditAdd, Name: "x-b", Value: "1"}, {Op: mail.EditAdd, Name: "X-A", Value: "1"}}}, "", [2]string{}},
		"edits of one field in another order": {message,
			Decision{Edits: []mail.Edit{{Op: mail.EditAdd, Name: "X-A", Value: "1"}, {Op: mail.EditAdd, Name: "X-A", Value: "2"}}},
			Decision{Edits: []mail.Edit{{Op: mail.EditAdd, Name: "X-A", Value: "2"}, {Op: mail.EditAdd, Name: "X-A", Value: "1"}}},
			"edits add X-A 1, add X-A 2 -> add X-A 2, add X-A 1", [2]string{}},
		"held longer":    {message, hold, with(hold, func(d *Decision) { d.ReleaseAt = noon.Add(time.Hour) }), "release_at 2026-05-01T12:00:00Z -> 2026-05-01T13:00:00Z", [2]string{}},
		"the same hold":  {message, hold, with(hold, func(d *Decision) { d.ReleaseAt = noon.In(time.FixedZone("", 3600)) }), "", [2]string{}},
		"held, not sent": {message, Decision{}, hold, "accept -> hold by h.rego:h", [2]string{"", "h.rego:h"}},
		"paced later": {recipient, Decision{Action: Pace, Until: noon, Reason: "a"}, Decision{Action: Pace, Until: noon.Add(time.Minute), Reason: "b"},
			"until 2026-05-01T12:00:00Z -> 2026-05-01T12:01:00Z", [2]string{}},
	} {
		got := Compare(tt.pkg, &tt.was, &tt.would)
		if got == nil {
			if tt.want != "" {
				t.Errorf("%s: no difference; want %s", name, tt.want)
			}
			continue
		}
		if got.Summary != tt.want || got.WasRule != tt.rules[0] || got.WouldRule != tt.rules[1] {
			t.Errorf("%s:\n got %q by %q, %q\nwant %q by %q", name, got.Summary, got.WasRule, got.WouldRule, tt.want, tt.rules)
		}
		if back := Compare(tt.pkg, &tt.would, &tt.was); back == nil || len(back.Changes) != len(got.Changes) {
			t.Errorf("%s: the other way round it is %+v", name, back)
		}
	}
}

func with2(l Limit, change func(*Limit)) Limit {
	change(&l)
	return l
}

func TestCompareOfEqualsAllocatesNothing(t *testing.T) {
	d := Decision{Action: Hold, Reason: "x", Rules: []string{"a"}, Tags: []string{"a", "b"}, Limits: []Limit{{Rule: "r", Key: []string{"k"}, Rate: 1, Per: time.Hour}}}
	e := d
	if n := testing.AllocsPerRun(100, func() { Compare(PackageMessage, &d, &e) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
