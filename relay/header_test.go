package relay_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/relay/relaytest"
	"behalf/upstream"
)

// acme is a world with tenant acme, whose domain is in order.
func acme(t testing.TB, o relaytest.Options, fields string) *relaytest.World {
	t.Helper()
	w := relaytest.New(t, o)
	w.Acme(fields)
	w.Publish("acme", "acme.example")
	return w
}

const (
	body  = "From: Ann <support@acme.example>\nTo: bob@there.example\nSubject: Hi\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-ID: <1@acme.example>\n\nHello\n"
	short = "From: support@acme.example\n"
)

// TestHeaderRules is contract section 4, "Headers" and "Hints": what is in the
// client's header, and what of it is in what leaves.
func TestHeaderRules(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	app := w.App()
	for _, c := range []struct {
		name string
		in   string   // header fields beside From
		has  []string // fields that leave, as they stand
		not  []string // names of fields that do not
	}{
		{"nothing given", "", []string{"From: support@acme.example"}, []string{"Sender", "Bcc", "List-Unsubscribe", "Return-Path"}},
		{"To and Cc as they are", "To: a@b.example,\n c@d.example\nCC: e@f.example\n", []string{"To: a@b.example,\r\n c@d.example", "CC: e@f.example"}, nil},
		{"Bcc goes", "Bcc: hidden@b.example\nBCC: other@b.example\nSubject: x\n", []string{"Subject: x"}, []string{"Bcc"}},
		{"Resent-Bcc goes", "Resent-Bcc: hidden@b.example\nResent-From: a@acme.example\n", []string{"Resent-From: a@acme.example"}, []string{"Resent-Bcc"}},
		{"Return-Path goes", "Return-Path: <a@acme.example>\n", nil, []string{"Return-Path"}},
		{"X-Originating-IP goes", "X-Originating-IP: [10.1.2.3]\n", nil, []string{"X-Originating-IP"}},
		{"Sender of the tenant stays", "Sender: desk@acme.example\n", []string{"Sender: desk@acme.example"}, nil},
		{"Sender of somebody else goes", "Sender: ceo@bank.example\n", nil, []string{"Sender"}},
		{"two Sender fields go", "Sender: desk@acme.example\nSender: desk@acme.example\n", nil, []string{"Sender"}},
		{"Sender without sense goes", "Sender: nobody\n", nil, []string{"Sender"}},
		{"Message-ID is kept", "Message-ID: <Odd..One@x>\n", []string{"Message-ID: <Odd..One@x>"}, nil},
		{"Date is kept", "Date: yesterday\n", []string{"Date: yesterday"}, nil},
		{"List fields pass", "List-Id: <l.acme.example>\nList-Unsubscribe: <https://acme.example/u>\n", []string{"List-Id: <l.acme.example>", "List-Unsubscribe: <https://acme.example/u>"}, []string{"List-Unsubscribe-Post"}},
		{"Auto-Submitted and References pass", "Auto-Submitted: auto-replied\nReferences: <a@b>\n <c@d>\nIn-Reply-To: <c@d>\n", []string{"Auto-Submitted: auto-replied", "References: <a@b>\r\n <c@d>", "In-Reply-To: <c@d>"}, nil},
		{"Resent fields pass", "Resent-From: a@acme.example\nResent-Date: Mon, 1 Jan 2024 00:00:00 +0000\nResent-Message-ID: <r@acme.example>\n", []string{"Resent-From: a@acme.example", "Resent-Message-ID: <r@acme.example>"}, nil},
		{"unknown fields pass as they are", "X-Odd:no blank\nx-ODD: two\n", []string{"X-Odd:no blank", "x-ODD: two"}, nil},
		{"earlier Received fields pass", "Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\n", []string{"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000"}, nil},
		{"hints go", "Behalf-Tenant: acme\nBehalf-Stream: news\nBEHALF-TAG: t\nBehalf-Metadata: {\"a\":\"b\"}\nBehalf-Send-At: 2020-01-01T00:00:00Z\nBehalf-Idempotency-Key: header-rules\nBehalf-Route: mx\nBehalf-Method: domain\n",
			[]string{"Feedback-ID: t:news:acme:send.platform.example"},
			[]string{"Behalf-Tenant", "Behalf-Stream", "Behalf-Tag", "Behalf-Metadata", "Behalf-Send-At", "Behalf-Idempotency-Key", "Behalf-Route", "Behalf-Method"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := w.Accepted(app, "app@acme.example", short+c.in+"\nHello\n", "bob@there.example")
			r := w.Render(st, 0, 0)
			head, _, _ := strings.Cut(r.Text, "\r\n\r\n")
			for _, f := range c.has {
				if !strings.Contains("\r\n"+head+"\r\n", "\r\n"+f+"\r\n") {
					t.Errorf("%q is not in\n%s", f, head)
				}
			}
			for _, n := range c.not {
				if r.Header.Has(n) {
					t.Errorf("%s is in\n%s", n, head)
				}
			}
			for _, n := range []string{"From", "Message-ID", "Date"} {
				if r.Header.Count(n) != 1 {
					t.Errorf("%d %s fields in\n%s", r.Header.Count(n), n, head)
				}
			}
			if !strings.HasSuffix(r.Text, "\r\n\r\nHello\r\n") {
				t.Errorf("the body changed: %q", r.Text[len(head):])
			}
		})
	}
}

