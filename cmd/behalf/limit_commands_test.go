package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"behalf/web/api"
)

// The limits of a tenant are shown as a table and as data: those that hold before
// its first message, then what that one took, the binding limit first.
func TestTenantLimitsCommand(t *testing.T) {
	d := acmeDesk(t)
	limits := func() (all []api.MetLimit) {
		for line := range strings.Lines(d.ok("tenant", "limits", "acme", "-o", "jsonl")) {
			var l api.MetLimit
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			all = append(all, l)
		}
		return all
	}
	before := limits()
	if len(before) == 0 || slices.ContainsFunc(before, func(l api.MetLimit) bool { return l.Used == nil || *l.Used != 0 }) {
		t.Errorf("before anything was sent: %+v", before)
	}
	for range 2 {
		queued(t, d.ok("send", "--from", "support@acme.example", "--to", "guest@elsewhere.example", "--subject", "Hi", "--text", "hello", "--tenant", "acme"))
	}
	got := limits()
	if len(got) == 0 || !got[0].Binding {
		t.Fatalf("%+v", got)
	}
	at := slices.IndexFunc(got, func(l api.MetLimit) bool { return l.Rule == "limits.rego:plan-messages" })
	if at < 0 || got[at].Shared || got[at].Used == nil || *got[at].Used != 2 {
		t.Fatalf("%+v", got)
	}
	table := d.ok("tenant", "limits", "acme")
	head, rows, _ := strings.Cut(table, "\n")
	if names := strings.Join(strings.Fields(head), " "); names != "RULE KEY COUNT USED BURST RATE PER OVER BINDS RESET REFUSED PACED HELD" {
		t.Errorf("the columns are %s", names)
	}
	if strings.Count(rows, "\n") != len(got) || !strings.HasPrefix(rows, got[0].Rule+" ") || !strings.Contains(rows, "limits.rego:plan-messages") {
		t.Errorf("%s", table)
	}
	if r := d.behalf("tenant", "limits", "nobody"); r.code != exitFailed || !strings.Contains(r.err, "no such thing") {
		t.Errorf("%+v", r)
	}
	if r := d.behalf("tenant", "limits"); r.code == 0 {
		t.Errorf("without a tenant: %+v", r)
	}
}
