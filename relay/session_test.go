package relay_test

import (
	"context"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/relay/relaytest"
	"behalf/tenant"
)

// TestCredentialChangedInSession: a session sends with its credential as that
// is now, not as it was at log-in.
func TestCredentialChangedInSession(t *testing.T) {
	const text = "From: someone@elsewhere.example\n"
	platform := func(fields string) string {
		return `{"kind":"credential","scope":"platform","name":"app",` + fields + `}`
	}
	for name, c := range map[string]struct{ change, want string }{
		"unchanged":    {platform(`"tenants":["acme","globex"]`), ""},
		"rotated":      {platform(`"tenants":["acme","globex"],"secret":"bhf_another-secret-0123456789-0123456789"`), "550 5.7.1"},
		"expired":      {platform(`"tenants":["acme","globex"],"expires":"2001-01-01T00:00:00Z"`), "550 5.7.1"},
		"narrowed":     {platform(`"tenants":["acme"]`), "550 5.7.1"},
		"fenced":       {platform(`"tenants":["acme","globex"],"networks":["203.0.113.7"]`), "550 5.7.1"},
		"fenced in":    {platform(`"tenants":["acme","globex"],"networks":["` + relaytest.Client().Addr.Addr().String() + `"]`), ""},
		"for everyone": {platform(`"tenants":["*"]`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoTenants(t)
			named, open := w.Login("platform/app+globex", platformSecret), w.Login("platform/app", platformSecret)
			w.Apply(c.change)
			_, first := w.Send(named, "app@x.example", text+"\nx\n", "bob@there.example")
			_, second := w.Send(open, "app@x.example", text+"Behalf-Tenant: globex\n\nx\n", "bob@there.example")
			for _, err := range []error{first, second} {
				if c.want == "" {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				wantFailure(t, err, c.want)
			}
		})
	}
}

// TestForeignAddress: an address that is verified for another tenant is not
// sent by any method, at a domain that nobody has proved.
func TestForeignAddress(t *testing.T) {
	w := twoTenants(t)
	w.Apply(`{"kind":"identity","tenant":"globex","address":"owner@bistro.example","verified":true}`)
	const text = "From: owner@bistro.example\n\nx\n"
	_, err := w.Send(w.App(), "app@x.example", text, "bob@there.example")
	if f := wantFailure(t, err, "550 5.7.1"); !strings.Contains(f.Text, "another customer") {
		t.Errorf("%q", f.Text)
	}
	w.Accepted(w.Login("platform/app+globex", platformSecret), "app@x.example", text, "bob@there.example")
}

// TestRefusalSaysWhatToDo: with the default policies, who cannot send yet is
// told what is missing.
func TestRefusalSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		tenant string
		with   []string
		from   string
		says   []string
	}{
		"no domain": {"", nil, "a@new.example", []string{"no domain for new.example; add it and publish its records", "allow_from_change"}},
		"domain added, no key in the DNS": {"", []string{`{"kind":"domain","tenant":"acme","name":"new.example"}`}, "a@new.example",
			[]string{"b2._domainkey.new.example (TXT)", "found: ", "expected: v=DKIM1; k=ed25519; p=", "=; see behalf domain records new.example"}},
		"identity not verified": {`"methods":["name"]`, []string{`{"kind":"identity","tenant":"acme","address":"a@new.example"}`}, "a@new.example",
			[]string{"name: the identity a@new.example is claimed but not verified", "prove the domain new.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := relaytest.New(t, relaytest.Options{})
			w.Acme(c.tenant)
			w.Apply(c.with...)
			_, err := w.Send(w.App(), "app@acme.example", "From: "+c.from+"\n\nx\n", "bob@there.example")
			f := wantFailure(t, err, "550 5.7.1")
			for _, s := range c.says {
				if !strings.Contains(f.Text, s) {
					t.Errorf("%q does not say %q", f.Text, s)
				}
			}
		})
	}
}

