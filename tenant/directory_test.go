package tenant_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"behalf/internal/keyring"
	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/mail"
	"behalf/tenant"
)

var admin = tenant.Actor{Name: "admin", Admin: true}

var options = tenant.Options{PlatformDomain: "platform.example", SendingDomain: "send.platform.example", PlatformRoute: true}

// world is a directory over a store in memory.
type world struct {
	*tenant.Directory
	t     testing.TB
	store kv.Store
	keys  *keyring.Keyring
}

func newWorld(t testing.TB) *world {
	t.Helper()
	keys, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: mem.New(mem.Options{}), keys: keys}
	t.Cleanup(func() { w.store.Close() })
	w.reopen()
	return w
}

func (w *world) reopen() {
	w.t.Helper()
	d, err := tenant.Open(context.Background(), w.store, w.keys, options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Directory = d
}

// must applies resources in JSON as an admin and gives the last result.
func (w *world) must(resources ...string) any {
	w.t.Helper()
	var out any
	for _, r := range resources {
		var err error
		if out, _, err = w.Apply(context.Background(), json.RawMessage(r), admin, 0); err != nil {
			w.t.Fatalf("apply %s: %v", r, err)
		}
	}
	return out
}

func (w *world) view(name string) *tenant.View {
	w.t.Helper()
	v, err := w.ViewByName(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

const (
	acme       = `{"kind":"tenant","name":"acme"}`
	globex     = `{"kind":"tenant","name":"globex"}`
	acmeApp    = `{"kind":"credential","tenant":"acme","name":"app","secret":"acme-app-secret"}`
	globexApp  = `{"kind":"credential","tenant":"globex","name":"app","secret":"globex-app-secret"}`
	platform   = `{"kind":"credential","scope":"platform","name":"app","tenants":["acme","initech"],"secret":"platform-secret"}`
	everywhere = `{"kind":"credential","scope":"platform","name":"all","tenants":["*"],"secret":"everywhere-secret"}`
	ed25519Dom = `"dkim":[{"selector":"b2","algorithm":"ed25519"}]` // quick to make
	acmeDomain = `{"kind":"domain","tenant":"acme","name":"acme.example",` + ed25519Dom + `}`
	support    = `{"kind":"identity","tenant":"acme","address":"support@acme.example","display_name":"Acme Support"}`
	office     = `{"kind":"connection","tenant":"acme","name":"office","provider":"smtp","smtp":{"host":"smtp.provider.example","username":"office@acme.example","password":"hunter22"}}`
)

func TestApplyTwiceChangesNothing(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	var before string
	for i, want := range []tenant.Change{tenant.Created, tenant.Unchanged, tenant.Unchanged} {
		for _, r := range []string{acme, acmeApp, platform, acmeDomain, support, office} {
			_, got, err := w.Apply(ctx, json.RawMessage(r), admin, 0)
			if err != nil || got != want {
				t.Fatalf("time %d: %s: %s, %v; want %s", i+1, r, got, err, want)
			}
		}
		now := dump(t, w.store)
		if i > 0 && now != before {
			t.Error("the store changed")
		}
		before = now
		if i == 1 {
			w.reopen()
		}
	}
}

// What Get gives can be applied again: it changes nothing, for admins and, but
// for what they may not write at all, for the tenant itself.
func TestWhatIsReadCanBeApplied(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme, acmeApp, `{"kind":"domain","tenant":"acme","name":"acme.example","verified":true,`+ed25519Dom+`}`, support, office, platform)
	self := tenant.Actor{Name: "acme/app", Scope: tenant.ScopeTenant, Tenants: []string{"acme"}}
	for _, ref := range []tenant.Ref{
		{Kind: tenant.KindTenant, Name: "acme"}, {Kind: tenant.KindCredential, Name: "acme/app"}, {Kind: tenant.KindCredential, Name: "platform/app"},
		{Kind: tenant.KindDomain, Name: "acme.example"}, {Kind: tenant.KindIdentity, Name: "support@acme.example"}, {Kind: tenant.KindConnection, Name: "office"},
	} {
		r, err := w.Get(ctx, admin, ref)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := json.Marshal(r)
		if _, change, err := w.Apply(ctx, raw, admin, 0); err != nil || change != tenant.Unchanged {
			t.Errorf("%s as admin: %s, %v", raw, change, err)
		}
		if ref.Kind == tenant.KindTenant || ref.Kind == tenant.KindCredential {
			continue
		}
		if _, change, err := w.Apply(ctx, raw, self, 0); err != nil || change != tenant.Unchanged {
			t.Errorf("%s as the tenant: %s, %v", raw, change, err)
		}
	}
}

func TestRevisionGuardsAgainstLostChanges(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	first := w.must(acme).(*tenant.Tenant)
	if first.Revision != 1 || first.ID == 0 || first.Created.IsZero() {
		t.Fatalf("created: %+v", first)
	}
	second := w.must(`{"kind":"tenant","name":"acme","notify":"ops@acme.example"}`).(*tenant.Tenant)
	if second.Revision != 2 || second.ID != first.ID || !second.Created.Equal(first.Created) {
		t.Fatalf("updated: %+v", second)
	}
	if _, _, err := w.Apply(ctx, json.RawMessage(acme), admin, 1); !errors.Is(err, tenant.ErrConflict) {
		t.Errorf("apply over revision 1: %v; want ErrConflict", err)
	}
	if err := w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindTenant, Name: "acme"}, 1); !errors.Is(err, tenant.ErrConflict) {
		t.Errorf("delete of revision 1: %v; want ErrConflict", err)
	}
	if _, _, err := w.Apply(ctx, json.RawMessage(globex), admin, 5); !errors.Is(err, tenant.ErrConflict) {
		t.Errorf("apply of what should be there: %v; want ErrConflict", err)
	}
	if _, change, err := w.Apply(ctx, json.RawMessage(acme), admin, 2); err != nil || change != tenant.Updated {
		t.Errorf("apply over revision 2: %s, %v", change, err)
	}
}

