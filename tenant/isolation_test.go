package tenant_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/tenant"
)

// TestNobodySeesOrActsForAnotherTenant goes through every method of the
// directory that takes an actor or a credential, and every way to name a
// tenant, for every actor that must not reach globex.
func TestNobodySeesOrActsForAnotherTenant(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme, globex, acmeApp, globexApp, platform, everywhere, acmeDomain, support, office,
		`{"kind":"domain","tenant":"globex","name":"globex.example","verified":true,`+ed25519Dom+`}`,
		`{"kind":"identity","tenant":"globex","address":"info@globex.example"}`,
		`{"kind":"connection","tenant":"globex","name":"office","provider":"smtp","smtp":{"host":"smtp.example","username":"office@globex.example","password":"globex-password"}}`)
	before := dump(t, w.store)
	login := func(user, secret string) *tenant.Credential {
		c, err := w.Authenticate(ctx, user, secret)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	acmeCred, platformCred, allCred := login("acme/app", "acme-app-secret"), login("platform/app", "platform-secret"), login("platform/all", "everywhere-secret")
	actors := map[string]tenant.Actor{
		"acme":                   tenant.ActorOf(acmeCred),
		"platform for acme":      tenant.ActorOf(platformCred),
		"nobody":                 {},
		"claims everything":      {Name: "x", Scope: tenant.ScopeTenant, Tenants: []string{"*"}},
		"tenant called platform": {Name: "x", Scope: tenant.ScopeTenant, Tenants: []string{"platform"}},
		"empty name":             {Name: "x", Scope: tenant.ScopeTenant, Tenants: []string{""}},
	}
	names := map[tenant.Kind][]string{
		tenant.KindTenant:     {"globex", "GLOBEX", "globex."},
		tenant.KindCredential: {"app", "globex/app", "platform/app", "platform/all"},
		tenant.KindDomain:     {"globex.example", "GLOBEX.example."},
		tenant.KindIdentity:   {"info@globex.example", "INFO@globex.example"},
		tenant.KindConnection: {"office"},
	}
	globexID := w.view("globex").Tenant.ID
	waysToName := []string{"globex", "Globex", "platform", "*", "", "globex\x00", "acme/../globex", "../globex", fmt.Sprint(globexID)}
	for who, by := range actors {
		for kind, list := range names {
			for _, owner := range waysToName {
				for _, name := range list {
					ref := tenant.Ref{Kind: kind, Tenant: owner, Name: name}
					if r, err := w.Get(ctx, by, ref); err == nil && owned(r) != "acme" {
						t.Errorf("%s gets %+v: %+v", who, ref, r)
					} else if err != nil && !errors.Is(err, tenant.ErrNotFound) {
						t.Errorf("%s gets %+v: %v; want ErrNotFound", who, ref, err)
					}
					if owner == "" && kind != tenant.KindTenant {
						continue // may mean acme's own
					}
					if err := w.Delete(ctx, by, ref, 0); !errors.Is(err, tenant.ErrNotFound) {
						t.Errorf("%s deletes %+v: %v; want ErrNotFound", who, ref, err)
					}
				}
				l, err := w.List(ctx, by, tenant.Ref{Kind: kind, Tenant: owner}, tenant.Page{})
				for _, r := range l.Items {
					if owned(r) != "acme" {
						t.Errorf("%s lists %s of %q: %+v", who, kind, owner, r)
					}
				}
				if owner == "globex" && !errors.Is(err, tenant.ErrNotFound) {
					t.Errorf("%s lists %s of globex: %v", who, kind, err)
				}
				apply(t, w, who, by, kind, owner)
			}
		}
		// A cursor that somebody else's list gave opens nothing.
		l, err := w.List(ctx, admin, tenant.Ref{Kind: tenant.KindDomain}, tenant.Page{Limit: 1})
		if err != nil || l.Next == "" {
			t.Fatalf("%+v, %v", l, err)
		}
		for cursor := l.Next; cursor != ""; {
			mine, _ := w.List(ctx, by, tenant.Ref{Kind: tenant.KindDomain}, tenant.Page{Cursor: cursor})
			for _, r := range mine.Items {
				if owned(r) != "acme" {
					t.Errorf("%s lists %+v by a foreign cursor", who, r)
				}
			}
			if l, err = w.List(ctx, admin, tenant.Ref{Kind: tenant.KindDomain}, tenant.Page{Limit: 1, Cursor: cursor}); err != nil {
				t.Fatal(err)
			}
			cursor = l.Next
		}
	}
	for _, c := range []*tenant.Credential{acmeCred, platformCred, nil, {}, {Scope: "platform"}, {Tenants: []string{"*"}}, {Meta: tenant.Meta{Tenant: "*"}}, {Meta: tenant.Meta{Tenant: "platform"}}} {
		for _, name := range waysToName {
			if w.MayActFor(c, name) {
				t.Errorf("%+v may act for %q", c, name)
			}
			if v, err := w.ViewFor(ctx, c, name, anywhere); !errors.Is(err, tenant.ErrNotFound) {
				t.Errorf("%+v sees %q: %+v, %v", c, name, v, err)
			}
		}
	}
	for name, want := range map[string]bool{"acme": true, "globex": true, "platform": false, "": false, "*": false} {
		if w.MayActFor(allCred, name) != want {
			t.Errorf("the credential for all tenants may act for %q: %v", name, !want)
		}
	}
	if v, err := w.ViewFor(ctx, platformCred, "acme", anywhere); err != nil || v.Tenant.Name != "acme" {
		t.Errorf("the platform's credential for acme: %v", err)
	}
	if _, err := w.ViewFor(ctx, platformCred, "initech", anywhere); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("a tenant that is listed but does not exist: %v", err)
	}
	// Secrets are reached by the tenant's number only.
	acmeID := w.view("acme").Tenant.ID
	if _, err := w.Signer(ctx, mail.Selector{Tenant: acmeID, Domain: "globex.example", Name: "b2"}); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("acme's signer for globex.example: %v", err)
	}
	if p, err := w.Password(ctx, acmeID, "office"); err != nil || p != "hunter22" {
		t.Errorf("acme's office: %q, %v", p, err)
	}
	if after := dump(t, w.store); after != before {
		t.Error("one of these attempts changed the store")
	}
}

