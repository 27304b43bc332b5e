package relay_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/tenant"
)

// signers are the domains that signed, in the order of the fields.
func signers(r relaytest.Rendered) []string {
	var ds []string
	for _, s := range r.Signed {
		d, _, _ := strings.Cut(strings.TrimPrefix(s, "d="), " ")
		ds = append(ds, d)
	}
	return ds
}

const office = `{"kind":"connection","tenant":"acme","name":"office","provider":"smtp","senders":["support@acme.example","*@acme.example"],
	"smtp":{"host":"smtp.office.example","username":"support@acme.example","password":"p"}`

// TestMethods is the table of contract section 1: what each method does to From,
// Sender and Reply-To, who signs, and whose the envelope sender is.
func TestMethods(t *testing.T) {
	const acmeD, plat = "acme.example", relaytest.SendingDomain
	for _, c := range []struct {
		name      string
		tenant    string // fields of the tenant
		with      []string
		planner   func(*relay.PlannerOptions)
		dmarc     string // of acme.example
		noKey     bool
		noPath    bool
		header    string // From and more; default body
		method    mail.Method
		from      string // want, in From
		sender    string
		replyTo   string
		signed    []string
		path      string // domain of the envelope sender, or the whole of an account's
		alignment mail.Alignment
	}{
		{
			name: "domain by mx: both keys, and the platform's RSA for feedback loops", tenant: `"route":[{"upstream":"mx"}]`, dmarc: "v=DMARC1; p=reject; aspf=s; adkim=s",
			method: "domain", from: "Ann <support@acme.example>", signed: []string{acmeD, acmeD, plat}, path: "bounce.acme.example",
		}, {
			name: "domain by the platform's smart host: no second signature", tenant: `"route":[{"upstream":"platform"}]`,
			method: "domain", from: "Ann <support@acme.example>", signed: []string{acmeD, acmeD}, path: "bounce.acme.example",
		}, {
			name: "domain where the smart host signs", tenant: `"route":[{"upstream":"platform"}]`, planner: func(o *relay.PlannerOptions) { o.PlatformSigns = true },
			method: "domain", from: "Ann <support@acme.example>", path: "bounce.acme.example",
		}, {
			name: "domain while the return path is not in order", tenant: `"route":[{"upstream":"mx"}]`, noPath: true,
			method: "domain", from: "Ann <support@acme.example>", signed: []string{acmeD, acmeD, plat}, path: "bounce." + plat,
		}, {
			name: "domain by a connection with envelope any", tenant: `"route":[{"connection":"office"}]`, with: []string{office + `,"envelope":"any"}`},
			method: "domain", from: "Ann <support@acme.example>", signed: []string{acmeD, acmeD}, path: "bounce.acme.example",
		}, {
			name: "domain by a connection that signs", tenant: `"route":[{"connection":"office"}]`, with: []string{office + `,"envelope":"any","signs":"provider"}`},
			method: "domain", from: "Ann <support@acme.example>", path: "bounce.acme.example",
		}, {
			name: "connection", tenant: `"route":[{"connection":"office"}]`, with: []string{office + `}`}, dmarc: "v=DMARC1; p=reject",
			method: "connection", from: "Ann <support@acme.example>", path: "support@acme.example",
		}, {
			name: "address", tenant: `"route":[{"upstream":"mx"}],"methods":["domain","address"]`, noKey: true, dmarc: "v=DMARC1; p=none",
			with:   []string{`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`},
			method: "address", from: "Ann <support@acme.example>", sender: "acme.acme@" + plat, signed: []string{plat, plat}, path: "bounce." + plat,
		}, {
			name: "name", tenant: `"route":[{"upstream":"mx"}],"allow_from_change":true`, noKey: true, dmarc: "v=DMARC1; p=reject",
			with:   []string{`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`},
			method: "name", from: `Ann via Platform <support.acme@` + plat + `>`, replyTo: "Ann <support@acme.example>", signed: []string{plat, plat}, path: "bounce." + plat,
		}, {
			name: "name keeps the client's Reply-To, and drops Sender and DKIM-Signature", tenant: `"route":[{"upstream":"mx"}],"methods":["name"]`, noKey: true,
			with:   []string{`{"kind":"identity","tenant":"acme","address":"*@acme.example","verified":true}`},
			header: "From: \"ann@acme.example\" <support@acme.example>\nSender: desk@acme.example\nReply-To: desk@acme.example\nDKIM-Signature: v=1; d=acme.example\n\nx\n",
			method: "name", from: `"ann acme.example via Platform" <support.acme@` + plat + `>`, replyTo: "desk@acme.example", signed: []string{plat, plat}, path: "bounce." + plat,
		}, {
			name: "name without an identity", tenant: `"route":[{"upstream":"mx"}],"methods":["name"],"display_name":"Acme, Inc."`, noKey: true,
			header: "From: someone@elsewhere.example\n\nx\n",
			method: "name", from: `"Acme, Inc. via Platform" <acme.acme@` + plat + `>`, replyTo: "someone@elsewhere.example", signed: []string{plat, plat}, path: "bounce." + plat,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := relaytest.New(t, relaytest.Options{Planner: c.planner})
			w.Acme(c.tenant)
			w.Apply(c.with...)
			w.Publish("acme", "acme.example")
			if c.noKey {
				for _, k := range keys(t, w) {
					w.DNS.TXTRecord(k+"._domainkey.acme.example", "")
				}
			}
			if c.noPath {
				w.DNS.MXRecord("bounce.acme.example")
			}
			if c.dmarc != "" {
				w.DNS.TXTRecord("_dmarc.acme.example", c.dmarc)
			}
			text := c.header
			if text == "" {
				text = body
			}
			st := w.Accepted(w.App(), "app@acme.example", text, "bob@there.example")
			r := w.Render(st, 0, 0)
			if r.Hop.Method != c.method {
				t.Errorf("method %s, want %s", r.Hop.Method, c.method)
			}
			for name, want := range map[string]string{"From": c.from, "Sender": c.sender, "Reply-To": c.replyTo} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if got := signers(r); !slices.Equal(got, c.signed) {
				t.Errorf("signed by %v, want %v", got, c.signed)
			}
			if n := r.Header.Count("DKIM-Signature"); n != len(c.signed) {
				t.Errorf("%d DKIM-Signature fields, want %d", n, len(c.signed))
			}
			if r.Header.Has("Feedback-ID") != (len(c.signed) > 0) {
				t.Errorf("Feedback-ID: %q", r.Header.Get("Feedback-ID"))
			}
			if strings.Contains(c.path, "@") && r.From != c.path || !strings.HasSuffix(r.From, "@"+c.path) && !strings.Contains(c.path, "@") {
				t.Errorf("envelope sender %q, want %q", r.From, c.path)
			}
		})
	}
}

