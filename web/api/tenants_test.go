package api_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/tenant"
	"behalf/web/api"
)

// ways are the ways in which a platform credential says for whom it submits.
// Each submits one message and gives its id.
var ways = []struct {
	name   string
	submit func(w *world, client relay.Client, name string) (mail.ID, error)
}{
	{"SASL authorization identity", func(w *world, c relay.Client, name string) (mail.ID, error) {
		return w.transact(c, relay.Login{Mechanism: "PLAIN", Authzid: name, Username: "platform/app", Secret: "platform-secret"}, "")
	}},
	{"username platform/app+tenant", func(w *world, c relay.Client, name string) (mail.ID, error) {
		return w.transact(c, relay.Login{Mechanism: "PLAIN", Username: "platform/app+" + name, Secret: "platform-secret"}, "")
	}},
	{"header field Behalf-Tenant", func(w *world, c relay.Client, name string) (mail.ID, error) {
		return w.transact(c, relay.Login{Mechanism: "PLAIN", Username: "platform/app", Secret: "platform-secret"}, "Behalf-Tenant: "+name+"\r\n")
	}},
	{"HTTP header Behalf-Tenant", func(w *world, _ relay.Client, name string) (mail.ID, error) {
		return w.accepted(request{key: "platform-secret", body: draftOf(name), header: map[string]string{"Behalf-Tenant": name}})
	}},
	{"JSON field tenant", func(w *world, _ relay.Client, name string) (mail.ID, error) {
		d := draftOf(name)
		d["tenant"] = name
		return w.accepted(request{key: "platform-secret", body: d})
	}},
	{"HTTP user platform/app+tenant", func(w *world, _ relay.Client, name string) (mail.ID, error) {
		return w.accepted(request{basic: "platform/app+" + name + ":platform-secret", body: draftOf(name)})
	}},
}

func draftOf(name string) map[string]any {
	return map[string]any{"from": name + "@customers.example", "to": "guest@elsewhere.example", "text": "x", "send_at": later()}
}

// later keeps messages in the queue: what is tested here ends with acceptance.
func later() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }

// accepted posts a message and gives its id, or the refusal as an error.
func (w *world) accepted(r request) (mail.ID, error) {
	r.method, r.path = http.MethodPost, "/v1/messages"
	a := w.do(r)
	if a.status != http.StatusAccepted {
		return mail.ID{}, errors.New(a.String())
	}
	return into[api.Accepted](w.t, a).ID, nil
}

// transact does what the SMTP door does: log in, MAIL, RCPT, DATA.
func (w *world) transact(c relay.Client, l relay.Login, fields string) (mail.ID, error) {
	ctx := w.t.Context()
	p, err := w.intake.Login(ctx, c, l)
	if err != nil {
		return mail.ID{}, err
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(fields, "Behalf-Tenant: "), "\r\n")
	if name == "" {
		name = l.Authzid
	}
	if _, plus, ok := strings.Cut(l.Username, "+"); ok {
		name = plus
	}
	from := mail.Address{Local: name, Domain: "customers.example"}
	tx, err := w.intake.Begin(ctx, p, c, mail.Envelope{From: from}, 0)
	if err != nil {
		return mail.ID{}, err
	}
	if err := tx.Recipient(ctx, mail.Recipient{Address: mail.Address{Local: "guest", Domain: "elsewhere.example"}}); err != nil {
		tx.Abort()
		return mail.ID{}, err
	}
	if _, err := io.WriteString(tx, fields+"Behalf-Send-At: "+later()+"\r\nFrom: "+from.String()+"\r\nSubject: x\r\n\r\nx\r\n"); err != nil {
		tx.Abort()
		return mail.ID{}, err
	}
	r, err := tx.Commit(ctx)
	return r.ID, err
}

