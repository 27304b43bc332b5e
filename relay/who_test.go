package relay_test

import (
	"context"
	"testing"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/tenant"
)

const (
	platformSecret = "bhf_platform-secret-0123456789-0123456789-0123456"
	acmeSecret     = "bhf_acme-secret-0123456789-0123456789-0123456789"
)

// twoTenants is acme, globex and initech, with a credential of the platform's
// that may act for the first two.
func twoTenants(t testing.TB) *relaytest.World {
	t.Helper()
	w := acme(t, relaytest.Options{}, `"methods":["name"]`)
	w.Apply(`{"kind":"tenant","name":"globex","methods":["name"]}`, `{"kind":"tenant","name":"initech","methods":["name"]}`,
		`{"kind":"credential","scope":"platform","tenants":["acme","globex"],"name":"app","secret":"`+platformSecret+`"}`)
	return w
}

// TestForWhom is contract section 4, "For whom": every way to name a tenant, and
// who may.
func TestForWhom(t *testing.T) {
	w := twoTenants(t)
	for _, c := range []struct {
		name, username, secret, authzid, header string
		login, send                             string // refusals; empty: works
		tenant                                  string
	}{
		{"a tenant's own", "acme/app", acmeSecret, "", "", "", "", "acme"},
		{"a tenant's own, named", "acme/app", acmeSecret, "acme", "acme", "", "", "acme"},
		{"a tenant's own, authzid repeats the username", "acme/app", acmeSecret, "acme/app", "", "", "", "acme"},
		{"another by authzid", "acme/app", acmeSecret, "globex", "", "550 5.7.1", "", ""},
		{"another by username", "acme/app+globex", acmeSecret, "", "", "550 5.7.1", "", ""},
		{"another by header", "acme/app", acmeSecret, "", "globex", "", "550 5.7.1", ""},
		{"wrong secret", "acme/app", platformSecret, "", "", "535 5.7.8", "", ""},
		{"nobody", "acme/nobody", acmeSecret, "", "", "535 5.7.8", "", ""},
		{"platform by username", "platform/app+acme", platformSecret, "", "", "", "", "acme"},
		{"platform by authzid", "platform/app", platformSecret, "globex", "", "", "", "globex"},
		{"platform by header", "platform/app", platformSecret, "", "globex", "", "", "globex"},
		{"platform by all three", "platform/app+acme", platformSecret, "acme", "acme", "", "", "acme"},
		{"platform names two", "platform/app+acme", platformSecret, "globex", "", "550 5.7.1", "", ""},
		{"platform names another in the header", "platform/app+acme", platformSecret, "", "globex", "", "550 5.7.1", ""},
		{"platform names nobody", "platform/app", platformSecret, "", "", "", "550 5.7.1", ""},
		{"platform, not in its list, by username", "platform/app+initech", platformSecret, "", "", "550 5.7.1", "", ""},
		{"platform, not in its list, by header", "platform/app", platformSecret, "", "initech", "", "550 5.7.1", ""},
		{"platform, a tenant that is not there", "platform/app", platformSecret, "nowhere", "", "550 5.7.1", "", ""},
		{"platform for itself", "platform/app", platformSecret, "platform", "", "550 5.7.1", "", ""},
		{"platform for all", "platform/app", platformSecret, "", "*", "", "550 5.7.1", ""},
		{"a bearer's secret alone", "", acmeSecret, "", "", "", "", "acme"},
		{"a bearer's secret with a tenant", "", platformSecret, "globex", "", "", "", "globex"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := w.Intake.Login(context.Background(), relaytest.Client(), relay.Login{Username: c.username, Secret: c.secret, Authzid: c.authzid})
			if c.login != "" {
				wantFailure(t, err, c.login)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text := "From: someone@elsewhere.example\n"
			if c.header != "" {
				text += "Behalf-Tenant: " + c.header + "\n"
			}
			_, err = w.Send(p, "app@elsewhere.example", text+"\nx\n", "bob@there.example")
			all := w.Offered()
			if c.send != "" {
				wantFailure(t, err, c.send)
				return
			}
			if err != nil || len(all) != 1 {
				t.Fatalf("%v; %d messages", err, len(all))
			}
			v, err := w.Directory.ViewByName(context.Background(), c.tenant)
			if err != nil || all[0].Message.Tenant != v.Tenant.ID || all[0].Message.ID.Tenant() != v.Tenant.ID {
				t.Errorf("sent for tenant %d, want %s; %v", all[0].Message.Tenant, c.tenant, err)
			}
		})
	}
}

