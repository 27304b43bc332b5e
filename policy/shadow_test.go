package policy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shadowed runs an engine with a draft, in false time, until body returns.
func shadowed(t *testing.T, active, draft string, body func(t *testing.T, e *Engine, dir string)) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "p.rego", draft)
	synctest.Test(t, func(t *testing.T) {
		e := open(t, folder(active), Options{Shadow: dir})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { e.Run(ctx) })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		body(t, e, dir)
		cancel()
		wg.Wait()
	})
}

func report(t *testing.T, e *Engine) ShadowReport {
	t.Helper()
	time.Sleep(3 * time.Second)
	synctest.Wait()
	r, ok := e.Shadow()
	if !ok {
		t.Fatal("no shadow")
	}
	return r
}

// TestShadow: a draft is asked what the set in force is asked, its facts are
// gathered, and nothing that it says counts.
func TestShadow(t *testing.T) {
	message := "package behalf.submission.message\n"
	active := message + `tag contains {"rule": "t", "value": "x"} if input.stream == "broadcast"`
	draft := message + "tag contains {\"rule\": \"t\", \"value\": \"x\"} if input.stream == \"broadcast\"\n" +
		"deny contains {\"rule\": \"hosts\", \"reason\": \"no links\"} if \"bad.example\" in input.message.url_hosts\n"
	shadowed(t, active, draft, func(t *testing.T, e *Engine, dir string) {
		pin := e.Pin()
		if !pin.Needs().URLHosts || e.Active().Needs().URLHosts {
			t.Error("the facts of the draft are not gathered beside those of the set in force")
		}
		for i := range 20 {
			in := &MessageInput{SenderInput: SenderInput{Tenant: &Tenant{Name: fmt.Sprint("t", i%2)}, Envelope: Envelope{From: "a@b.example"}}}
			in.Message = Message{Subject: fmt.Sprint("s", i), URLHosts: []string{"bad.example"}, Size: 7}
			if i%2 == 0 && i > 10 {
				in.Message.URLHosts = nil
			}
			if d, err := pin.Message(t.Context(), in); err != nil || d.Action != Accept {
				t.Fatalf("the draft decided: %+v, %v", d, err)
			}
		}
		r := report(t, e)
		if r.Same != 4 || r.Differs != 16 || r.Failed+r.Dropped != 0 || r.Digest == "" || r.Active != e.Status().Digest || r.Error != "" {
			t.Errorf("%+v", r)
		}
		if len(r.Groups) != 2 || r.Groups[0].Count != 10 || r.Groups[0].Tenant != "t1" || r.Groups[0].Would != Deny || r.Groups[0].Rule != "p.rego:hosts" {
			t.Fatalf("%+v", r.Groups)
		}
		if x := r.Groups[0].Examples; len(x) != maxExamples || x[0].Subject != "s1" || x[0].From != "a@b.example" || x[0].Size != 7 || !strings.Contains(x[0].Summary, "deny") {
			t.Errorf("examples %+v", x)
		}

		// Another draft begins anew, and one that does not compile is not tried.
		write(t, dir, "p.rego", active+" # changed")
		if r := report(t, e); r.Differs != 0 || len(r.Groups) != 0 || r.Error != "" {
			t.Errorf("after a change: %+v", r)
		}
		write(t, dir, "p.rego", message+"deny contains {")
		if r := report(t, e); r.Error == "" || r.Digest != "" || e.Pin().draft != nil || e.Status().Err != nil {
			t.Errorf("a broken draft: %+v", r)
		}
	})
}

// TestShadowNeverDelays: a draft that is slow or fails is counted, and live
// traffic does not notice.
func TestShadowNeverDelays(t *testing.T) {
	fails := sender + `deny contains {"rule": "r", "reason": "x"} if to_number(input.stream) > 5`
	shadowed(t, sender, fails, func(t *testing.T, e *Engine, _ string) {
		for range 2 * maxQuestions { // no time passes: the queue is filled faster than it is emptied
			if _, err := e.Sender(t.Context(), &SenderInput{Stream: "s"}); err != nil {
				t.Fatal(err)
			}
		}
		if len(e.Status().Failing) != 0 {
			t.Error("a draft that fails counts as the set in force failing")
		}
		r := report(t, e)
		if r.Failed == 0 || r.LastError == "" || r.Failed+r.Dropped != 2*maxQuestions {
			t.Errorf("%+v", r)
		}
	})
}

// TestShadowOfBigMessages: what is gathered for a draft alone does not make a
// message too big for the set in force; it does for the draft.
func TestShadowOfBigMessages(t *testing.T) {
	message := "package behalf.submission.message\n"
	draft := message + "deny contains {\"rule\": \"hosts\", \"reason\": \"no links\"} if \"bad.example\" in input.message.url_hosts\n"
	shadowed(t, message+`tag contains {"rule": "t", "value": "x"} if count(input.message.headers) > 20000`, draft, func(t *testing.T, e *Engine, _ string) {
		in := &MessageInput{Message: Message{Headers: make([][2]string, 100), URLHosts: make([]string, 20_001)}}
		if _, err := e.Pin().Message(t.Context(), in); err != nil {
			t.Errorf("a draft makes a message too big: %v", err)
		}
		if r := report(t, e); r.Failed != 1 || !strings.Contains(r.LastError, "20001") {
			t.Errorf("%+v", r)
		}
		if _, err := e.Pin().Message(t.Context(), &MessageInput{Message: Message{Headers: make([][2]string, 20_001)}}); err == nil {
			t.Error("the set in force has no bound")
		}
	})
}

// TestShadowIsBounded: with many tenants the report stops growing.
func TestShadowIsBounded(t *testing.T) {
	s := newShadow("draft")
	d := &Difference{Summary: "x", WouldRule: "p.rego:r"}
	for i := range 3 * maxGroups {
		s.note(PackageSender, question{in: &SenderInput{Tenant: &Tenant{Name: fmt.Sprint(i)}}}, &Decision{Action: Deny}, d)
	}
	if len(s.groups) != maxGroups || s.report.More != 2*maxGroups {
		t.Errorf("%d groups, %d more", len(s.groups), s.report.More)
	}
	big := &MessageInput{Message: Message{Headers: [][2]string{{"X", strings.Repeat("x", maxQueued)}}}}
	e := open(t, folder(sender), Options{})
	s.offer(question{in: big, stage: stageMessage}, e.metrics)
	if s.report.Dropped != 1 || len(s.queue) != 0 || s.queued.Load() != 0 {
		t.Errorf("dropped %d, queued %d", s.report.Dropped, s.queued.Load())
	}
}

// TestFailing: a set that fails shows by stage, for a minute; a client that is
// gone is not its fault.
func TestFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, folder(sender+`deny contains {"rule": "r", "reason": "x"} if to_number(input.stream) > 5`), Options{})
		for range 312 {
			if _, err := e.Sender(t.Context(), &SenderInput{Stream: "s"}); err == nil {
				t.Fatal("no error")
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = e.Sender(gone, &SenderInput{Stream: "s"})
		f := e.Status().Failing
		if len(f) != 1 || f[0].Package != PackageSender || f[0].Count != 312 || !strings.Contains(f[0].Last, "to_number") {
			t.Errorf("%+v", f)
		}
		time.Sleep(59 * time.Second)
		if f := e.Status().Failing; len(f) != 1 {
			t.Errorf("after 59 s: %+v", f)
		}
		time.Sleep(2 * time.Second)
		if f := e.Status().Failing; len(f) != 0 {
			t.Errorf("after a minute: %+v", f)
		}
	})
}
