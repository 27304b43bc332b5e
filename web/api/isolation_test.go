package api_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/tenant"
	"behalf/tenant/suppress"
	"behalf/web/api"
)

// attempt is one try to reach what belongs to another tenant. In path, body and
// header {tenant} stands for its name, {id} for one of its messages and
// {cursor} for one of its lists; and each attempt is made once with those of
// globex, which exists, and once with those of nobody, which does not.
type attempt struct {
	path, body string
	header     map[string]string
	// harmless: the answer may be a success, which then must not tell anything
	// of globex; otherwise it is a refusal, the same for both.
	harmless bool
}

// query is an attempt for each way to write the name of a tenant in a query.
func query(path string) []attempt {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return []attempt{
		{path: path + sep + "tenant={tenant}"},
		{path: path + sep + "tenant={tenant}&tenant=acme"},
		{path: path, header: map[string]string{"Behalf-Tenant": "{tenant}"}, harmless: true},
	}
}

// resource are the attempts at GET and DELETE of one resource.
func resource(path, name string) []attempt {
	all := []attempt{
		{path: path + name}, // found only if the caller may
		{path: path + "{tenant}%2F" + name},
		{path: path + "{tenant}"},
		{path: path + name, header: map[string]string{"If-None-Match": `"1"`, "If-Match": `"1"`}},
	}
	return append(all, query(path+name)...)
}

// applied are the attempts at POST of a resource of another tenant.
func applied(path string, fields string) []attempt {
	return []attempt{
		{path: path, body: `{"tenant":"{tenant}",` + fields + `}`},
		{path: path + "?tenant={tenant}", body: `{"tenant":"{tenant}",` + fields + `}`},
		{path: path, body: `{"tenant":"acme","tenant":"{tenant}",` + fields + `}`},
		{path: path, body: `{"Tenant":"{tenant}",` + fields + `}`},
	}
}

// lists are the attempts at a list.
func lists(path string) []attempt {
	return append(query(path),
		attempt{path: path, harmless: true},
		attempt{path: path + "?cursor={cursor}", harmless: true},
		attempt{path: path + "?tenant=acme&cursor={cursor}", harmless: true},
		attempt{path: path + "?tenant={tenant}&cursor={cursor}"})
}

// one are the attempts at a message of another tenant, and its operations.
func one(suffix, body string) []attempt {
	return []attempt{
		{path: "/v1/messages/{id}" + suffix, body: body},
		{path: "/v1/messages/{id}" + suffix + "?tenant=acme", body: body},
		{path: "/v1/messages/{id}" + suffix, body: body, header: map[string]string{"Behalf-Tenant": "{tenant}"}},
	}
}

// bulk are the attempts at operations on whatever matches.
func bulk(path string) []attempt {
	return []attempt{
		{path: path, body: `{"tenant":"{tenant}"}`},
		{path: path + "?tenant={tenant}", body: `{"tenant":"acme"}`, harmless: true},
		{path: path, body: `{"tenant":"acme","credential":"{tenant}/app"}`, harmless: true},
		{path: path, body: `{"tenant":"acme","from":"support@{tenant}.example"}`, harmless: true},
	}
}

// message is a submission with something about the tenant in it.
func message(more string) string {
	return `{"from":"support@acme.example","to":"guest@elsewhere.example","text":"x"` + more + `}`
}