func keys(t testing.TB, w *relaytest.World) []string {
	t.Helper()
	v, err := w.Directory.ViewByName(context.Background(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	d, _ := v.Domain("acme.example")
	var sel []string
	for _, k := range d.DKIM {
		sel = append(sel, k.Selector)
	}
	return sel
}

// TestNeverWithoutTheDNS: a key that the DNS does not show signs nothing.
func TestNeverWithoutTheDNS(t *testing.T) {
	w := acme(t, relaytest.Options{}, `"route":[{"upstream":"mx"}]`)
	sel := keys(t, w)
	w.DNS.TXTRecord(sel[1]+"._domainkey.acme.example", "v=DKIM1; k=ed25519; p=")
	r := w.Render(w.Accepted(w.App(), "app@acme.example", body, "bob@there.example"), 0, 0)
	if len(r.Signed) != 2 || !strings.Contains(r.Signed[0], "s="+sel[0]) || !strings.Contains(r.Signed[1], "d=send.platform.example") {
		t.Errorf("signed %v", r.Signed)
	}
}

// TestRefusedWithWhatIsMissing: nothing is sent that is known to fail DMARC, and
// the refusal names the record, what was found and what is expected.
func TestRefusedWithWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name, tenant, dmarc, want string
		says                      []string
	}{
		{"no fallback allowed", `"methods":["domain"]`, "v=DMARC1; p=reject", "550", []string{"._domainkey.acme.example", "v=DKIM1"}},
		{"a fallback that changes From is not allowed", ``, "", "550", []string{"._domainkey.acme.example"}},
		{"address at a domain that asks for quarantine", `"methods":["domain","address"]`, "v=DMARC1; p=quarantine", "550", []string{"quarantine"}},
		{"address is not the tenant's choice", ``, "v=DMARC1; p=none", "550", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := relaytest.New(t, relaytest.Options{})
			w.Acme(c.tenant)
			w.Apply(`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`)
			if c.dmarc != "" {
				w.DNS.TXTRecord("_dmarc.acme.example", c.dmarc)
			}
			_, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
			f := wantFailure(t, err, c.want)
			for _, s := range c.says {
				if !strings.Contains(f.Text, s) {
					t.Errorf("%q does not name %q", f.Text, s)
				}
			}
		})
	}
}

