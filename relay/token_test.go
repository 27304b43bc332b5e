package relay_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/tenant/suppress"
)

// TestReturnPathToken is contract section 7, "VERP".
func TestReturnPathToken(t *testing.T) {
	tokens, others := relay.NewTokens([32]byte{1}), relay.NewTokens([32]byte{2})
	m := &mail.Message{ID: mail.NewID(7, 3, time.UnixMilli(1700000000000)), Envelope: mail.Envelope{From: relaytest.Address(t, "bob.secret@acme.example")}}
	hop := &mail.Hop{ReturnPath: mail.ReturnPath{Host: "bounce.acme.example"}}
	a := tokens.ReturnPath(m, hop, 4)
	if len(a.Local) > 64 || a.Local != strings.ToLower(a.Local) || a.Domain != "bounce.acme.example" {
		t.Errorf("%s: %d octets before the @", a, len(a.Local))
	}
	if _, err := mail.ParseAddress(a.String()); err != nil {
		t.Error(err)
	}
	if strings.Contains(a.Local, "bob") || strings.Contains(a.Local, "secret") {
		t.Errorf("%s holds an address", a)
	}
	if again := tokens.ReturnPath(m, hop, 4); again != a {
		t.Errorf("%s at first, then %s", a, again)
	}
	other := *m
	other.ID = mail.NewID(7, 3, time.UnixMilli(1700000000001))
	for name, b := range map[string]mail.Address{
		"another recipient": tokens.ReturnPath(m, hop, 5), "another message": tokens.ReturnPath(&other, hop, 4), "another key": others.ReturnPath(m, hop, 4),
	} {
		if a == b {
			t.Errorf("%s has the same token", name)
		}
	}
	whole := &mail.Hop{ReturnPath: mail.ReturnPath{Host: "bounce.acme.example", PerMessage: true}}
	if tokens.ReturnPath(m, whole, 1) != tokens.ReturnPath(m, whole, 2) || tokens.ReturnPath(m, whole, 1) == tokens.ReturnPath(m, hop, 1) {
		t.Error("verp: message does not use one token for all")
	}
	fixed := &mail.Hop{ReturnPath: mail.ReturnPath{Fixed: relaytest.Address(t, "account@acme.example")}}
	if got := tokens.ReturnPath(m, fixed, 1).String(); got != "account@acme.example" {
		t.Errorf("an account's address becomes %s", got)
	}
	m.Envelope.From = mail.Address{}
	if got := tokens.ReturnPath(m, hop, 1); !got.IsZero() {
		t.Errorf("the null path becomes %s", got)
	}
}

// TestUnsubscribeToken is authenticated, whole, and good for one purpose.
func TestUnsubscribeToken(t *testing.T) {
	tokens := relay.NewTokens([32]byte{1})
	id := mail.NewID(7, 3, time.UnixMilli(1700000000000))
	s := tokens.Unsubscribe(id, 4)
	for _, form := range []string{s, strings.ToUpper(s)} {
		if got, i, err := tokens.ParseUnsubscribe(form); err != nil || got != id || i != 4 {
			t.Errorf("%s reads as %v, %d, %v", form, got, i, err)
		}
	}
	path := tokens.ReturnPath(&mail.Message{ID: id, Envelope: mail.Envelope{From: relaytest.Address(t, "a@b.example")}}, &mail.Hop{ReturnPath: mail.ReturnPath{Host: "h"}}, 4)
	bad := []string{"", s[1:], s + "0", strings.TrimPrefix(path.Local, "b-"), relay.NewTokens([32]byte{2}).Unsubscribe(id, 4), "w" + s[1:], "..."}
	for i := range s { // each octet counts, but for spare bits at the end
		c := byte('0')
		if s[i] == '0' {
			c = 'g'
		}
		bad = append(bad, s[:i]+string(c)+s[i+1:])
	}
	for _, b := range bad[:len(bad)-1] {
		if _, _, err := tokens.ParseUnsubscribe(b); err == nil {
			t.Errorf("%q was taken", b)
		}
	}
}

func FuzzParseUnsubscribe(f *testing.F) {
	tokens := relay.NewTokens([32]byte{1})
	f.Add(tokens.Unsubscribe(mail.NewID(7, 3, time.UnixMilli(1)), 4))
	f.Add("0123456789abcdefghijklmnopqrstuv")
	f.Fuzz(func(t *testing.T, s string) {
		id, i, err := tokens.ParseUnsubscribe(s)
		if err == nil && tokens.Unsubscribe(id, i)[:40] != strings.ToLower(s)[:40] {
			t.Errorf("%q was taken as %v, %d", s, id, i)
		}
	})
}