// attempts has every operation of the API. One without a case fails the test.
var attempts = map[string][]attempt{
	"GET /v1/tenants":           lists("/v1/tenants"),
	"GET /v1/tenants/{name}":    {{path: "/v1/tenants/{tenant}"}, {path: "/v1/tenants/{tenant}?tenant=acme"}},
	"DELETE /v1/tenants/{name}": {{path: "/v1/tenants/{tenant}"}, {path: "/v1/tenants/{tenant}?tenant=acme"}},
	"POST /v1/tenants":          {{path: "/v1/tenants", body: `{"name":"{tenant}"}`}, {path: "/v1/tenants", body: `{"name":"{tenant}","suspended":{"reason":"x"}}`}},
	"GET /v1/tenants/{name}/limits": {{path: "/v1/tenants/{tenant}/limits"}, {path: "/v1/tenants/{tenant}/limits?tenant=acme"},
		{path: "/v1/tenants/acme/limits", header: map[string]string{"Behalf-Tenant": "{tenant}"}, harmless: true}},
	"GET /v1/tenants/{name}/unusual": {{path: "/v1/tenants/{tenant}/unusual"}, {path: "/v1/tenants/{tenant}/unusual?tenant=acme"},
		{path: "/v1/tenants/acme/unusual", header: map[string]string{"Behalf-Tenant": "{tenant}"}, harmless: true}},
	"POST /v1/tenants/{name}/unusual/release": {{path: "/v1/tenants/{tenant}/unusual/release", body: "{}"}, {path: "/v1/tenants/{tenant}/unusual/release", body: `{"credential":"acme/app"}`}},
	"POST /v1/tenants/{name}/unusual/cancel":  {{path: "/v1/tenants/{tenant}/unusual/cancel", body: "{}"}, {path: "/v1/tenants/{tenant}/unusual/cancel", body: `{"credential":"acme/app"}`}},
	"GET /v1/credentials":                     lists("/v1/credentials"),
	"GET /v1/credentials/{name}":              append(resource("/v1/credentials/", "only-{tenant}"), attempt{path: "/v1/credentials/platform%2Fall"}),
	"DELETE /v1/credentials/{name}": append(resource("/v1/credentials/", "only-{tenant}"),
		attempt{path: "/v1/credentials/platform%2Fall"}, attempt{path: "/v1/credentials/all?tenant=platform"}),
	"POST /v1/credentials": append(applied("/v1/credentials", `"name":"mine"`),
		attempt{path: "/v1/credentials", body: `{"scope":"platform","tenants":["{tenant}"],"name":"wide"}`},
		attempt{path: "/v1/credentials", body: `{"scope":"platform","tenants":["*"],"name":"wide"}`},
		attempt{path: "/v1/credentials", body: `{"scope":"platform","tenant":"platform","tenants":["{tenant}"],"name":"few"}`}),
	"GET /v1/domains":                lists("/v1/domains"),
	"GET /v1/domains/{name}":         resource("/v1/domains/", "{tenant}.example"),
	"GET /v1/domains/{name}/records": append(query("/v1/domains/{tenant}.example/records"), attempt{path: "/v1/domains/{tenant}.example/records", header: map[string]string{"Accept": "text/dns"}}),
	"DELETE /v1/domains/{name}":      resource("/v1/domains/", "{tenant}.example"),
	"POST /v1/domains":               applied("/v1/domains", `"name":"new.example"`),
	"GET /v1/identities":             lists("/v1/identities"),
	"GET /v1/identities/{name}":      resource("/v1/identities/", "support@{tenant}.example"),
	"DELETE /v1/identities/{name}":   resource("/v1/identities/", "support@{tenant}.example"),
	"POST /v1/identities":            applied("/v1/identities", `"address":"new@new.example"`),
	"GET /v1/connections":            lists("/v1/connections"),
	"GET /v1/connections/{name}":     resource("/v1/connections/", "only-{tenant}"),
	"DELETE /v1/connections/{name}":  resource("/v1/connections/", "only-{tenant}"),
	"POST /v1/connections":           applied("/v1/connections", `"name":"new","provider":"smtp","smtp":{"host":"smtp.new.example","username":"u","password":"p"}`),
	"GET /v1/suppressions": append(query("/v1/suppressions"),
		attempt{path: "/v1/suppressions?tenant=acme&cursor={cursor}", harmless: true}, attempt{path: "/v1/suppressions?tenant={tenant}&cursor={cursor}"}),
	"PUT /v1/suppressions/{address}":    query("/v1/suppressions/new@victim.example")[:2],
	"DELETE /v1/suppressions/{address}": query("/v1/suppressions/gone@victim.example")[:2],
	"GET /v1/messages": append(lists("/v1/messages"),
		attempt{path: "/v1/messages?tenant=acme&credential={tenant}/app", harmless: true},
		attempt{path: "/v1/messages?tenant=acme&from=support@{tenant}.example", harmless: true}),
	"GET /v1/messages/{id}":          one("", ""),
	"GET /v1/messages/{id}/events":   one("/events", ""),
	"GET /v1/messages/{id}/raw":      one("/raw", ""),
	"POST /v1/messages/{id}/retry":   one("/retry", "{}"),
	"POST /v1/messages/{id}/hold":    one("/hold", "{}"),
	"POST /v1/messages/{id}/release": one("/release", "{}"),
	"POST /v1/messages/{id}/cancel":  one("/cancel", `{"reason":"x"}`),
	"POST /v1/messages": {
		{path: "/v1/messages", body: message(`,"tenant":"{tenant}"`)},
		{path: "/v1/messages", body: message(""), header: map[string]string{"Behalf-Tenant": "{tenant}"}},
		{path: "/v1/messages", body: message(`,"tenant":"acme"`), header: map[string]string{"Behalf-Tenant": "{tenant}"}},
		{path: "/v1/messages", body: message(`,"headers":{"Behalf-Tenant":"{tenant}"}`)},
		{path: "/v1/messages?to=guest@elsewhere.example&tenant={tenant}", body: "From: support@acme.example\nBehalf-Tenant: {tenant}\n\nx", header: map[string]string{"Content-Type": "message/rfc822"}},
	},
	"GET /v1/stats":              append(query("/v1/stats"), attempt{path: "/v1/stats?tenant=acme&credential={tenant}/app", harmless: true}, attempt{path: "/v1/stats?tenant={tenant}&credential={tenant}/app"}),
	"GET /v1/queue":              {{path: "/v1/queue", harmless: true}, {path: "/v1/queue?tenant={tenant}"}},
	"GET /v1/queue/stats":        {{path: "/v1/queue/stats"}, {path: "/v1/queue/stats?tenant={tenant}"}},
	"POST /v1/queue/retry":       bulk("/v1/queue/retry"),
	"POST /v1/queue/hold":        bulk("/v1/queue/hold"),
	"POST /v1/queue/release":     bulk("/v1/queue/release"),
	"POST /v1/queue/cancel":      bulk("/v1/queue/cancel"),
	"GET /v1/events":             {{path: "/v1/events?tenant={tenant}"}, {path: "/v1/events?tenant={tenant}", header: map[string]string{"Last-Event-ID": "0"}}},
	"GET /v1/policies":           {{path: "/v1/policies"}},
	"GET /v1/policies/shadow":    {{path: "/v1/policies/shadow"}, {path: "/v1/policies/shadow?tenant={tenant}"}},
	"POST /v1/policies/accept":   {{path: "/v1/policies/accept", body: `{"digest":"{tenant}"}`}},
	"POST /v1/policies/replay":   {{path: "/v1/policies/replay?tenant={tenant}", body: `{"active":true}`}, {path: "/v1/policies/replay", body: `{"active":true}`, header: map[string]string{"Behalf-Tenant": "{tenant}"}}},
	"POST /v1/policies/evaluate": {{path: "/v1/policies/evaluate", body: `{"tenant":{"name":"{tenant}"}}`}},
}