// TestAdministrator acts for every tenant that it names, and only then.
func TestAdministrator(t *testing.T) {
	w := twoTenants(t)
	text := "From: someone@elsewhere.example\n\nx\n"
	send := func(h relay.Hints) error {
		_, err := w.Intake.Accept(context.Background(), w.Intake.Administrator(), relay.Client{Door: mail.DoorHTTP}, submission("app@x.example", text, h, "bob@there.example"))
		return err
	}
	if err := send(relay.Hints{Tenant: "initech"}); err != nil {
		t.Error(err)
	}
	wantFailure(t, send(relay.Hints{}), "550 5.7.1")
	wantFailure(t, send(relay.Hints{Tenant: "nowhere"}), "550 5.7.1")
}

// TestCredentialGoneInSession: a credential that was deleted, or taken a tenant
// away, sends nothing more, also in a session that is open.
func TestCredentialGoneInSession(t *testing.T) {
	w := twoTenants(t)
	text := "From: someone@elsewhere.example\n"
	send := func(p *relay.Principal, header string) error {
		_, err := w.Send(p, "app@x.example", text+header+"\nx\n", "bob@there.example")
		return err
	}
	own, named, later := w.App(), w.Login("platform/app+globex", platformSecret), w.Login("platform/app", platformSecret)
	for _, p := range []*relay.Principal{own, named} {
		if err := send(p, ""); err != nil {
			t.Fatal(err)
		}
	}
	del := func(owner, name string) {
		if err := w.Directory.Delete(context.Background(), relaytest.Admin, tenant.Ref{Kind: tenant.KindCredential, Tenant: owner, Name: name}, 0); err != nil {
			t.Fatal(err)
		}
	}
	del("acme", "app")
	del("platform", "app")
	wantFailure(t, send(own, ""), "550 5.7.1")
	wantFailure(t, send(named, ""), "550 5.7.1")
	wantFailure(t, send(later, "Behalf-Tenant: acme\n"), "550 5.7.1")
}

func TestSuspendedTenant(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	app := w.App() // before the suspension
	w.Accepted(app, "app@acme.example", body, "bob@there.example")
	for fields, want := range map[string]string{
		`"suspended":{"reason":"unpaid"}`:                                  "550 5.7.1",
		`"suspended":{"reason":"unpaid","until":"2099-01-01T00:00:00Z"}`:   "450 4.7.1",
		`"suspended":{"reason":"long ago","until":"2001-01-01T00:00:00Z"}`: "",
	} {
		w.Apply(`{"kind":"tenant","name":"acme",` + fields + `}`)
		_, err := w.Send(app, "app@acme.example", body, "bob@there.example")
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", fields, err)
			}
			continue
		}
		wantFailure(t, err, want)
	}
}

func TestNetworks(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	w.Apply(`{"kind":"credential","tenant":"acme","name":"near","secret":"bhf_near-0123456789-0123456789-0123456789-01234567","networks":["10.0.0.0/8"]}`)
	_, err := w.Intake.Login(context.Background(), relaytest.Client(), relay.Login{Username: "acme/near", Secret: "bhf_near-0123456789-0123456789-0123456789-01234567"})
	wantFailure(t, err, "535 5.7.8")
}
