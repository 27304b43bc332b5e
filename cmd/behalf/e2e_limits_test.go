package main_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

var limitsTime = flag.Duration("limits.time", 4*time.Second, "how long limits are hammered before the graceful restart, and after it")

// limitClass is a tenant whose mail one kind of limit binds.
type limitClass struct {
	name  string
	users []string // credentials of its tenant
	froms []string // envelope senders
	to    []string // recipient domains
	key   func(p *probe) string
	// units is how much of the limit one delivery takes.
	units   func(p *probe) float64
	buckets []bucket      // its limits
	maxWait time.Duration // how far ahead accepted mail may be booked
	workers int
}

const limitSecret = "-secret-0123456789abcdefghijklmnopqrstuvwxyzABCDEF"

func one(*probe) float64 { return 1 }

// bucket is one limit: a burst, and then so many a second.
type bucket struct{ rate, burst float64 }

// seen is what became of a bucket: what is in it, and what ran over because
// nobody asked for it.
type seen struct{ left, lost float64 }

func limitClasses() []*limitClass {
	sink := []string{"sink.test"}
	return []*limitClass{
		{name: "tenant", users: []string{"a", "b"}, to: sink, units: one, buckets: []bucket{{4, 20}}, workers: 4,
			key: func(*probe) string { return "tenant" }},
		{name: "credential", users: []string{"a", "b"}, to: sink, units: one, buckets: []bucket{{2.5, 12}}, workers: 4,
			key: func(p *probe) string { return "credential " + p.user }},
		{name: "domain", users: []string{"a"}, to: []string{"one.test", "two.test"}, units: one, buckets: []bucket{{4, 20}}, workers: 3,
			key: func(p *probe) string { return "domain " + p.to }},
		{name: "address", users: []string{"a"}, froms: []string{"x@limits.test", "y@limits.test"}, to: sink, units: one, buckets: []bucket{{2, 10}}, workers: 3,
			key: func(p *probe) string { return "address " + p.from }},
		{name: "windows", users: []string{"a"}, to: sink, units: one, buckets: []bucket{{4, 10}, {2, 22}}, workers: 2,
			key: func(*probe) string { return "windows" }},
		{name: "bytes", users: []string{"a"}, to: sink, buckets: []bucket{{4000, 20000}}, workers: 2,
			units: func(p *probe) float64 { return float64(p.size) },
			key:   func(*probe) string { return "bytes" }},
		{name: "pace", users: []string{"a"}, to: sink, units: one, buckets: []bucket{{3, 12}}, maxWait: 3 * time.Second, workers: 1,
			key: func(*probe) string { return "pace" }},
		{name: "hold", users: []string{"a"}, to: sink, units: one, buckets: []bucket{{3, 12}}, maxWait: 2 * time.Second, workers: 1,
			key: func(*probe) string { return "hold" }},
	}
}

// The limits of limitClasses. Each class has a label; all stand in one set, so
// that every message is asked about all of them.
const limitSender = `package behalf.submission.sender

class := object.get(input.tenant.labels, "class", "")

limit contains {"rule": "tenant", "key": ["tenant", input.tenant.id], "count": "messages", "rate": 4, "per": "1s", "burst": 20} if class == "tenant"

limit contains {"rule": "credential", "key": ["credential", input.credential.username], "count": "messages", "rate": 150, "per": "1m", "burst": 12} if class == "credential"

limit contains {"rule": "address", "key": ["address", input.envelope.from], "count": "messages", "rate": 2, "per": "1s", "burst": 10} if class == "address"

limit contains {"rule": "second", "key": ["tenant", input.tenant.id], "count": "messages", "rate": 4, "per": "1s", "burst": 10} if class == "windows"

limit contains {"rule": "minute", "key": ["tenant", input.tenant.id], "count": "messages", "rate": 120, "per": "1m", "burst": 22} if class == "windows"

limit contains {"rule": "bytes", "key": ["tenant", input.tenant.id], "count": "bytes", "rate": 4000, "per": "1s", "burst": 20000} if class == "bytes"

limit contains {"rule": "pace", "key": ["tenant", input.tenant.id], "count": "messages", "rate": 3, "per": "1s", "burst": 12, "over": "pace", "max_wait": "3s"} if class == "pace"

limit contains {"rule": "hold", "key": ["tenant", input.tenant.id], "count": "messages", "rate": 3, "per": "1s", "burst": 12, "over": "hold", "max_wait": "2s"} if class == "hold"

# Wide enough never to bind: what these count must come back too.
limit contains {"rule": "day", "key": ["tenant", input.tenant.id], "count": "recipients", "rate": 1000000, "per": "24h"}
`