// A credential reaches nothing of a tenant that is not its own: by no endpoint,
// however the tenant is named, and it cannot even tell whether it exists.
func TestIsolation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"acme", "initech", "globex"} {
		w.customer(name)
	}
	w.apply(
		&tenant.Credential{Scope: tenant.ScopePlatform, Tenants: []string{"acme", "initech"}, Name: "few", Secret: "few-secret"},
		&tenant.Credential{Scope: tenant.ScopePlatform, Tenants: []string{"*"}, Name: "all", Secret: "all-secret"},
		&tenant.Credential{Meta: tenant.Meta{Tenant: "globex"}, Name: "only-globex", Secret: "only-globex-secret"},
		&tenant.Connection{Meta: tenant.Meta{Tenant: "globex"}, Name: "only-globex", Provider: "smtp", Senders: []string{"support@globex.example"}, SMTP: &tenant.SMTP{Host: "smtp.globex.example"}},
	)
	w.suppress("globex", "gone@victim.example")
	w.send("acme-secret", "acme", nil)
	w.send("globex-secret", "globex", nil)
	there := map[string]string{"tenant": "globex", "id": w.send("globex-secret", "globex", nil).String()}
	nowhere := map[string]string{"tenant": "nobody", "id": w.unknown("globex").String()}

	_, all := w.operations()
	for _, op := range all {
		if len(attempts[op]) == 0 {
			t.Errorf("%s has no case: add the ways in which it can be given another tenant", op)
		}
	}
	for op := range attempts {
		if !slices.Contains(all, op) {
			t.Errorf("%s is no operation of the API any more", op)
		}
	}
	for _, who := range []struct {
		name string
		request
	}{
		{"acme's key", request{key: "acme-secret"}},
		{"acme's user", request{basic: "acme/app:acme-secret"}},
		{"a platform key for acme and initech", request{key: "few-secret"}},
		{"a platform user for acme", request{basic: "platform/few+acme:few-secret"}},
		{"a platform key for all, as acme", request{basic: "platform/all+acme:all-secret"}},
	} {
		t.Run(who.name, func(t *testing.T) {
			before := w.picture()
			for _, op := range all {
				method, path, _ := strings.Cut(op, " ")
				there["cursor"], nowhere["cursor"] = w.cursors(path), base64.RawURLEncoding.EncodeToString([]byte("nobody\x00x"))
				if path == "/v1/messages" {
					nowhere["cursor"] = "ffff"
				}
				for _, try := range attempts[op] {
					r := who.request
					r.method = method
					w.try(t, r, try, there, nowhere)
				}
			}
			if after := w.picture(); after != before {
				t.Errorf("something of globex changed\nbefore %s\nafter  %s", before, after)
			}
		})
	}
}