func TestBadResourcesAreRefusedByField(t *testing.T) {
	w := newWorld(t)
	w.must(acme)
	for raw, field := range map[string]string{
		`{"kind":"tenant","name":"Acme"}`:                                                                                              "name",
		`{"kind":"tenant","name":"platform"}`:                                                                                          "name",
		`{"kind":"tenant","name":"a.b"}`:                                                                                               "name",
		`{"kind":"tenant","name":"x","methods":["magic"]}`:                                                                             "methods",
		`{"kind":"tenant","name":"x","methods":["name","name"]}`:                                                                       "methods",
		`{"kind":"tenant","name":"x","route":[{"upstream":"moon"}]}`:                                                                   "route.upstream",
		`{"kind":"tenant","name":"x","route":[{}]}`:                                                                                    "route",
		`{"kind":"tenant","name":"x","route":[{"upstream":"mx","connection":"a"}]}`:                                                    "route",
		`{"kind":"tenant","name":"x","notify":"nobody"}`:                                                                               "notify",
		`{"kind":"tenant","name":"x","colour":"red"}`:                                                                                  "colour",
		`{"kind":"tenant","name":5}`:                                                                                                   "name",
		`{"kind":"tenant","name":"x","suspended":{}}`:                                                                                  "suspended.reason",
		`{"kind":"planet","name":"x"}`:                                                                                                 "kind",
		`{"name":"x"}`:                                                                                                                 "kind",
		`{"kind":"tenant","name":"x"} {}`:                                                                                              "",
		`[]`:                                                                                                                           "",
		`{"kind":"credential","tenant":"acme","name":"a/b"}`:                                                                           "name",
		`{"kind":"credential","name":"a"}`:                                                                                             "tenant",
		`{"kind":"credential","tenant":"platform","name":"a"}`:                                                                         "tenant",
		`{"kind":"credential","tenant":"acme","name":"a","tenants":["globex"]}`:                                                        "tenants",
		`{"kind":"credential","tenant":"acme","name":"a","scope":"platform","tenants":["*"]}`:                                          "tenant",
		`{"kind":"credential","scope":"platform","name":"a"}`:                                                                          "tenants",
		`{"kind":"credential","scope":"platform","name":"a","tenants":["*","acme"]}`:                                                   "tenants",
		`{"kind":"credential","tenant":"acme","name":"a","scope":"root"}`:                                                              "scope",
		`{"kind":"credential","tenant":"acme","name":"a","secret":"short"}`:                                                            "secret",
		`{"kind":"credential","tenant":"acme","name":"a","secret":"with space in it"}`:                                                 "secret",
		`{"kind":"credential","tenant":"acme","name":"a","secret":"file:/etc/passwd"}`:                                                 "secret",
		`{"kind":"credential","tenant":"acme","name":"a","secret":"env:HOME"}`:                                                         "secret",
		`{"kind":"credential","tenant":"acme","name":"a","networks":["10.0.0.0/33"]}`:                                                  "networks",
		`{"kind":"domain","tenant":"acme","name":"co.uk"}`:                                                                             "name",
		`{"kind":"domain","tenant":"acme","name":"github.io"}`:                                                                         "name",
		`{"kind":"domain","tenant":"acme","name":"com"}`:                                                                               "name",
		`{"kind":"domain","tenant":"acme","name":"[192.0.2.1]"}`:                                                                       "name",
		`{"kind":"domain","tenant":"acme","name":"a.example","return_path":"x..y"}`:                                                    "return_path",
		`{"kind":"domain","tenant":"acme","name":"a.example","dkim":[{"selector":"a b"}]}`:                                             "dkim.selector",
		`{"kind":"domain","tenant":"acme","name":"a.example","dkim":[{"selector":"a","algorithm":"dsa"}]}`:                             "dkim.algorithm",
		`{"kind":"domain","tenant":"acme","name":"a.example","dkim":[{"selector":"a","key":"file:k.pem"}]}`:                            "dkim.key",
		`{"kind":"domain","tenant":"acme","name":"a.example","dkim":[{"selector":"a","key":"no key"}]}`:                                "dkim.key",
		`{"kind":"identity","tenant":"acme","address":"nobody"}`:                                                                       "address",
		`{"kind":"identity","tenant":"acme","address":"*@localhost"}`:                                                                  "address",
		`{"kind":"identity","tenant":"acme","address":"a@[192.0.2.1]"}`:                                                                "address",
		`{"kind":"identity","tenant":"acme","address":"a@b.example","display_name":"a\nb"}`:                                            "display_name",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"pigeon","smtp":{"host":"h","username":"a@b.c"}}`:                  "provider",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp"}`:                                                           "smtp",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","smtp":{"host":"a b","username":"a@b.c"}}`:                  "smtp.host",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","smtp":{"host":"h","port":70000,"username":"a@b.c"}}`:       "smtp.port",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","smtp":{"host":"h","security":"maybe","username":"a@b.c"}}`: "smtp.security",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","smtp":{"host":"h","security":"none","username":"a@b.c","password":"x"}}`: "smtp.security",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","smtp":{"host":"h","username":"a@b.c","password":"env:P"}}`:               "smtp.password",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","smtp":{"host":"h","username":"a@b.c","ca_file":"/etc/ca.pem"}}`:          "smtp.ca_file",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","smtp":{"host":"h","username":"user"}}`:                                   "senders",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","senders":["*@b.example"],"smtp":{"host":"h","username":"user"}}`:         "senders",
		`{"kind":"connection","tenant":"acme","name":"c","provider":"smtp","envelope":"none","smtp":{"host":"h","username":"a@b.c"}}`:                "envelope",
	} {
		_, _, err := w.Apply(context.Background(), json.RawMessage(raw), admin, 0)
		var v *tenant.ValidationError
		if !errors.As(err, &v) {
			t.Errorf("%s: %v; want a ValidationError", raw, err)
			continue
		}
		if v.Fields[0].Field != field || v.Fields[0].Message == "" {
			t.Errorf("%s: %+v; want field %q", raw, v.Fields, field)
		}
	}
}

func TestDefaults(t *testing.T) {
	w := newWorld(t)
	w.must(acme, acmeDomain, office, `{"kind":"connection","tenant":"acme","name":"local","provider":"smtp","smtp":{"host":"127.0.0.1","security":"none","username":"a@b.example","password":"secret99"}}`)
	v := w.view("acme")
	if got := v.Route(); len(got) != 2 || got[0].Upstream != mail.UpstreamMX || got[1].Upstream != mail.UpstreamPlatform {
		t.Errorf("route %v", got)
	}
	if got := v.Methods(); len(got) != 3 || got[0] != mail.MethodDomain || got[1] != mail.MethodConnection || got[2] != mail.MethodName {
		t.Errorf("methods %v", got)
	}
	c, _ := v.Connection("office")
	if s := c.SMTP; s.Port != 587 || s.Security != "starttls" || c.Envelope != "account" || c.Verp != "recipient" || len(c.Senders) != 1 || c.Senders[0] != "office@acme.example" {
		t.Errorf("connection %+v, %+v", c, s)
	}
	if dom, _ := v.Domain("ACME.example"); dom.ReturnPathHost() != "bounce.acme.example" || dom.State != tenant.DomainPending {
		t.Errorf("domain %+v", dom)
	}
	w.must(`{"kind":"domain","tenant":"acme","name":"Two.Example."}`)
	dom, _ := w.view("acme").Domain("two.example")
	if len(dom.DKIM) != 2 || dom.DKIM[0].Algorithm != "rsa-2048" || dom.DKIM[1].Algorithm != "ed25519" || dom.DKIM[0].Selector == dom.DKIM[1].Selector {
		t.Errorf("keys made: %+v", dom.DKIM)
	}
}

func TestViewFinds(t *testing.T) {
	w := newWorld(t)
	w.must(acme, acmeDomain, support,
		`{"kind":"identity","tenant":"acme","address":"*@acme.example","display_name":"Acme"}`,
		`{"kind":"identity","tenant":"acme","address":"boss@partner.example","verified":true}`,
		`{"kind":"domain","tenant":"acme","name":"eu.acme.example",`+ed25519Dom+`}`)
	v := w.view("acme")
	addr := func(s string) mail.Address {
		a, err := mail.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for a, want := range map[string]string{
		"support@acme.example": "Acme Support", "SUPPORT@ACME.example": "Acme Support", "other@acme.example": "Acme",
		"x@sub.acme.example": "-", "x@acme.example.evil.example": "-", "x@xacme.example": "-",
	} {
		got := "-"
		if i, ok := v.Identity(addr(a)); ok {
			got = i.DisplayName
		}
		if got != want {
			t.Errorf("Identity(%s) = %q; want %q", a, got, want)
		}
	}
	for from, want := range map[string]string{
		"acme.example": "acme.example", "mail.acme.example": "acme.example", "eu.acme.example": "eu.acme.example",
		"a.eu.acme.example": "eu.acme.example", "xacme.example": "-", "example": "-", "": "-",
	} {
		got := "-"
		if dom, ok := v.DomainFor(from); ok {
			got = dom.Name
		}
		if got != want {
			t.Errorf("DomainFor(%s) = %q; want %q", from, got, want)
		}
	}
	if v.Verified(addr("support@acme.example")) || !v.Verified(addr("boss@partner.example")) {
		t.Error("verified without proof, or not although an admin said so")
	}
	if err := w.Activate(context.Background(), v.Tenant.ID, "acme.example"); err != nil {
		t.Fatal(err)
	}
	if now := w.view("acme"); !now.Verified(addr("support@acme.example")) || now.Verified(addr("x@nowhere.example")) {
		t.Error("after proof of the domain its identities should be verified, and no others")
	}
	if v.Verified(addr("support@acme.example")) {
		t.Error("a view changed")
	}
}

func TestSecretsAreShownOnceAndNeverAgain(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme)
	made := w.must(`{"kind":"credential","tenant":"acme","name":"app"}`).(*tenant.Credential)
	if !strings.HasPrefix(made.Secret, "bhf_") || len(made.Secret) != 47 {
		t.Fatalf("secret %q; want bhf_ and 256 bits", made.Secret)
	}
	given := w.must(`{"kind":"credential","tenant":"acme","name":"other","secret":"given-by-the-client"}`).(*tenant.Credential)
	if given.Secret != "" {
		t.Error("a given secret was shown")
	}
	w.must(acmeDomain, office)
	for _, k := range []tenant.Kind{tenant.KindCredential, tenant.KindDomain, tenant.KindConnection} {
		l, err := w.List(ctx, admin, tenant.Ref{Kind: k}, tenant.Page{})
		if err != nil || len(l.Items) == 0 {
			t.Fatalf("%s: %v", k, err)
		}
		b, _ := json.Marshal(l)
		for _, secret := range []string{made.Secret, "given-by-the-client", "hunter22", "PRIVATE", `"secret"`, `"password"`, `"key"`} {
			if strings.Contains(string(b), secret) {
				t.Errorf("%s in %s", secret, b)
			}
		}
	}
	if s := dump(t, w.store); strings.Contains(s, made.Secret) || strings.Contains(s, "given-by") || strings.Contains(s, "hunter22") || strings.Contains(s, "office@acme.example\\u0000hunter22") {
		t.Error("a secret is readable in the store")
	}
	if p, err := w.Password(ctx, w.view("acme").Tenant.ID, "office"); err != nil || p != "hunter22" {
		t.Errorf("Password = %q, %v", p, err)
	}
	if _, change, _ := w.Apply(ctx, json.RawMessage(`{"kind":"credential","tenant":"acme","name":"app"}`), admin, 0); change != tenant.Unchanged {
		t.Errorf("apply without a secret: %s; the secret must stay", change)
	}
	if _, err := w.Authenticate(ctx, "acme/app", made.Secret); err != nil {
		t.Error(err)
	}
	w.must(`{"kind":"credential","tenant":"acme","name":"app","secret":"a-new-secret"}`)
	if _, err := w.AuthenticateBearer(ctx, made.Secret); !errors.Is(err, tenant.ErrAuth) {
		t.Errorf("the old secret still opens: %v", err)
	}
}

func TestStoredPasswordIsNotSentToAnotherServer(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme, office)
	id := w.view("acme").Tenant.ID
	for _, smtp := range []string{
		`{"host":"evil.example","username":"office@acme.example"}`,
		`{"host":"smtp.provider.example","port":2525,"username":"office@acme.example"}`,
		`{"host":"smtp.provider.example","username":"office@acme.example","security":"none","allow_insecure":true}`,
	} {
		_, _, err := w.Apply(ctx, json.RawMessage(`{"kind":"connection","tenant":"acme","name":"office","provider":"smtp","smtp":`+smtp+`}`), admin, 0)
		if err == nil || !strings.Contains(err.Error(), "smtp.password") {
			t.Errorf("%s: %v; want the password asked for again", smtp, err)
		}
	}
	w.must(`{"kind":"connection","tenant":"acme","name":"office","provider":"smtp","senders":["*@acme.example"],"smtp":{"host":"smtp.provider.example","username":"office@acme.example"}}`)
	if p, _ := w.Password(ctx, id, "office"); p != "hunter22" {
		t.Errorf("the password is %q after a change of senders", p)
	}
	w.must(`{"kind":"connection","tenant":"acme","name":"office","provider":"smtp","senders":["a@acme.example"],"smtp":{"host":"other.example"}}`)
	if p, _ := w.Password(ctx, id, "office"); p != "" {
		t.Errorf("the password %q stayed without a username", p)
	}
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme, globex, acmeApp, globexApp, platform,
		`{"kind":"credential","tenant":"acme","name":"old","secret":"expired-secret","expires":"2020-01-01T00:00:00Z"}`,
		`{"kind":"credential","tenant":"acme","name":"twin","secret":"shared-secret"}`,
		`{"kind":"credential","tenant":"globex","name":"twin","secret":"shared-secret"}`)
	for _, tt := range []struct {
		user, secret string
		ok           bool
	}{
		{"acme/app", "acme-app-secret", true},
		{"platform/app", "platform-secret", true},
		{"globex/twin", "shared-secret", true},
		{"acme/app", "globex-app-secret", false},
		{"globex/app", "acme-app-secret", false},
		{"acme/app", "", false},
		{"acme/app", "acme-app-secre", false},
		{"acme/app", "acme-app-secret ", false},
		{"acme/nobody", "acme-app-secret", false},
		{"nobody/app", "acme-app-secret", false},
		{"app", "platform-secret", false},
		{"/app", "platform-secret", false},
		{"", "", false},
		{"platform/app+acme", "platform-secret", false}, // the door splits it first
		{"acme/old", "expired-secret", false},
		{strings.Repeat("x", 1000) + "/app", "x", false},
	} {
		c, err := w.Authenticate(ctx, tt.user, tt.secret)
		if tt.ok && (err != nil || c.Username != tt.user) || !tt.ok && !errors.Is(err, tenant.ErrAuth) {
			t.Errorf("%q %q: %+v, %v; want ok %v", tt.user, tt.secret, c, err, tt.ok)
		}
	}
	for secret, want := range map[string]string{
		"acme-app-secret": "acme/app", "platform-secret": "platform/app", "shared-secret": "", "expired-secret": "", "nothing": "", "": "",
	} {
		c, err := w.AuthenticateBearer(ctx, secret)
		if want == "" && !errors.Is(err, tenant.ErrAuth) || want != "" && (err != nil || c.Username != want) {
			t.Errorf("bearer %q: %+v, %v; want %q", secret, c, err, want)
		}
	}
	if err := w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindCredential, Name: "globex/twin"}, 0); err != nil {
		t.Fatal(err)
	}
	if c, err := w.AuthenticateBearer(ctx, "shared-secret"); err != nil || c.Username != "acme/twin" {
		t.Errorf("bearer of the twin that is left: %+v, %v", c, err)
	}
	if name, who := tenant.SplitUsername("platform/app+acme"); name != "platform/app" || who != "acme" {
		t.Errorf("SplitUsername: %q, %q", name, who)
	}
}

func TestNetworksOfACredential(t *testing.T) {
	c := &tenant.Credential{Networks: []string{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32"}}
	for a, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "192.0.2.7": true, "2001:db8::1": true,
		"11.0.0.1": false, "192.0.2.8": false, "2001:db9::1": false, "::1": false,
	} {
		if got := c.Allows(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v; want %v", a, got, want)
		}
	}
	if !(&tenant.Credential{}).Allows(netip.MustParseAddr("203.0.113.1")) {
		t.Error("without networks every address may")
	}
}

func TestLastUseIsWrittenLazily(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	w.must(acme, acmeApp)
	used := func() time.Time {
		c, err := w.Get(context.Background(), admin, tenant.Ref{Kind: tenant.KindCredential, Name: "acme/app"})
		if err != nil {
			t.Fatal(err)
		}
		return c.(*tenant.Credential).LastUsed
	}
	if _, err := w.Authenticate(ctx, "acme/app", "acme-app-secret"); err != nil {
		t.Fatal(err)
	}
	if at := used(); !at.IsZero() {
		t.Errorf("written on the hot path: %v", at)
	}
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if at := used(); time.Since(at) > time.Minute {
		t.Errorf("last used %v", at)
	}
	if err := w.Delete(context.Background(), admin, tenant.Ref{Kind: tenant.KindTenant, Name: "acme"}, 0); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherMasterKeyIsNoticedAtStart(t *testing.T) {
	w := newWorld(t)
	other, _ := keyring.New()
	_, err := tenant.Open(context.Background(), w.store, other, options)
	if err == nil || !strings.Contains(err.Error(), "key file") {
		t.Errorf("%v; want an error that names the key file", err)
	}
}

func dump(t *testing.T, st kv.Store) string {
	t.Helper()
	var b strings.Builder
	err := st.View(context.Background(), func(r kv.Reader) error {
		return r.Scan(kv.Range{}, func(k, v []byte) bool {
			b.Write(k)
			b.WriteByte('=')
			b.Write(v)
			b.WriteByte('\n')
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