// TestUnsubscribe: a link takes its recipient off its stream, of its tenant, once.
func TestUnsubscribe(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	ctx := context.Background()
	app := w.App()
	text := "Behalf-Stream: broadcast\n" + body
	st := w.Accepted(app, "app@acme.example", text, "bob@there.example", "Eve@There.example")
	_, token, _ := strings.Cut(strings.Trim(w.Render(st, 0, 1).Header.Get("List-Unsubscribe"), "<>"), "/u/")

	u, err := w.Intake.Unsubscription(ctx, token)
	if err != nil || u.Address.Key() != "eve@there.example" || u.Stream != "broadcast" || u.From.String() != "support@acme.example" {
		t.Errorf("%+v, %v", u, err)
	}
	if st := w.Accepted(app, "app@acme.example", text, "eve@there.example"); st.Recipients[0].State != mail.Queued {
		t.Error("looking at the link took her off the list")
	}
	for range 2 {
		if _, err := w.Intake.Unsubscribe(ctx, token); err != nil {
			t.Fatal(err)
		}
	}
	es, err := w.Spool.Timeline(ctx, st.Message.ID)
	if err != nil || len(es) != 2 || es[1].Type != mail.EventUnsubscribed || len(es[1].Recipients) != 1 || es[1].Recipients[0] != 1 {
		t.Errorf("%v; timeline %+v", err, es)
	}
	st = w.Accepted(app, "app@acme.example", text, "bob@there.example", "eve@there.example")
	if st.Recipients[0].State != mail.Queued || st.Recipients[1].State != mail.Suppressed || st.Recipients[1].Reason != "unsubscribed" {
		t.Errorf("recipients %+v", st.Recipients)
	}
	if st := w.Accepted(app, "app@acme.example", body, "eve@there.example"); st.Recipients[0].State != mail.Queued {
		t.Error("taken off another stream too")
	}
	for _, bad := range []string{"", "x", token[1:], relay.NewTokens([32]byte{9}).Unsubscribe(st.Message.ID, 0)} {
		if _, err := w.Intake.Unsubscribe(ctx, bad); !errors.Is(err, relay.ErrLink) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestVerp: a connection with verp: message has one return path for all
// recipients, and so has a large message.
func TestVerp(t *testing.T) {
	for _, c := range []struct {
		name, verp string
		size       int
		same       bool
	}{{"recipient", "recipient", 10, false}, {"message", "message", 10, true}, {"large", "recipient", 1<<20 + 1, true}} {
		t.Run(c.name, func(t *testing.T) {
			w := acme(t, relaytest.Options{}, `"route":[{"connection":"office"}]`)
			w.Apply(office + `,"envelope":"any","verp":"` + c.verp + `"}`)
			st := w.Accepted(w.App(), "app@acme.example", body+strings.Repeat("x\n", c.size/3), "a@there.example", "b@there.example")
			hop, err := w.Plan(st, 0)
			if err != nil {
				t.Fatal(err)
			}
			if same := w.Planner.Sender(st.Message, hop, 0) == w.Planner.Sender(st.Message, hop, 1); same != c.same {
				t.Errorf("one return path for both: %v, want %v", same, c.same)
			}
		})
	}
}

// TestSubmit: mail of the platform's own is signed by the sending domain, comes
// from the null path, and is written together with what belongs to it.
func TestSubmit(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	from, to := relaytest.Address(t, "MAILER-DAEMON@platform.example"), relaytest.Address(t, "ops@acme.example")
	write := func(wr io.Writer, id mail.ID, messageID string) error {
		_, err := io.WriteString(wr, relaytest.CRLF("From: "+from.String()+"\nTo: "+to.String()+"\nMessage-ID: "+messageID+"\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nHello\n"))
		return err
	}
	boom := errors.New("boom")
	if _, err := w.Intake.Submit(context.Background(), from, to, write, func(kv.Writer) error { return boom }); !errors.Is(err, boom) || len(w.Offered()) != 0 {
		t.Errorf("kept without what belongs to it: %v", err)
	}
	id, err := w.Intake.Submit(context.Background(), from, to, write, func(wr kv.Writer) error { return wr.Put([]byte("w/test"), []byte("x")) })
	if err != nil {
		t.Fatal(err)
	}
	st := w.Offered()[0]
	r := w.Render(st, 0, 0)
	if st.Message.ID != id || st.Message.Tenant != 0 || st.Message.Subject != "Grüße" || r.From != "" {
		t.Errorf("%+v from <%s>", st.Message, r.From)
	}
	if len(r.Signed) != 2 || r.Header.Has("Feedback-ID") || r.Header.Has("Sender") || r.Header.Get("From") != from.String() {
		t.Errorf("signed %v\n%s", r.Signed, r.Text)
	}
	if got := r.Header.Get("Received"); strings.Contains(got, " with ") || !strings.HasPrefix(got, "by relay.platform.example (Behalf) id ") {
		t.Errorf("Received: %q", got)
	}
}

// TestSuppressedPolicySees: the recipient stage may ask for the list.
func TestSuppressedPolicySees(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": `deny contains {"rule":"s","reason":"left the list"} if input.recipient.suppressed`}, "")
	v, _ := w.Directory.ViewByName(context.Background(), "acme")
	err := w.Store.Update(context.Background(), func(wr kv.Writer) error {
		return w.Intake.Lists.Add(wr, v.Tenant.ID, suppress.Entry{Stream: "transactional", Address: "eve@there.example", Reason: suppress.Manual})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Send(w.App(), "app@acme.example", body, "eve@there.example")
	wantFailure(t, err, "550 5.7.1")
	w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
}