// try makes an attempt at globex and at nobody.
func (w *world) try(t *testing.T, r request, try attempt, there, nowhere map[string]string) {
	t.Helper()
	var told [2]string
	for i, values := range []map[string]string{there, nowhere} {
		var pairs []string
		for k, v := range values {
			pairs = append(pairs, "{"+k+"}", v)
		}
		fill := strings.NewReplacer(pairs...)
		r.path, r.header = fill.Replace(try.path), map[string]string{}
		if r.body = nil; try.body != "" {
			r.body = fill.Replace(try.body)
		}
		for k, v := range try.header {
			r.header[k] = fill.Replace(v)
		}
		a := w.do(r)
		what := fmt.Sprintf("%s %s %v %v", r.method, r.path, r.header, r.body)
		switch {
		case a.status < 300 && try.harmless:
		case a.status == http.StatusNotFound, a.status == http.StatusForbidden, a.status == http.StatusUnprocessableEntity:
			a.want(t, a.status)
		default:
			t.Errorf("%s: %s", what, a)
		}
		if i == 0 && a.status < 300 && strings.Contains(string(a.body), "globex") {
			t.Errorf("%s tells of globex: %s", what, a)
		}
		var back []string
		for k, v := range values {
			if v != "" {
				back = append(back, v, "{"+k+"}")
			}
		}
		told[i] = strings.NewReplacer(back...).Replace(a.String())
	}
	if told[0] != told[1] && !try.harmless {
		t.Errorf("%s %s %s tells apart a tenant that exists from one that does not:\n%s\n%s", r.method, try.path, try.body, told[0], told[1])
	}
}

// picture is all that the admin sees of globex, and of the platform's own.
func (w *world) picture() string {
	var b strings.Builder
	for _, path := range []string{
		"/v1/tenants", "/v1/credentials?tenant=globex", "/v1/credentials?tenant=platform", "/v1/domains?tenant=globex", "/v1/identities?tenant=globex",
		"/v1/connections?tenant=globex", "/v1/suppressions?tenant=globex", "/v1/messages?tenant=globex", "/v1/queue?tenant=globex",
	} {
		b.Write(w.get(adminKey, path).want(w.t, 200).body)
	}
	for _, m := range into[struct{ Items []api.Message }](w.t, w.get(adminKey, "/v1/messages?tenant=globex")).Items {
		b.Write(w.get(adminKey, "/v1/messages/"+m.ID.String()).want(w.t, 200).body)
	}
	return b.String()
}

// cursors gives a cursor from globex's own list at path, or one made up.
func (w *world) cursors(path string) string {
	list := path
	if strings.Contains(path, "{") || path == "/v1/queue" || path == "/v1/stats" || path == "/v1/events" || strings.HasPrefix(path, "/v1/pol") || path == "/v1/queue/stats" || strings.HasPrefix(path, "/v1/queue/") {
		return ""
	}
	got := into[struct{ Next string }](w.t, w.get("globex-secret", list+"?limit=1").want(w.t, 200))
	if got.Next != "" {
		return got.Next
	}
	if path == "/v1/messages" {
		w.t.Fatal("globex has no second page of messages")
	}
	return base64.RawURLEncoding.EncodeToString([]byte("globex\x00a"))
}