// TestDMARCUnknown: a look-up that failed is a reason to wait, not to send.
func TestDMARCUnknown(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	w.Acme(`"methods":["address"]`)
	w.Apply(`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`)
	w.DNS.Fail("_dmarc.acme.example", true)
	_, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
	wantFailure(t, err, "451")
}

// TestFallbackAtTheAttempt: what holds is asked again at each attempt, and a
// message may leave by another method than at its acceptance.
func TestFallbackAtTheAttempt(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		w := relaytest.New(t, relaytest.Options{})
		fields := `"route":[{"upstream":"mx"}]`
		if allowed {
			fields += `,"allow_from_change":true`
		}
		w.Acme(fields)
		w.Publish("acme", "acme.example")
		st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
		if r := w.Render(st, 0, 0); r.Hop.Method != mail.MethodDomain {
			t.Fatalf("method %s at first", r.Hop.Method)
		}
		for _, k := range keys(t, w) {
			w.DNS.TXTRecord(k+"._domainkey.acme.example", "v=DKIM1; p=")
		}
		w.Open()
		hop, err := w.Plan(st, 0)
		if !allowed {
			f := wantFailure(t, err, "451")
			if f.Scope != mail.OfRoute {
				t.Errorf("scope %s, want route", f.Scope)
			}
			continue
		}
		if err != nil || hop.Method != mail.MethodName {
			t.Fatalf("%+v, %v; want method name", hop, err)
		}
		if r := w.Render(st, 0, 0); r.Header.Get("Reply-To") != "Ann <support@acme.example>" || !strings.HasSuffix(r.From, "@bounce."+relaytest.SendingDomain) {
			t.Errorf("From %s, Reply-To %s, MAIL FROM %s", r.Header.Get("From"), r.Header.Get("Reply-To"), r.From)
		}
	}
}

// TestReturnPathFollowsItsHost: the platform's is used while the tenant's host
// is out of order, and no longer.
func TestReturnPathFollowsItsHost(t *testing.T) {
	w := acme(t, relaytest.Options{}, `"route":[{"upstream":"mx"}]`)
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	host := func() string {
		t.Helper()
		w.Open()
		_, h, _ := strings.Cut(w.Render(st, 0, 0).From, "@")
		return h
	}
	if h := host(); h != "bounce.acme.example" {
		t.Errorf("at first %s", h)
	}
	w.DNS.TXTRecord("bounce.acme.example", "v=spf1 -all")
	if h := host(); h != "bounce."+relaytest.SendingDomain {
		t.Errorf("with a wrong SPF record %s", h)
	}
	w.DNS.TXTRecord("bounce.acme.example", "v=spf1 ip4:192.0.2.1 -all")
	w.DNS.Fail("bounce.acme.example", true)
	if h := host(); h != "bounce."+relaytest.SendingDomain {
		t.Errorf("while the DNS fails %s", h)
	}
	w.DNS.Fail("bounce.acme.example", false)
	if h := host(); h != "bounce.acme.example" {
		t.Errorf("when all is well again %s", h)
	}
}