// apply tries to write into the tenant called owner; nothing of it may work.
func apply(t *testing.T, w *world, who string, by tenant.Actor, kind tenant.Kind, owner string) {
	t.Helper()
	o, _ := json.Marshal(owner)
	raw := map[tenant.Kind]string{
		tenant.KindTenant:     `{"kind":"tenant","name":` + string(o) + `,"labels":{"plan":"gold"}}`,
		tenant.KindCredential: `{"kind":"credential","name":"evil","tenant":` + string(o) + `}`,
		tenant.KindDomain:     `{"kind":"domain","name":"evil.globex.example","tenant":` + string(o) + `,` + ed25519Dom + `}`,
		tenant.KindIdentity:   `{"kind":"identity","address":"evil@globex.example","tenant":` + string(o) + `}`,
		tenant.KindConnection: `{"kind":"connection","name":"office","provider":"smtp","tenant":` + string(o) + `,"smtp":{"host":"evil.example","username":"a@b.example"}}`,
	}[kind]
	if owner == "" && kind == tenant.KindConnection {
		return // acme may well change its own
	}
	_, _, err := w.Apply(context.Background(), json.RawMessage(raw), by, 0)
	var invalid *tenant.ValidationError
	ok := errors.Is(err, tenant.ErrNotFound) || errors.As(err, &invalid)
	if owner == "" { // acme itself: may not mint credentials, nor take what is globex's
		ok = ok || errors.Is(err, tenant.ErrForbidden) || errors.Is(err, tenant.ErrTaken)
		ok = ok || kind == tenant.KindCredential && by.Scope == tenant.ScopePlatform
	}
	if !ok {
		t.Errorf("%s applies %s: %v", who, raw, err)
	}
	if err == nil {
		w.Delete(context.Background(), admin, tenant.Ref{Kind: kind, Tenant: "acme", Name: "evil"}, 0)
	}
	for _, scope := range []string{`"scope":"platform","tenants":["*"]`, `"scope":"platform","tenants":["globex"]`} {
		if _, _, err := w.Apply(context.Background(), json.RawMessage(`{"kind":"credential","name":"evil",`+scope+`}`), by, 0); !errors.Is(err, tenant.ErrNotFound) {
			t.Errorf("%s makes a platform credential: %v", who, err)
		}
	}
}