// unknown is an id in the form of a tenant's, of a message that does not exist.
func (w *world) unknown(name string) mail.ID {
	v, err := w.directory.ViewByName(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.spool.NewID(v.Tenant.ID, time.Now())
}

func (w *world) suppress(name, address string) {
	w.t.Helper()
	v, err := w.directory.ViewByName(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.store.Update(w.t.Context(), func(tx kv.Writer) error {
		return w.intake.Lists.Add(tx, v.Tenant.ID, suppress.Entry{Stream: "transactional", Address: address, Reason: suppress.Manual, Added: time.Now()})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// The From of an address that another tenant has proved is refused, whoever
// claims it and whatever else would carry the message.
func TestNobodySendsAsAnother(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	w.apply(&tenant.Identity{Meta: tenant.Meta{Tenant: "acme"}, Address: "ceo@initech.example", Verified: true}, &tenant.Tenant{Name: "initech"},
		&tenant.Credential{Scope: tenant.ScopePlatform, Tenants: []string{"acme"}, Name: "few", Secret: "few-secret"})
	for _, key := range []string{"acme-secret", "few-secret"} {
		for _, from := range []string{"support@globex.example", "new@globex.example", "a@sub.globex.example", "Support <SUPPORT@GLOBEX.EXAMPLE>"} {
			d := draft("acme", "guest@elsewhere.example")
			d["from"], d["tenant"] = from, "acme"
			w.post(key, "/v1/messages", d).want(t, http.StatusForbidden)
			text := "From: " + from + "\n\nx"
			w.do(request{key: key, method: "POST", path: "/v1/messages?to=guest@elsewhere.example&from=support@acme.example", body: text,
				header: map[string]string{"Content-Type": "message/rfc822", "Behalf-Tenant": "acme"}}).want(t, http.StatusForbidden)
		}
	}
	// What globex proved nobody else can claim, nor what lies below.
	for _, r := range []string{`{"name":"globex.example"}`, `{"name":"a.globex.example"}`} {
		w.post("acme-secret", "/v1/domains", r).want(t, http.StatusConflict)
	}
	w.post("acme-secret", "/v1/identities", `{"address":"new@globex.example"}`).want(t, http.StatusConflict)
	w.post("acme-secret", "/v1/identities", `{"address":"new@acme.example","verified":true}`).want(t, http.StatusUnprocessableEntity)
	if got := into[struct{ Items []any }](t, w.get(adminKey, "/v1/messages").want(t, 200)); len(got.Items) != 0 {
		t.Errorf("something was accepted: %v", got)
	}
}

// A follower of the feed hears of its own tenants only.
func TestFeedIsolation(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	theirs := w.send("globex-secret", "globex", nil)
	own := w.send("acme-secret", "acme", nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer acme-secret")
	req.Header.Set("Last-Event-ID", "0")
	resp, err := w.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if strings.Contains(sc.Text(), theirs.String()) {
			t.Fatalf("acme hears %s", sc.Text())
		}
		if strings.Contains(sc.Text(), own.String()) {
			return
		}
	}
	t.Error("acme did not hear of its own message")
}

// When a tenant is deleted, a tenant that is then made with its name, or with
// its number for a name, gets nothing of it.
func TestDeletedTenantLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	id := w.send("acme-secret", "acme", nil)
	number := fmt.Sprint(id.Tenant())
	w.do(request{key: adminKey, method: "DELETE", path: "/v1/tenants/acme"}).want(t, http.StatusNoContent)
	w.get("acme-secret", "/v1/messages").want(t, http.StatusUnauthorized)
	for _, name := range []string{"acme", number} {
		w.apply(&tenant.Tenant{Name: name}, &tenant.Credential{Meta: tenant.Meta{Tenant: name}, Name: "new", Secret: "new-secret-" + name})
		w.get("new-secret-"+name, "/v1/messages/"+id.String()).want(t, http.StatusNotFound)
		for _, path := range []string{"/v1/messages", "/v1/queue"} {
			if got := into[struct{ Items []any }](t, w.get("new-secret-"+name, path).want(t, 200)); len(got.Items) != 0 {
				t.Errorf("%s sees %v", name, got)
			}
		}
	}
	w.get(adminKey, "/v1/messages/"+id.String()).want(t, http.StatusOK)
}