// TestConnectionGone: a wish whose connection was deleted fails the route, not
// the message.
func TestConnectionGone(t *testing.T) {
	w := acme(t, relaytest.Options{}, `"route":[{"connection":"office"},{"upstream":"mx"}]`)
	w.Apply(office + `}`)
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	if len(st.Message.Wishes) != 2 {
		t.Fatalf("wishes %+v", st.Message.Wishes)
	}
	w.Apply(`{"kind":"tenant","name":"acme","route":[{"upstream":"mx"}]}`)
	if err := w.Directory.Delete(context.Background(), relaytest.Admin, tenant.Ref{Kind: tenant.KindConnection, Tenant: "acme", Name: "office"}, 0); err != nil {
		t.Fatal(err)
	}
	_, err := w.Plan(st, 0)
	if f := wantFailure(t, err, "451"); f.Scope != mail.OfRoute {
		t.Errorf("scope %s, want route", f.Scope)
	}
	if _, err := w.Plan(st, 1); err != nil {
		t.Errorf("the other way: %v", err)
	}
}

// TestAddressIsCapped: method address sends so many a day, and what is refused
// after it was counted gives its place back.
func TestAddressIsCapped(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	w.Acme(`"methods":["address"],"address_per_day":2`)
	w.Apply(`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`)
	app := w.App()
	for range 2 {
		w.Accepted(app, "app@acme.example", body, "bob@there.example")
	}
	_, err := w.Send(app, "app@acme.example", body, "bob@there.example")
	wantFailure(t, err, "451")
}

// TestForeignDomain: an address at a domain that another tenant has proved is
// not sent by any method.
func TestForeignDomain(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	w.Accepted(w.App(), "app@acme.example", body, "bob@there.example") // proves acme.example
	w.Apply(`{"kind":"tenant","name":"globex","methods":["name"]}`,
		`{"kind":"credential","tenant":"globex","name":"app","secret":"bhf_globex-secret-0123456789-0123456789-012345678"}`)
	globex := w.Login("globex/app", "bhf_globex-secret-0123456789-0123456789-012345678")
	_, err := w.Send(globex, "app@globex.example", body, "bob@there.example")
	if f := wantFailure(t, err, "550 5.7.1"); !strings.Contains(f.Text, "another customer") {
		t.Errorf("%q", f.Text)
	}
}

// TestCapture is development: nothing leaves, so the DNS is taken to show what it
// should, and messages look as they would.
func TestCapture(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{Planner: func(o *relay.PlannerOptions) { o.Capture, o.Mailbox = true, relaytest.Nowhere{} }})
	w.Acme(`"route":[{"upstream":"mx"}]`)
	w.DNS.Fail("_dmarc.acme.example", true)
	r := w.Render(w.Accepted(w.App(), "app@acme.example", body, "bob@there.example"), 0, 0)
	if r.Hop.Method != mail.MethodDomain || !slices.Equal(signers(r), []string{"acme.example", "acme.example", relaytest.SendingDomain}) || !strings.HasSuffix(r.From, "@bounce.acme.example") {
		t.Errorf("method %s, signed %v, from %s", r.Hop.Method, r.Signed, r.From)
	}
}

// TestEd25519AloneIsNotEnough: many receivers do not check Ed25519, so that
// beside a broken return path the RSA key must be seen.
func TestEd25519AloneIsNotEnough(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	w.PublishPlatform()
	w.Acme(`"methods":["domain"]`)
	v, err := w.Directory.ViewByName(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	d, _ := v.Domain("acme.example")
	for _, k := range d.DKIM {
		if k.Algorithm == "ed25519" {
			w.DNS.TXTRecord(k.Selector+"._domainkey."+d.Name, k.Record())
		}
	}
	text := "From: support@acme.example\nSubject: x\n\nhello\n"
	if _, err := w.Send(w.App(), "support@acme.example", text, "a@dest.example"); err == nil || !strings.Contains(err.Error(), "only an Ed25519 key") {
		t.Errorf("%v; want a refusal that says what is there", err)
	}
}