func owned(r any) string {
	switch r := r.(type) {
	case *tenant.Tenant:
		return r.Name
	case *tenant.Credential:
		return r.Tenant
	case *tenant.Domain:
		return r.Tenant
	case *tenant.Identity:
		return r.Tenant
	case *tenant.Connection:
		return r.Tenant
	}
	return fmt.Sprintf("%T", r)
}

func TestTenantMayNotRaiseItself(t *testing.T) {
	w := newWorld(t)
	w.must(acme)
	self := tenant.Actor{Name: "acme/app", Scope: tenant.ScopeTenant, Tenants: []string{"acme"}}
	var invalid *tenant.ValidationError
	for raw, want := range map[string]func(error) bool{
		`{"kind":"tenant","name":"acme","labels":{"plan":"gold"}}`:                   func(e error) bool { return errors.Is(e, tenant.ErrForbidden) },
		`{"kind":"credential","name":"second"}`:                                      func(e error) bool { return errors.Is(e, tenant.ErrForbidden) },
		`{"kind":"domain","name":"own.example","verified":true,` + ed25519Dom + `}`:  func(e error) bool { return errors.As(e, &invalid) },
		`{"kind":"identity","address":"a@own.example","verified":true}`:              func(e error) bool { return errors.As(e, &invalid) },
		`{"kind":"domain","name":"platform.example",` + ed25519Dom + `}`:             func(e error) bool { return errors.Is(e, tenant.ErrForbidden) },
		`{"kind":"domain","name":"x.send.platform.example",` + ed25519Dom + `}`:      func(e error) bool { return errors.Is(e, tenant.ErrForbidden) },
		`{"kind":"identity","address":"ceo@platform.example"}`:                       func(e error) bool { return errors.Is(e, tenant.ErrForbidden) },
		`{"kind":"domain","name":"own.example",` + ed25519Dom + `}`:                  func(e error) bool { return e == nil },
		`{"kind":"identity","address":"a@own.example"}`:                              func(e error) bool { return e == nil },
		`{"kind":"domain","name":"platform.example.own.example",` + ed25519Dom + `}`: func(e error) bool { return e == nil },
		`{"kind":"domain","name":"myplatform.example",` + ed25519Dom + `}`:           func(e error) bool { return e == nil },
	} {
		if _, _, err := w.Apply(context.Background(), json.RawMessage(raw), self, 0); !want(err) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	// What an admin wrote is trusted to name loopback until the tenant changes it.
	w.must(office)
	if c, _ := w.view("acme").Connection("office"); !c.Trusted {
		t.Error("an admin's connection is not trusted")
	}
	if _, _, err := w.Apply(context.Background(), json.RawMessage(strings.Replace(office, "hunter22", "other-password", 1)), self, 0); err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(office, "smtp.provider.example", "127.0.0.1", 1)
	if _, _, err := w.Apply(context.Background(), json.RawMessage(changed), self, 0); err != nil {
		t.Fatal(err)
	}
	if c, _ := w.view("acme").Connection("office"); c.Trusted || c.SMTP.Host != "127.0.0.1" {
		t.Errorf("a tenant's own change is trusted: %+v", c)
	}
}

func TestDomainBelongsToWhoProvesIt(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	claim := func(who, name, more string) error {
		_, _, err := w.Apply(ctx, json.RawMessage(`{"kind":"domain","tenant":"`+who+`","name":"`+name+`",`+more+ed25519Dom+`}`), admin, 0)
		return err
	}
	w.must(acme, globex)
	acmeID, globexID := w.view("acme").Tenant.ID, w.view("globex").Tenant.ID
	for _, who := range []string{"acme", "globex"} {
		if err := claim(who, "shop.example", ""); err != nil {
			t.Fatalf("%s claims without proof: %v", who, err)
		}
	}
	if err := claim("globex", "eu.shop.example", ""); err != nil {
		t.Fatal(err)
	}
	if err := w.Activate(ctx, acmeID, "shop.example"); err != nil {
		t.Fatal(err)
	}
	if dom, _ := w.view("acme").Domain("shop.example"); dom.State != tenant.DomainActive || dom.Verified {
		t.Errorf("%+v", dom)
	}
	for what, err := range map[string]error{
		"prove the same":         w.Activate(ctx, globexID, "shop.example"),
		"prove what is below":    w.Activate(ctx, globexID, "eu.shop.example"),
		"claim the same":         claim("globex", "shop.example", `"return_path":"b2",`),
		"claim what is below":    claim("globex", "us.shop.example", ""),
		"be given the same":      claim("globex", "shop.example", `"verified":true,`),
		"be given what is below": claim("globex", "x.y.shop.example", `"verified":true,`),
	} {
		if !errors.Is(err, tenant.ErrTaken) {
			t.Errorf("another tenant may %s: %v", what, err)
		}
	}
	if _, _, err := w.Apply(ctx, json.RawMessage(`{"kind":"identity","tenant":"globex","address":"a@shop.example"}`), admin, 0); !errors.Is(err, tenant.ErrTaken) {
		t.Errorf("another tenant may claim an identity there: %v", err)
	}
	for id, want := range map[mail.TenantID]bool{acmeID: false, globexID: true} {
		if foreign, err := w.Foreign(ctx, id, mail.Address{Local: "a", Domain: "deep.shop.example"}); foreign != want || err != nil {
			t.Errorf("foreign %v, %v; want %v", foreign, err, want)
		}
	}
	if err := claim("acme", "eu.shop.example", `"verified":true,`); err != nil {
		t.Errorf("the owner below its own: %v", err)
	}
	for _, name := range []string{"shop.example", "eu.shop.example"} {
		if err := w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindDomain, Tenant: "acme", Name: name}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Activate(ctx, globexID, "shop.example"); err != nil {
		t.Errorf("after the owner gave it up: %v", err)
	}
	if err := w.Activate(ctx, globexID, "not.mine.example"); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("a domain that was not claimed: %v", err)
	}
}

