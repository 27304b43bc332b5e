package main_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

var takeoverMessages = flag.Int("takeover", 2000, "messages of the thief in TestE2ETakeover")

// TestE2ETakeover: a thief sends with a tenant's secret to new people over twenty
// connections. At most 300 of them get mail, the tenant's own mail and its
// neighbour's goes on meanwhile, and one command releases what is held.
func TestE2ETakeover(t *testing.T) {
	w := lab.NewWorld(t, func(w *lab.World) string {
		return lab.MX("one.test", "mx.one.test", w.Sink.Host())
	}, nil)
	resources := ""
	for _, name := range []string{"victim", "neighbour"} {
		resources += "---\nkind: tenant\nname: " + name + "\nmethods: [name]\nallow_from_change: true\nroute: [ { upstream: mx } ]\n"
		for _, user := range []string{"a", "b"} {
			resources += "---\nkind: credential\ntenant: " + name + "\nname: " + user + "\nsecret: " + name + user + limitSecret + "\n"
		}
	}
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: resources[4:], LogLevel: "info"})
	open := func(tenant, user string) *session {
		s, err := dialSession(r.Submissions, tenant+"/"+user, tenant+user+limitSecret)
		if err != nil {
			t.Error(err)
		}
		return s
	}
	post := func(s *session, from, to, subject, text string) answer {
		for _, a := range s.talk("MAIL FROM:<"+from+">", "RCPT TO:<"+to+">", "DATA") {
			if a.code != 250 && a.code != 354 {
				return a
			}
		}
		return s.body("From: App <" + from + ">\r\nTo: " + to + "\r\nSubject: " + subject + "\r\n\r\n" + text + "\r\n")
	}
	const honest = "Hello, thank you for your question about the blue cover. It can be had again from next week on, and one is put aside for you."
	const stolen = "Dear customer, your mailbox is over its quota and will be closed today. Sign in at http://upgrade.test/ and confirm your password now."
	first := open("victim", "a")
	if a := post(first, "app@victim.test", "customer@one.test", "Re: cover", honest); a.code != 250 {
		t.Fatal(a)
	}
	ordinary := func(waits map[string][]time.Duration, i int) {
		for _, c := range []struct{ what, tenant, user, to string }{
			{"known recipients, the stolen credential", "victim", "a", "customer@one.test"},
			{"new recipients, the tenant's other credential", "victim", "b", fmt.Sprintf("new%d@one.test", i%20)},
			{"the neighbour", "neighbour", "a", fmt.Sprintf("new%d@one.test", i%20)},
		} {
			s := open(c.tenant, c.user)
			at := time.Now()
			if a := post(s, "app@"+c.tenant+".test", c.to, "Re: cover", honest); a.code != 250 {
				t.Errorf("%s/%s: %s", c.tenant, c.user, a)
			}
			waits[c.what] = append(waits[c.what], time.Since(at))
			s.conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	before, during := map[string][]time.Duration{}, map[string][]time.Duration{}
	for i := range 50 {
		ordinary(before, i)
	}
	var next, refused atomic.Int64
	var thief sync.WaitGroup
	begun := time.Now()
	for range 20 {
		thief.Go(func() {
			s := open("victim", "a")
			for s != nil {
				i := next.Add(1)
				if i > int64(*takeoverMessages) {
					return
				}
				if a := post(s, "app@victim.test", fmt.Sprintf("v%d@one.test", i), "Your mailbox", fmt.Sprint(stolen, " Case ", i)); a.code != 250 {
					refused.Add(1)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { thief.Wait(); close(over) }()
	rounds := 0
	for going := true; going; rounds++ {
		ordinary(during, rounds)
		select {
		case <-over:
			going = false
		default:
		}
	}
	took := time.Since(begun)
	var list []struct {
		Credential string
		Messages   int
	}
	if err := json.Unmarshal([]byte(r.MustCLI(t, "tenant", "unusual", "victim", "-o", "json")), &list); err != nil || len(list) != 1 || list[0].Credential != "victim/a" {
		t.Fatalf("%+v, %v", list, err)
	}
	out := *takeoverMessages - int(refused.Load()) - list[0].Messages
	if out > 300 || refused.Load() > 0 {
		t.Errorf("%d messages of the thief went out, %d were refused", out, refused.Load())
	}
	if other := r.MustCLI(t, "tenant", "unusual", "neighbour", "-o", "jsonl"); other != "" {
		t.Errorf("the neighbour: %s", other)
	}
	at := time.Now()
	released := r.MustCLI(t, "tenant", "release", "victim")
	t.Logf("%d messages in %v: %d went out, %d held; %s in %v",
		*takeoverMessages, took.Round(time.Millisecond), out, list[0].Messages, strings.TrimSpace(released), time.Since(at).Round(time.Millisecond))
	for what := range before {
		t.Logf("%s: %s before, %s during the attack", what, spread(before[what]), spread(during[what]))
	}
	if released != fmt.Sprintf("release: %d recipients changed\n", list[0].Messages) {
		t.Errorf("released %q of %d", released, list[0].Messages)
	}
	if left := r.MustCLI(t, "tenant", "unusual", "victim", "-o", "jsonl"); left != "" {
		t.Errorf("after the release: %s", left)
	}
	// What is another's attack is given up.
	s := open("neighbour", "b")
	defer s.conn.Close()
	for i := range 300 {
		if a := post(s, "app@neighbour.test", fmt.Sprintf("n%d@one.test", i), "Your mailbox", stolen); a.code != 250 {
			t.Fatal(a)
		}
	}
	if out, err := r.CLI(t, "", "tenant", "cancel", "neighbour", "--credential", "neighbour/a"); err == nil || !strings.Contains(out, "nothing of neighbour/a is held") {
		t.Errorf("%q, %v", out, err)
	}
	if err := json.Unmarshal([]byte(r.MustCLI(t, "tenant", "unusual", "neighbour", "-o", "json")), &list); err != nil || len(list) != 1 || list[0].Credential != "neighbour/b" {
		t.Fatalf("%+v, %v", list, err)
	}
	if all := r.MustCLI(t, "tenant", "cancel", "neighbour", "--reason", "stolen"); all != fmt.Sprintf("cancel: %d recipients changed\n", list[0].Messages) || list[0].Messages == 0 {
		t.Errorf("%q of %d", all, list[0].Messages)
	}
}

// spread tells of the median, 95 of 100 and the longest.
func spread(list []time.Duration) string {
	slices.Sort(list)
	at := func(f float64) time.Duration { return list[int(f*float64(len(list)-1))].Round(100 * time.Microsecond) }
	return fmt.Sprintf("%d messages, median %v, p95 %v, longest %v", len(list), at(0.5), at(0.95), at(1))
}