// One platform credential submits for a thousand tenants, by every way to name
// one; each message belongs to the tenant named and to no other.
func TestOneCredentialForAThousandTenants(t *testing.T) {
	t.Parallel()
	const tenants = 1000
	w := newWorld(t)
	names := make([]string, tenants)
	for i := range names {
		names[i] = fmt.Sprintf("customer-%03d", i)
	}
	each(names, func(_ int, name string) {
		w.apply(&tenant.Tenant{Name: name, AllowFromChange: true}, &tenant.Identity{Meta: tenant.Meta{Tenant: name}, Address: name + "@customers.example", Verified: true})
	})
	w.apply(&tenant.Credential{Scope: tenant.ScopePlatform, Tenants: names, Name: "app", Secret: "platform-secret"},
		&tenant.Tenant{Name: "outsider"}, &tenant.Identity{Meta: tenant.Meta{Tenant: "outsider"}, Address: "outsider@customers.example", Verified: true})
	client := relay.Client{Door: mail.DoorSMTP}
	sent := make([]mail.ID, tenants)
	each(names, func(i int, name string) {
		id, err := ways[i%len(ways)].submit(w, client, name)
		if err != nil {
			t.Errorf("%s by %s: %v", name, ways[i%len(ways)].name, err)
		}
		sent[i] = id
	})
	for i, name := range names {
		v, err := w.directory.ViewByName(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		st, err := w.spool.Load(t.Context(), sent[i])
		if err != nil {
			t.Fatal(err)
		}
		if m := st.Message; m.Tenant != v.Tenant.ID || m.Credential != "platform/app" || m.From.Local != name {
			t.Errorf("the message of %s by %s is of tenant %d, from %s", name, ways[i%len(ways)].name, m.Tenant, m.From)
		}
	}
	t.Run("and for no other", func(t *testing.T) {
		for _, way := range ways {
			var told []string
			for _, name := range []string{"outsider", "nobody", tenant.PlatformName, "*", "Customer-001 "} {
				id, err := way.submit(w, client, name)
				if err == nil {
					t.Errorf("%s: a message for %q was accepted as %s", way.name, name, id)
					continue
				}
				var f *mail.Failure
				if errors.As(err, &f) && (f.Code != 550 || f.Enhanced != mail.Enhanced{5, 7, 1}) {
					t.Errorf("%s for %q: %v", way.name, name, err)
				}
				told = append(told, strings.ReplaceAll(err.Error(), name, "X"))
			}
			if len(told) > 1 && told[0] != told[1] {
				t.Errorf("%s tells apart a tenant that exists from one that does not:\n%s\n%s", way.name, told[0], told[1])
			}
		}
	})
	t.Run("named twice", func(t *testing.T) {
		login := relay.Login{Mechanism: "PLAIN", Username: "platform/app+customer-001", Secret: "platform-secret"}
		if _, err := w.transact(client, login, "Behalf-Tenant: customer-002\r\n"); err == nil {
			t.Error("a message for another tenant than the username names was accepted")
		}
		login.Authzid = "customer-002"
		if _, err := w.intake.Login(t.Context(), client, login); err == nil {
			t.Error("an authorization identity other than the username names was accepted")
		}
		w.do(request{basic: "platform/app+customer-001:platform-secret", method: "POST", path: "/v1/messages", body: draftOf("customer-002"),
			header: map[string]string{"Behalf-Tenant": "customer-002"}}).want(t, http.StatusForbidden)
	})
	t.Run("not named", func(t *testing.T) {
		if _, err := w.transact(client, relay.Login{Mechanism: "PLAIN", Username: "platform/app", Secret: "platform-secret"}, ""); err == nil {
			t.Error("a message for nobody was accepted")
		}
		w.post("platform-secret", "/v1/messages", draftOf("customer-001")).want(t, http.StatusForbidden)
	})
}

// A tenant's credential names only its own tenant, in whatever way.
func TestTenantCredentialNamesOnlyItself(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	w.apply(&tenant.Identity{Meta: tenant.Meta{Tenant: "acme"}, Address: "acme@customers.example", Verified: true})
	c := relay.Client{Door: mail.DoorSMTP}
	login := relay.Login{Mechanism: "PLAIN", Username: "acme/app", Secret: "acme-secret"}
	for _, name := range []string{"globex", "nobody", "platform"} {
		for _, l := range []relay.Login{
			{Mechanism: "PLAIN", Username: "acme/app", Secret: "acme-secret", Authzid: name},
			{Mechanism: "PLAIN", Username: "acme/app+" + name, Secret: "acme-secret"},
			{Mechanism: "PLAIN", Username: name + "/app", Secret: "acme-secret"},
			{Mechanism: "OAUTHBEARER", Secret: "acme-secret", Authzid: name},
			{Mechanism: "OAUTHBEARER", Secret: "acme-secret", Authzid: name + "/app"},
		} {
			if p, err := w.intake.Login(t.Context(), c, l); err == nil {
				t.Errorf("%+v is let in for %s", l, p.Tenant())
			}
		}
		if id, err := w.transact(c, login, "Behalf-Tenant: "+name+"\r\n"); err == nil {
			t.Errorf("a message whose header names %s was accepted as %s", name, id)
		}
	}
	id, err := w.transact(c, login, "Behalf-Tenant: acme\r\n")
	if err != nil {
		t.Fatal(err)
	}
	body := w.get("acme-secret", "/v1/messages/"+id.String()).want(t, 200)
	if !strings.Contains(string(body.body), `"tenant":"acme"`) {
		t.Errorf("%s", body)
	}
}

// each does something for every name, several at a time.
func each(names []string, do func(i int, name string)) {
	const workers = 8
	var all sync.WaitGroup
	for k := range workers {
		all.Go(func() {
			for i := k; i < len(names); i += workers {
				do(i, names[i])
			}
		})
	}
	all.Wait()
}