// TestTenantDeletedWithMailInTheQueue: its messages fail for good at the next
// attempt.
func TestTenantDeletedWithMailInTheQueue(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	if err := w.Directory.Delete(context.Background(), relaytest.Admin, tenant.Ref{Kind: tenant.KindTenant, Name: "acme"}, 0); err != nil {
		t.Fatal(err)
	}
	_, err := w.Plan(st, 0)
	if f := wantFailure(t, err, "550 5.7.1"); f.Scope != mail.OfMessage || f.Temporary() || !strings.Contains(f.Text, "was deleted") {
		t.Errorf("%+v", f)
	}
}

// TestAddressIsChargedOnce: what was counted at its acceptance goes, also when
// the cap is reached since; what was not counted has no fallback to it.
func TestAddressIsChargedOnce(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	w.Acme(`"methods":["domain","address"],"address_per_day":1,"route":[{"upstream":"mx"}]`)
	w.Apply(`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`)
	w.Publish("acme", "acme.example")
	w.DNS.TXTRecord("_dmarc.acme.example", "v=DMARC1; p=none")
	app := w.App()
	counted, over := w.Accepted(app, "app@acme.example", body, "bob@there.example"), w.Accepted(app, "app@acme.example", body, "bob@there.example")
	for _, k := range keys(t, w) {
		w.DNS.TXTRecord(k+"._domainkey.acme.example", "v=DKIM1; p=")
	}
	w.Open()
	if n := len(counted.Message.Wishes[0].Methods); n != 2 {
		t.Errorf("the first may go by %v", counted.Message.Wishes[0].Methods)
	}
	if hop, err := w.Plan(counted, 0); err != nil || hop.Method != mail.MethodAddress {
		t.Errorf("%+v, %v; want address", hop, err)
	}
	if hop, err := w.Plan(over, 0); err == nil {
		t.Errorf("%+v; the cap was reached", hop)
	}
}

// TestAddressAtItsCap: the message that fills the cap goes out.
func TestAddressAtItsCap(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	w.Acme(`"methods":["address"],"address_per_day":1,"route":[{"upstream":"mx"}]`)
	w.Apply(`{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`)
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	if hop, err := w.Plan(st, 0); err != nil || hop.Method != mail.MethodAddress {
		t.Errorf("%+v, %v; want address", hop, err)
	}
}

// TestNameWithoutTheSendingDomainsKey: unsigned mail of the platform's own name
// goes only where SPF is sure to carry it, which it is not from the null path.
func TestNameWithoutTheSendingDomainsKey(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	w.Acme(`"methods":["name"],"route":[{"upstream":"mx"}]`)
	ks, err := w.Directory.PlatformKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	app := w.App()
	for _, c := range []struct {
		name, sender, dmarc string
		silent              bool
		want                string
	}{
		{"no DMARC", "app@acme.example", "", false, ""},
		{"the null path", "", "", false, "550 5.7.1"},
		{"asks for reject", "app@acme.example", "v=DMARC1; p=reject", false, "550 5.7.1"},
		{"the DNS says nothing", "app@acme.example", "", true, "451 4.7.1"},
	} {
		for _, k := range ks {
			name := k.Selector + "._domainkey." + relaytest.SendingDomain
			w.DNS.TXTRecord(name, "v=DKIM1; p=")
			w.DNS.Fail(name, c.silent)
		}
		if c.dmarc != "" {
			w.DNS.TXTRecord("_dmarc."+relaytest.SendingDomain, c.dmarc)
		}
		w.DNS.Fail("_dmarc."+relaytest.SendingDomain, c.silent)
		w.Open()
		_, err := w.SendEnvelope(app, mail.Envelope{From: relaytest.Address(t, c.sender)}, "From: someone@elsewhere.example\n\nx\n", "bob@there.example")
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		t.Log(c.name)
		wantFailure(t, err, c.want)
	}
}