// TestWhatStandsInFront is the whole of what we add.
func TestWhatStandsInFront(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	st := w.Accepted(w.App(), "app@acme.example", short+"\nHello\n", "bob@there.example")
	r := w.Render(st, 0, 0)
	var names []string
	for _, f := range r.Header.All() {
		names = append(names, f.Name)
	}
	if got, want := strings.Join(names, " "), "DKIM-Signature DKIM-Signature DKIM-Signature Feedback-ID Received Message-ID Date From"; got != want {
		t.Errorf("fields are %s, want %s", got, want)
	}
	if !regexp.MustCompile(`^<[^<>@]+@send\.platform\.example>$`).MatchString(r.Header.Get("Message-ID")) || r.Header.Get("Message-ID") != st.Message.MessageID {
		t.Errorf("Message-ID %q", r.Header.Get("Message-ID"))
	}
	want := "by relay.platform.example (Behalf) with ESMTPSA id " + st.Message.ID.String() + ";"
	if got := r.Header.Get("Received"); !strings.HasPrefix(got, want) {
		t.Errorf("Received: %q, want %q", got, want)
	}
	for _, secret := range []string{"198.51.100.7", "internal.acme.example"} {
		if strings.Contains(r.Text, secret) {
			t.Errorf("what leaves names the client: %s", secret)
		}
	}
}