// TestAddressBelongsToWhomItIsVerifiedFor: other tenants are told that it is
// not theirs, for as long as it is verified.
func TestAddressBelongsToWhomItIsVerifiedFor(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme, globex, `{"kind":"tenant","name":"third"}`)
	identity := func(who, address string, verified bool) {
		t.Helper()
		w.must(fmt.Sprintf(`{"kind":"identity","tenant":%q,"address":%q,"verified":%v}`, who, address, verified))
	}
	foreign := func(address string, want ...string) {
		t.Helper()
		a, err := mail.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, who := range []string{"acme", "globex", "third"} {
			f, err := w.Foreign(ctx, w.view(who).Tenant.ID, a)
			if err != nil {
				t.Fatal(err)
			}
			if f {
				got = append(got, who)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s is foreign to %v; want %v", address, got, want)
		}
	}
	identity("acme", "owner@bistro.example", true)
	identity("acme", "claimed@bistro.example", false)
	identity("globex", "*@shared.example", true)
	identity("globex", `"owner@x.example/ab"@y.example`, true)
	foreign("owner@bistro.example", "globex", "third")
	foreign("Owner@Bistro.Example", "globex", "third")
	foreign("claimed@bistro.example")
	foreign("other@bistro.example")
	foreign("anybody@shared.example", "acme", "third")
	foreign("anybody@below.shared.example")
	foreign("owner@x.example")
	identity("globex", "owner@bistro.example", true) // the platform vouches for both
	foreign("owner@bistro.example", "acme", "globex", "third")
	identity("acme", "owner@bistro.example", false)
	foreign("owner@bistro.example", "acme", "third")
	if err := w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindIdentity, Tenant: "globex", Name: "owner@bistro.example"}, 0); err != nil {
		t.Fatal(err)
	}
	foreign("owner@bistro.example")
	if err := w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindTenant, Name: "globex"}, 0); err != nil {
		t.Fatal(err)
	}
	w.must(globex)
	foreign("anybody@shared.example")
	if strings.Contains(dump(t, w.store), "u/address/") {
		t.Error("the index outlives its tenant")
	}
}
