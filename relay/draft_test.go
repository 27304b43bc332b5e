package relay_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/limit"
	"behalf/policy"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/spool"
	"behalf/tenant/suppress"
)

// unreadable is a store that nothing can be read from.
type unreadable struct{ kv.Store }

func (unreadable) View(context.Context, func(kv.Reader) error) error { return errors.New("disk gone") }

// withDraft is an intake whose policies have a draft beside them, and to which
// what is known of recipients and what was used is out of reach.
func withDraft(t *testing.T, w *relaytest.World, rules, draft string) *policy.Engine {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.rego"), []byte(draft), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := policy.New(t.Context(), policy.Options{Defaults: fstest.MapFS{"p.rego": {Data: []byte(rules)}}, Shadow: dir, Deadline: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	for end := time.Now().Add(20 * time.Second); e.Pin().Needs() == e.Active().Needs() && draft != rules; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			r, _ := e.Shadow()
			t.Fatalf("the draft is not tried: %+v", r)
		}
	}
	broken := unreadable{w.Store}
	w.Intake = relay.NewIntake(relay.Parts{
		Directory: w.Directory, Policy: e, Limits: w.Limits, Usage: limit.NewUsage(broken, limit.UsageOptions{}), Known: limit.NewKnown(broken), Habits: w.Habits, Bulk: limit.NewBulk(broken, limit.BulkOptions{}),
		Lists: suppress.New(w.Store), Store: w.Store, Spool: w.Spool, Planner: w.Planner, Offer: func(*spool.Stored) {}, Wait: func(context.Context) {},
	}, relay.Options{Hostname: relaytest.Hostname})
	return e
}

// TestDraftRefusesNothing: what only a draft wants to know, and cannot be had,
// stops no mail; the draft is not tried on it. What the set in force wants to know
// does.
func TestDraftRefusesNothing(t *testing.T) {
	const accepts = "package behalf.submission.sender\n"
	for name, reads := range map[string]string{
		"usage":      "package behalf.submission.sender\ntag contains {\"rule\": \"r\", \"value\": \"x\"} if input.usage[\"24h\"].messages > 5\n",
		"first time": "package behalf.submission.recipient\ntag contains {\"rule\": \"r\", \"value\": \"x\"} if input.recipient.first_time\n",
		"bulk":       "package behalf.submission.message\ntag contains {\"rule\": \"r\", \"value\": \"x\"} if input.bulk[0].recipients > 5\n",
		"unusual":    "package behalf.submission.message\ntag contains {\"rule\": \"r\", \"value\": \"x\"} if input.unusual.score > 5\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := relaytest.New(t, relaytest.Options{})
			w.Acme("")
			w.Publish("acme", "acme.example")
			send := func() error {
				_, err := w.Send(w.App(), "app@acme.example", "From: app@acme.example\nSubject: x\n\nhello\n", "you@gmail.com")
				return err
			}
			e := withDraft(t, w, accepts, reads)
			if err := send(); err != nil {
				t.Errorf("a draft refuses mail: %v", err)
			}
			if r, _ := e.Shadow(); r.Dropped == 0 {
				t.Errorf("it is not told that the draft was not tried: %+v", r)
			}
			withDraft(t, w, reads, reads)
			if err := send(); err == nil {
				t.Error("mail is accepted without what its rules want to know")
			}
		})
	}
}

// TestDraftWaitsForNoDNS: who only wants to know for a draft has the last answer,
// and the next is found out meanwhile.
func TestDraftWaitsForNoDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &names{addrs: map[string][]string{host: {"192.0.2.1"}}, slow: 400 * time.Millisecond}
		r := relay.NewReverseDNS(dns, host, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil)
		defer r.Wait()
		start := time.Now()
		for range 2 {
			if !r.Known(t.Context()) || time.Since(start) > 0 {
				t.Errorf("it waited %v", time.Since(start))
			}
		}
		time.Sleep(time.Second)
		if r.Known(t.Context()) || dns.asked != 1 {
			t.Errorf("the answer was not found out meanwhile, %d questions", dns.asked)
		}
	})
}