// TestRefusedHeaders are messages that no door takes.
func TestRefusedHeaders(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	app := w.App()
	loop := strings.Repeat("Received: by relay.platform.example (Behalf) with ESMTPSA id x; Mon, 1 Jan 2024 00:00:00 +0000\n", 5)
	for _, c := range []struct{ name, header, want string }{
		{"no From", "Subject: x\n", "550 5.6.0"},
		{"two From", "From: support@acme.example\nFrom: support@acme.example\n", "550 5.6.0"},
		{"two mailboxes", "From: support@acme.example, other@acme.example\n", "550 5.6.0"},
		{"a group", "From: team: support@acme.example;\n", "550 5.6.0"},
		{"empty From", "From:\n", "550 5.6.0"},
		{"From without a domain", "From: support\n", "550 5.6.0"},
		{"ours too often", short + loop, "554 5.4.6"},
		{"anybody's too often", short + strings.Repeat("Received: x; y\n", 51), "554 5.4.6"},
		{"unknown hint", short + "Behalf-Stram: news\n", "550 5.6.0"},
		{"bad stream", short + "Behalf-Stream: News!\n", "550 5.6.0"},
		{"bad time", short + "Behalf-Send-At: tomorrow\n", "550 5.6.0"},
		{"time too far", short + "Behalf-Send-At: 2999-01-01T00:00:00Z\n", "550 5.6.0"},
		{"metadata of numbers", short + "Behalf-Metadata: {\"a\":1}\n", "550 5.6.0"},
		{"metadata too many", short + "Behalf-Metadata: {" + strings.TrimSuffix(numbered(21), ",") + "}\n", "550 5.6.0"},
		{"metadata too long", short + "Behalf-Metadata: {\"a\":\n \"" + strings.Repeat("x", 501) + "\"}\n", "550 5.6.0"},
		{"tag too long", short + "Behalf-Tag: " + strings.Repeat("t", 101) + "\n", "550 5.6.0"},
		{"key too long", short + "Behalf-Idempotency-Key: " + strings.Repeat("k", 201) + "\n", "550 5.6.0"},
		{"unknown method", short + "Behalf-Method: magic\n", "550 5.6.0"},
		{"route that is not there", short + "Behalf-Route: office\n", "550 5.7.1"},
		{"a hint twice", short + "Behalf-Tenant: acme\nBEHALF-TENANT: acme\n", "550 5.6.0"},
		{"foreign tenant", short + "Behalf-Tenant: globex\n", "550 5.7.1"},
		{"From in UTF-8 without SMTPUTF8", "From: jürgen@acme.example\n", "553 5.6.7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.Send(app, "app@acme.example", c.header+"\nHello\n", "bob@there.example")
			wantFailure(t, err, c.want)
			if n := len(w.Offered()); n != 0 {
				t.Errorf("%d messages were handed on", n)
			}
		})
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"k` + string(rune('a'+i)) + `":"v",`)
	}
	return b.String()
}

// wantFailure checks code and enhanced code, and that there is a sentence.
func wantFailure(t testing.TB, err error, want string) *mail.Failure {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted, want %s", want)
	}
	f := mail.AsFailure(err)
	if got := strings.TrimSpace(f.Error()); !strings.HasPrefix(got, want) || f.Text == "" {
		t.Fatalf("refused with %q, want %s and a sentence", got, want)
	}
	return f
}

func TestNullSenderStaysNull(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	st := w.Accepted(w.App(), "<>", short+"Auto-Submitted: auto-replied\n\nI am away\n", "bob@there.example")
	if r := w.Render(st, 0, 0); r.From != "" {
		t.Errorf("MAIL FROM:<%s>, want the null path", r.From)
	}
}

// TestManyPlacesOneSignature: each place has an attempt and a rendering of its
// own, and the message is signed once with each key for all of them.
func TestManyPlacesOneSignature(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	to := []string{"bob@there.example", "eve@elsewhere.example", "joe@third.example"}
	st := w.Accepted(w.App(), "app@acme.example", short+"\nhello\n", to...)
	computed := []int{}
	for i := range to {
		hop, err := w.Plan(st, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.Planner.Render(st, hop, i, nil)(t.Context(), upstream.Caps{EightBitMIME: true})
		if err == nil {
			err = r.Prepare(t.Context())
		}
		if err != nil || len(r.Signed()) != 3 {
			t.Fatalf("signed %q, %v", r.Signed(), err)
		}
		computed = append(computed, r.(interface{ Computed() int }).Computed())
	}
	if !slices.Equal(computed, []int{3, 0, 0}) {
		t.Errorf("computed %v signatures for three places, want 3, 0, 0", computed)
	}
}

// TestBroadcast: the pair of fields is owed to broadcast mail that has none;
// each recipient gets a link of its own, and every signature covers it.
func TestBroadcast(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	app := w.App()
	st := w.Accepted(app, "app@acme.example", short+"Behalf-Stream: broadcast\n\nNews\n", "bob@there.example", "eve@there.example")
	links := map[string]bool{}
	for i := range 2 {
		r := w.Render(st, 0, i)
		if !r.Hop.Single {
			t.Error("recipients would share a rendering")
		}
		link := r.Header.Get("List-Unsubscribe")
		if !strings.HasPrefix(link, "<https://relay.platform.example/u/") || r.Header.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" {
			t.Errorf("List-Unsubscribe: %q, -Post: %q", link, r.Header.Get("List-Unsubscribe-Post"))
		}
		links[link] = true
		sigs := r.Header.Fields("DKIM-Signature")
		if len(sigs) != 3 {
			t.Errorf("%d signatures, want 3", len(sigs))
		}
		for _, s := range sigs {
			v := strings.ToLower(strings.Join(strings.Fields(s.Value()), ""))
			if !strings.Contains(v, "list-unsubscribe:") || !strings.Contains(v, "list-unsubscribe-post") {
				t.Errorf("a signature does not cover the pair: %s", v)
			}
		}
	}
	if len(links) != 2 {
		t.Errorf("links are not each recipient's own: %v", links)
	}
	for _, own := range []string{
		"Behalf-Stream: broadcast\nList-Unsubscribe: <mailto:leave@acme.example>\n",
		"Behalf-Stream: news\n",
		"",
	} {
		r := w.Render(w.Accepted(app, "app@acme.example", short+own+"\nNews\n", "bob@there.example"), 0, 0)
		if strings.Contains(r.Text, ".example/u/") || r.Header.Has("List-Unsubscribe-Post") || r.Hop.Single {
			t.Errorf("%q: the pair was added", own)
		}
	}
}