const limitRecipient = `package behalf.submission.recipient

limit contains {"rule": "domain", "key": ["to", input.tenant.id, input.recipient.domain], "count": "recipients", "rate": 4, "per": "1s", "burst": 20} if {
	object.get(input.tenant.labels, "class", "") == "domain"
}

deny contains {"rule": "nowhere", "reason": "nobody is there"} if input.recipient.domain == "nowhere.test"
`

const limitMessage = `package behalf.submission.message

deny contains {"rule": "unwanted", "reason": "not this one"} if startswith(input.message.subject, "unwanted")
`

// probe is one message on its way against a limit.
type probe struct {
	class          *limitClass
	user, from, to string
	token          string
	key            string // idempotency key
	size           int
	taken          int // recipients that got 250
}

// ledger is what clients know of one counter.
type ledger struct {
	first, firstEnd time.Time // of the first request that was accepted
	last            time.Time // when the counter was asked last
	buckets         []seen
	refused         int
	accepted        []acceptance
}

// acceptance is when so much of a counter was granted.
type acceptance struct {
	at    time.Time
	units float64
}

// hammer sends against the limits and keeps the books.
type hammer struct {
	r    *lab.Relay
	next atomic.Int64
	dups atomic.Int64

	mu       sync.Mutex
	books    map[string]*ledger
	classOf  map[string]*limitClass
	probes   map[string]*probe    // by token: whatever may arrive
	accepted map[string]string    // the id that each token got
	answered map[string]time.Time // when
	seen     map[string]time.Time // when each token arrived
	problems []string
	other    map[string]int // of what was broken off or refused by a rule
}

func (h *hammer) problem(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.problems) < 20 {
		h.problems = append(h.problems, fmt.Sprintf(format, args...))
	}
}

// book notes that the counter of a probe was asked and said yes or no.
func (h *hammer) book(p *probe, begun time.Time, ok bool) {
	now := time.Now()
	key := p.class.key(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.books[key]
	if b == nil {
		b = &ledger{buckets: make([]seen, len(p.class.buckets))}
		h.books[key], h.classOf[key] = b, p.class
	}
	if ok {
		if b.first.IsZero() || begun.Before(b.first) {
			b.first = begun
		}
		if b.firstEnd.IsZero() {
			b.firstEnd = now
		}
		b.accepted = append(b.accepted, acceptance{now, p.class.units(p) * float64(max(1, p.taken))})
	} else {
		b.refused++
	}
	for i, l := range p.class.buckets {
		// What may be booked ahead is as good as a larger burst.
		room, s := l.burst+l.rate*p.class.maxWait.Seconds(), &b.buckets[i]
		s.left += l.rate * now.Sub(b.last).Seconds()
		if b.last.IsZero() {
			s.left = room
		}
		s.lost += max(0, s.left-room)
		s.left = min(s.left, room)
		if ok {
			s.left -= p.class.units(p) * float64(max(1, p.taken))
		}
	}
	b.last = now
}

func (h *hammer) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.other[what]++
}

func (h *hammer) newProbe(c *limitClass, user string) *probe {
	p := &probe{class: c, user: user, from: "app@limits.test", to: c.to[rand.IntN(len(c.to))]}
	if len(c.froms) > 0 {
		p.from = c.froms[rand.IntN(len(c.froms))]
	}
	p.token = fmt.Sprintf("token-%d-", h.next.Add(1))
	return p
}

func (h *hammer) known(p *probe) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes[p.token] = p
}

// took notes an acceptance; a repetition of a key must give the first id.
func (h *hammer) took(p *probe, text string) (fresh bool) {
	id := text
	if m := queuedAs.FindStringSubmatch(text); m != nil {
		id = m[1]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.accepted[p.token]
	h.accepted[p.token] = id
	if before == "" {
		h.answered[p.token] = time.Now()
	}
	if before != "" && before != id && len(h.problems) < 20 {
		h.problems = append(h.problems, fmt.Sprintf("the idempotency key %s gave %s and %s", p.key, before, id))
	}
	return before == ""
}

func (p *probe) text() string {
	subject := "Subject: " + p.token
	if p.key != "" {
		subject += "\r\nBehalf-Idempotency-Key: " + p.key
	}
	return "From: App <app@limits.test>\r\n" + subject + "\r\n\r\n" + strings.Repeat("Your ticket was answered.\r\n", 20)
}

// smtp runs sessions until stop, in all manners a client may have.
func (h *hammer) smtp(c *limitClass, user string, stop <-chan struct{}) {
	for !closed(stop) {
		s, err := dialSession(h.r.Submissions, c.name+"/"+user, c.name+user+limitSecret)
		if err != nil { // it restarts
			time.Sleep(20 * time.Millisecond)
			continue
		}
		for n := 1; !closed(stop) && h.transaction(s, c, user, n); n++ {
		}
		s.conn.Close()
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// transaction is one message, or what becomes of one; false ends the session.
func (h *hammer) transaction(s *session, c *limitClass, user string, n int) bool {
	p := h.newProbe(c, user)
	manner := rand.IntN(10)
	if manner == 3 { // two come with one key, from whichever worker
		k := h.dups.Add(1) / 2
		p.key = fmt.Sprintf("%s-%s-%d", c.name, user, k)
		p.token, p.from, p.to = "token-dup-"+p.key+"-", "app@limits.test", c.to[0]
		if len(c.froms) > 0 {
			p.from = c.froms[0]
		}
	}
	unwanted := manner == 0
	if unwanted {
		p.token = "unwanted-" + p.token
	}
	begun := time.Now()
	a := s.say("MAIL FROM:<" + p.from + ">")
	if a.code == 452 {
		h.book(p, begun, false)
		time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
		return true
	}
	if a.code != 250 {
		return h.ended("MAIL", a)
	}
	rcpts := []string{p.token + "1@" + p.to}
	if c.name == "domain" && p.key == "" {
		rcpts = append(rcpts, p.token+"2@"+p.to)
	}
	if n%3 == 0 {
		rcpts = append(rcpts, "nobody@nowhere.test")
	}
	over := false
	for _, to := range rcpts {
		switch a := s.say("RCPT TO:<" + to + ">"); {
		case a.code == 250 && !strings.Contains(to, "nowhere"):
			p.taken++
		case a.code == 550 && strings.Contains(to, "nowhere"):
			h.count("recipients refused by a rule")
		case a.code == 452 && c.name == "domain":
			over = true
		default:
			return h.ended("RCPT", a)
		}
	}
	if p.taken == 0 {
		h.book(p, begun, false)
		time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
		return s.say("RSET").code == 250
	}
	switch manner {
	case 1:
		h.count("clients gone before the dot")
		if a := s.say("DATA"); a.code == 354 {
			_, _ = s.conn.Write([]byte(p.text()[:100]))
		}
		return false
	case 2:
		h.count("RSET")
		return s.say("RSET").code == 250
	}
	text := p.text()
	p.size = len(text)
	if a := s.say("DATA"); a.code != 354 {
		return h.ended("DATA", a)
	}
	if !unwanted {
		h.known(p)
	}
	switch a := s.body(text); {
	case a.code == 250 && !unwanted:
		if h.took(p, a.text) {
			h.book(p, begun, true)
		}
		if over {
			h.book(p, begun, false)
		}
		return true
	case a.code == 550 && unwanted:
		h.count("messages refused by a rule")
		return true
	case a.code == 452: // bytes count now
		h.book(p, begun, false)
		time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
		return true
	default:
		return h.ended("the dot", a)
	}
}

// ended is a session that the relay ended, as it may when it stops; any other
// answer is a problem.
func (h *hammer) ended(at string, a answer) bool {
	if a.code != 0 && a.code != 421 {
		h.problem("%s was answered %s", at, a)
	}
	return false
}

// http submits over HTTP until stop.
func (h *hammer) http(c *limitClass, user string, stop <-chan struct{}) {
	client := &http.Client{Timeout: 30 * time.Second}
	for !closed(stop) {
		p := h.newProbe(c, user)
		p.taken = 1
		to := []string{p.token + "1@" + p.to}
		if rand.IntN(3) == 0 {
			to = append(to, "nobody@nowhere.test")
		}
		begun := time.Now()
		h.known(p)
		code, body := postMessage(client, h.r.HTTP, c.name+user+limitSecret, map[string]any{"from": "app@limits.test", "mail_from": p.from, "to": to, "subject": p.token, "text": "Good day"})
		switch code {
		case 202:
			var got struct{ ID string }
			if err := json.Unmarshal(body, &got); err != nil {
				h.problem("%v in %s", err, body)
			}
			h.took(p, got.ID)
			h.book(p, begun, true)
		case 429:
			h.book(p, begun, false)
			time.Sleep(time.Duration(10+rand.IntN(40)) * time.Millisecond)
		case 0, 503: // it restarts
			time.Sleep(20 * time.Millisecond)
		default:
			h.problem("HTTP answered %d %s", code, body)
		}
	}
}

// postMessage submits by the API; code 0 means that nobody answered.
func postMessage(client *http.Client, url, secret string, draft any) (code int, body []byte) {
	b, err := json.Marshal(draft)
	if err != nil {
		return 0, nil
	}
	req, err := http.NewRequest(http.MethodPost, url+"/v1/messages", bytes.NewReader(b))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, body
}

// storm lets all workers loose, calls while they are at it, and waits for them.
func (h *hammer) storm(while func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, c := range limitClasses() {
		for i := range c.workers {
			wg.Go(func() { h.smtp(c, c.users[i%len(c.users)], stop) })
		}
		if c.workers > 2 {
			wg.Go(func() { h.http(c, c.users[0], stop) })
		}
	}
	while()
	close(stop)
	wg.Wait()
}

// drain asks each counter until it refuses, so that nothing is left, and gives
// the time before and after that answer.
func (h *hammer) drain(t *testing.T, key string) (before, after time.Time) {
	t.Helper()
	c := h.classOf[key]
	for _, user := range c.users {
		p := &probe{class: c, user: user, from: "app@limits.test", to: c.to[0]}
		if c.key(p) != key && len(c.users) > 1 {
			continue
		}
		s, err := dialSession(h.r.Submissions, c.name+"/"+user, c.name+user+limitSecret)
		if err != nil {
			t.Fatal(err)
		}
		defer s.conn.Close()
		for range 500 {
			q := h.newProbe(c, user)
			for c.key(q) != key {
				q = h.newProbe(c, user)
			}
			q.taken, q.size = 1, len(q.text())
			h.known(q)
			before := time.Now()
			answers := s.talk("MAIL FROM:<"+q.from+">", "RCPT TO:<"+q.token+"1@"+q.to+">", "DATA")
			last := answers[2]
			if last.code == 354 {
				last = s.body(q.text())
			}
			switch {
			case last.code == 250:
				h.took(q, last.text)
				h.book(q, before, true)
				continue
			case answers[0].code == 452 || answers[1].code == 452 || last.code == 452:
				h.book(q, before, false)
				return before, time.Now()
			}
			t.Fatalf("draining %s: %v, %s", key, answers, last)
		}
	}
	t.Fatalf("%s is never full", key)
	return before, after
}

// A paced or held message waits for its turn; whatever was accepted arrives by
// itself, each recipient once.
func (h *hammer) arrive(t *testing.T, w *lab.World, atMost time.Duration) map[string]map[string]bool {
	t.Helper()
	for end := time.Now().Add(atMost); ; time.Sleep(200 * time.Millisecond) {
		got := map[string]map[string]bool{}
		for _, m := range w.Sink.Messages() {
			token := tokenOf(m.Data)
			if got[token] == nil {
				got[token] = map[string]bool{}
			}
			for _, to := range m.To {
				got[token][to] = true
			}
		}
		lost := ""
		h.mu.Lock()
		for token := range h.accepted {
			if len(got[token]) < h.probes[token].taken && h.probes[token].key == "" || len(got[token]) == 0 {
				lost = token
			}
		}
		h.mu.Unlock()
		if lost == "" {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%s was accepted as %s and did not arrive\n%s", lost, h.accepted[lost], h.r.MustCLI(t, "queue", "stats"))
		}
	}
}

// watch notes when messages arrive, until stop.
func (h *hammer) watch(w *lab.World, stop <-chan struct{}) {
	for n := 0; !closed(stop); time.Sleep(50 * time.Millisecond) {
		all := w.Sink.Messages()
		now := time.Now()
		h.mu.Lock()
		for _, m := range all[n:] {
			if token := tokenOf(m.Data); h.seen[token].IsZero() {
				h.seen[token] = now
			}
		}
		h.mu.Unlock()
		n = len(all)
	}
}

// punctual checks that what had to wait came when its limit allows, no sooner
// and not much later.
func (h *hammer) punctual(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, b := range h.books {
		c := h.classOf[key]
		if c.maxWait == 0 {
			continue
		}
		var came []time.Time
		longest := time.Duration(0)
		for token, at := range h.seen {
			if p := h.probes[token]; p != nil && p.class.key(p) == key {
				came = append(came, at)
				if answered := h.answered[token]; !answered.IsZero() {
					longest = max(longest, at.Sub(answered))
				}
			}
		}
		slices.SortFunc(came, time.Time.Compare)
		for i, at := range came {
			if most := c.buckets[0].burst + c.buckets[0].rate*at.Sub(b.first).Seconds() + 1; float64(i+1) > most {
				t.Errorf("%s: %d had arrived %s after the first request, when the limit allowed %.1f", key, i+1, at.Sub(b.first), most)
				break
			}
		}
		t.Logf("%s: the longest wait was %s", key, longest)
		if longest < c.maxWait/2 || longest > c.maxWait+5*time.Second {
			t.Errorf("%s: the longest wait was %s, want about %s", key, longest, c.maxWait)
		}
	}
}

func tokenOf(data string) string {
	_, rest, _ := strings.Cut(data, "\r\nSubject: ")
	token, _, _ := strings.Cut(rest, "\r\n")
	return token
}

// check compares every counter with what its limit allows over the time
// measured. A crash may have forgotten what passed within a second before it;
// the store is written each second, and the writing takes a moment.
func (h *hammer) check(t *testing.T, w *lab.World, drained map[string][2]time.Time, crash time.Time) {
	t.Helper()
	got := h.arrive(t, w, 30*time.Second)
	h.mu.Lock()
	defer h.mu.Unlock()
	counted := map[string]float64{}
	for token, to := range got {
		p := h.probes[token]
		if p == nil {
			t.Errorf("%s arrived, and nobody sent it", token)
			continue
		}
		if h.classOf[p.class.key(p)].name == "domain" {
			counted[p.class.key(p)] += float64(len(to))
		} else {
			counted[p.class.key(p)] += p.class.units(p)
		}
	}
	for key, b := range h.books {
		c := h.classOf[key]
		longest := drained[key][1].Sub(b.first).Seconds()
		shortest := drained[key][0].Sub(b.firstEnd).Seconds()
		unit := c.units(&probe{size: len((&probe{token: "token-123456-"}).text())})
		most, least, forgiven := math.Inf(1), math.Inf(1), 0.0
		for _, a := range b.accepted {
			if ago := crash.Sub(a.at); ago >= -50*time.Millisecond && ago < 1250*time.Millisecond {
				forgiven += a.units
			}
		}
		for i, l := range c.buckets {
			wait := c.maxWait.Seconds()
			most = min(most, l.burst+l.rate*(longest+wait)+forgiven)
			least = min(least, l.burst+l.rate*(shortest+wait)-b.buckets[i].lost-unit)
		}
		n := counted[key]
		t.Logf("%-28s %8.0f counted in %6.2f s, %6d refused; the limit allows %.1f, of which a crash forgave %.0f", key, n, longest, b.refused, most, forgiven)
		if n > most+unit/2 || n < least-unit {
			t.Errorf("%s: %.0f were counted, want %.1f to %.1f", key, n, least, most)
		}
	}
	for _, p := range h.problems {
		t.Error(p)
	}
}

// Limits are exact whatever 20 connections do at once: recipients refused half
// way, clients that go away, RSET, messages refused at the end, keys used twice;
// across a restart too, and a crash forgives a second.
func TestE2ELimits(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, func(w *lab.World) string {
		return lab.MX("one.test", "mx.one.test", w.Sink.Host()) + lab.MX("two.test", "mx.two.test", w.Sink.Host())
	}, nil)
	policies := filepath.Join(lab.Dir(t), "policies")
	lab.Write(t, policies, "sender.rego", limitSender)
	lab.Write(t, policies, "recipient.rego", limitRecipient)
	lab.Write(t, policies, "message.rego", limitMessage)
	var resources strings.Builder
	for _, c := range limitClasses() {
		fmt.Fprintf(&resources, "kind: tenant\nname: %s\nlabels: { class: %s }\nmethods: [name]\nallow_from_change: true\nroute: [ { upstream: mx } ]\n---\n", c.name, c.name)
		for _, user := range c.users {
			fmt.Fprintf(&resources, "kind: credential\ntenant: %s\nname: %s\nsecret: %s\n---\n", c.name, user, c.name+user+limitSecret)
		}
	}
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: "policy: { path: \"" + policies + "\" }\n", Resources: strings.TrimSuffix(resources.String(), "---\n")})
	h := &hammer{r: r, books: map[string]*ledger{}, classOf: map[string]*limitClass{}, probes: map[string]*probe{}, accepted: map[string]string{}, answered: map[string]time.Time{}, seen: map[string]time.Time{}, other: map[string]int{}}

	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		h.watch(w, stop)
	}()
	defer func() { close(stop); <-watched }()
	h.storm(func() {
		time.Sleep(*limitsTime)
		if err := r.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		r.Start(t)
		time.Sleep(*limitsTime)
	})
	t.Log("after a graceful restart:")
	h.check(t, w, h.drainAll(t), time.Time{})
	h.punctual(t)
	t.Logf("besides: %v", h.other)
	if t.Failed() {
		return
	}

	var crash time.Time
	h.storm(func() {
		time.Sleep(*limitsTime / 3)
		r.Kill()
		crash = time.Now()
		r.Start(t)
		time.Sleep(*limitsTime / 3)
	})
	t.Log("after a crash:")
	h.check(t, w, h.drainAll(t), crash)
}

func (h *hammer) drainAll(t *testing.T) map[string][2]time.Time {
	t.Helper()
	drained := map[string][2]time.Time{}
	for key := range h.books {
		before, after := h.drain(t, key)
		drained[key] = [2]time.Time{before, after}
	}
	return drained
}
