package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/mail"
	"behalf/tenant"
	"behalf/web"
)

// Who shows nothing valid gets 401 at every operation, and learns nothing.
func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	_, all := w.operations()
	fill := strings.NewReplacer("{id}", w.unknown("acme").String(), "{name}", "acme", "{address}", "a@b.example")
	for _, op := range all {
		method, path, _ := strings.Cut(op, " ")
		a := w.do(request{method: method, path: fill.Replace(path), body: "{}"}).want(t, http.StatusUnauthorized)
		if a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", op)
		}
	}
	w.get("", "/docs").want(t, 200)
	w.get("", "/openapi.json").want(t, 200)
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	m := tenant.Meta{Tenant: "acme"}
	w.apply(
		&tenant.Credential{Meta: m, Name: "old", Secret: "old-secret", Expires: time.Now().Add(-time.Hour)},
		&tenant.Credential{Meta: m, Name: "far", Secret: "far-secret", Networks: []string{"192.0.2.0/24"}},
		&tenant.Credential{Meta: m, Name: "near", Secret: "near-secret", Networks: []string{"127.0.0.0/8"}},
		&tenant.Credential{Meta: m, Name: "gone", Secret: "gone-secret"},
		&tenant.Credential{Scope: tenant.ScopePlatform, Tenants: []string{"acme"}, Name: "few", Secret: "few-secret"},
	)
	w.get("gone-secret", "/v1/messages").want(t, 200)
	w.do(request{key: adminKey, method: "DELETE", path: "/v1/credentials/gone?tenant=acme"}).want(t, 204)
	for _, c := range []struct {
		name   string
		r      request
		status int
	}{
		{"admin key", request{key: adminKey}, 200},
		{"secret as Bearer", request{key: "acme-secret"}, 200},
		{"in another case", request{header: map[string]string{"Authorization": "bearer acme-secret"}}, 200},
		{"username and secret", request{basic: "acme/app:acme-secret"}, 200},
		{"secret without username", request{basic: ":acme-secret"}, 200},
		{"platform username with a tenant", request{basic: "platform/few+acme:few-secret"}, 200},
		{"from its network", request{key: "near-secret"}, 200},
		{"wrong key", request{key: "wrong"}, 401},
		{"nearly the admin key", request{key: adminKey[:len(adminKey)-1]}, 401},
		{"admin key as a user's", request{basic: "acme/app:" + adminKey}, 401},
		{"another's secret", request{basic: "acme/near:acme-secret"}, 401},
		{"unknown user", request{basic: "acme/nobody:acme-secret"}, 401},
		{"unknown tenant", request{basic: "nobody/app:acme-secret"}, 401},
		{"another scheme", request{header: map[string]string{"Authorization": "Digest acme-secret"}}, 401},
		{"empty", request{header: map[string]string{"Authorization": "Bearer "}}, 401},
		{"expired", request{key: "old-secret"}, 401},
		{"expired, as a user", request{basic: "acme/old:old-secret"}, 401},
		{"outside its networks", request{key: "far-secret"}, 401},
		{"removed", request{key: "gone-secret"}, 401},
		{"a tenant that is not its own", request{basic: "acme/app+globex:acme-secret"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // refusals are held back
			c.r.path = "/v1/messages"
			a := w.do(c.r).want(t, c.status)
			if c.status == 401 && strings.Contains(string(a.body), "expired") {
				t.Errorf("tells why: %s", a)
			}
		})
	}
}

// Guessing is answered ever later and then refused unseen, but whoever logged
// in from there before goes on.
func TestGuessing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	w.get("acme-secret", "/v1/messages").want(t, 200)
	tries := make([]string, 40)
	for i := range tries {
		tries[i] = fmt.Sprintf("guess-%d", i)
	}
	var all sync.WaitGroup
	for _, key := range tries {
		all.Go(func() {
			if a := w.get(key, "/v1/messages"); a.status != 401 && a.status != 429 {
				t.Errorf("%s", a)
			}
		})
	}
	all.Wait()
	a := w.get("another-guess", "/v1/messages").want(t, http.StatusTooManyRequests)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.get("acme-secret", "/v1/messages").want(t, 200)
}

func TestProblems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	for _, c := range []struct {
		r      request
		status int
	}{
		{request{path: "/nothing"}, 404},
		{request{path: "/v1/nothing"}, 404},
		{request{path: "/"}, 404},
		{request{method: "PATCH", path: "/v1/tenants/acme"}, 405},
		{request{method: "DELETE", path: "/v1/messages"}, 405},
		{request{method: "POST", path: "/docs"}, 405},
		{request{path: "/v1/tenants?limit=x"}, 422},
		{request{path: "/v1/tenants?limit=0"}, 422},
		{request{path: "/v1/tenants?limit=100000"}, 422},
		{request{path: "/v1/tenants?cursor=!"}, 422},
		{request{path: "/v1/tenants/nobody"}, 404},
		{request{path: "/v1/domains/x/records"}, 404},
		{request{method: "POST", path: "/v1/tenants", body: "{"}, 422},
		{request{method: "POST", path: "/v1/tenants", body: `{"nane":"x"}`}, 422},
		{request{method: "POST", path: "/v1/tenants", body: `{"kind":"domain","name":"x"}`}, 422},
		{request{method: "POST", path: "/v1/tenants"}, 400},
		{request{method: "POST", path: "/v1/tenants", body: `{"name":"` + strings.Repeat("x", 2<<20) + `"}`}, 413},
		{request{method: "POST", path: "/v1/policies/evaluate", body: strings.Repeat("x", 5<<20)}, 413},
		{request{method: "POST", path: "/v1/credentials", body: `{"tenant":"acme","name":"x","secret":"file:/etc/passwd"}`}, 422},
		{request{method: "POST", path: "/v1/domains", body: `{"tenant":"acme","name":"send.platform.example"}`}, 403},
		{request{method: "POST", path: "/v1/policies/evaluate", body: `{"tenat":{}}`}, 422},
		{request{method: "POST", path: "/v1/queue/hold", body: `x`, header: map[string]string{"Content-Type": "text/plain"}}, 415},
	} {
		t.Run(c.r.method+c.r.path, func(t *testing.T) {
			c.r.key = adminKey
			a := w.do(c.r).want(t, c.status)
			if c.status == 405 && a.header.Get("Allow") == "" {
				t.Error("no Allow")
			}
			if strings.Contains(string(a.body), `"value"`) {
				t.Errorf("repeats what was given: %s", a)
			}
		})
	}
}

func TestSecurityHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/docs", "/openapi.json", "/v1/tenants", "/u/x", "/nothing"} {
		a := w.get(adminKey, path)
		for k, v := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
			if a.header.Get(k) != v {
				t.Errorf("%s: %s is %q", path, k, a.header.Get(k))
			}
		}
		if !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy for content", path)
		}
	}
}

// A handler that panics is answered and logged, and the server goes on.
func TestPanic(t *testing.T) {
	w := newWorld(t)
	w.router.Get("/panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	w.get("", "/panic").want(t, 500)
	w.get("", "/docs").want(t, 200)
}

// Causes of our own trouble are not told to clients.
func TestOurTrouble(t *testing.T) {
	p := web.ProblemOf(fmt.Errorf("opening /data/store: permission denied"))
	if p.Status != 500 || strings.Contains(p.Detail, "/data") {
		t.Errorf("%+v", p)
	}
	p = web.ProblemOf(mail.AsFailure(fmt.Errorf("opening /data/store: permission denied")))
	if p.Status != 503 || strings.Contains(p.Detail, "/data") {
		t.Errorf("%+v", p)
	}
}

func TestResources(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ kind, path, create, change, name string }{
		{"tenant", "tenants", `{"name":"acme","labels":{"plan":"pro"}}`, `{"name":"acme","labels":{"plan":"free"}}`, "acme"},
		{"credential", "credentials", `{"tenant":"acme","name":"app"}`, `{"tenant":"acme","name":"app","notify":"ops@acme.example"}`, "acme%2Fapp"},
		{"domain", "domains", `{"tenant":"acme","name":"acme.example"}`, `{"tenant":"acme","name":"acme.example","verified":true}`, "acme.example"},
		{"identity", "identities", `{"tenant":"acme","address":"*@acme.example"}`, `{"tenant":"acme","address":"*@acme.example","display_name":"Acme"}`, "%2A@acme.example"},
		{"connection", "connections", `{"tenant":"acme","name":"office","provider":"smtp","senders":["a@acme.example"],"smtp":{"host":"smtp.acme.example","username":"u","password":"very-secret-word"}}`,
			`{"tenant":"acme","name":"office","provider":"smtp","senders":["b@acme.example"],"smtp":{"host":"smtp.acme.example","username":"u"}}`, "office"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			list, one := "/v1/"+c.path, "/v1/"+c.path+"/"+c.name
			a := w.post(adminKey, list, c.create).want(t, http.StatusCreated)
			secret := into[struct{ Secret string }](t, a).Secret
			if a.header.Get("Behalf-Change") != "created" || a.header.Get("ETag") != `"1"` || (secret != "") != (c.kind == "credential") {
				t.Errorf("%v %s", a.header, a)
			}
			if a = w.post(adminKey, list, c.create).want(t, 200); a.header.Get("Behalf-Change") != "unchanged" {
				t.Errorf("twice: %v", a.header)
			}
			w.do(request{key: adminKey, method: "POST", path: list, body: c.change, header: map[string]string{"If-Match": `"9"`}}).want(t, http.StatusPreconditionFailed)
			w.do(request{key: adminKey, method: "POST", path: list, body: c.change, header: map[string]string{"If-Match": `nonsense`}}).want(t, http.StatusPreconditionFailed)
			a = w.do(request{key: adminKey, method: "POST", path: list, body: c.change, header: map[string]string{"If-Match": `"1"`}}).want(t, 200)
			if a.header.Get("Behalf-Change") != "updated" || a.header.Get("ETag") != `"2"` {
				t.Errorf("%v %s", a.header, a)
			}
			got := w.get(adminKey, one).want(t, 200)
			if got.header.Get("ETag") != `"2"` {
				t.Errorf("%v", got.header)
			}
			w.do(request{key: adminKey, path: one, header: map[string]string{"If-None-Match": `"2"`}}).want(t, http.StatusNotModified)
			w.do(request{key: adminKey, path: one, header: map[string]string{"If-None-Match": `"1"`}}).want(t, 200)
			for _, text := range []string{got.String(), w.get(adminKey, list).want(t, 200).String()} {
				if strings.Contains(text, "very-secret-word") || secret != "" && strings.Contains(text, secret) || strings.Contains(text, "PRIVATE") {
					t.Errorf("shows a secret: %s", text)
				}
			}
			// What was read can be posted back and changes nothing.
			if a = w.post(adminKey, list, got.body).want(t, 200); a.header.Get("Behalf-Change") != "unchanged" {
				t.Errorf("posted back: %v %s", a.header, a)
			}
		})
	}
	t.Run("records", func(t *testing.T) {
		l := into[struct {
			Items []struct{ Type, Name, Value, Status, Help, Purpose string }
		}](t, w.get(adminKey, "/v1/domains/acme.example/records").want(t, 200))
		if len(l.Items) < 3 || l.Items[0].Status != "missing" || l.Items[0].Help == "" {
			t.Errorf("%+v", l.Items)
		}
		zone := w.do(request{key: adminKey, path: "/v1/domains/acme.example/records", header: map[string]string{"Accept": "text/dns"}}).want(t, 200)
		if kind := zone.header.Get("Content-Type"); kind != "text/dns; charset=utf-8" || !strings.Contains(string(zone.body), "_domainkey.acme.example.") {
			t.Errorf("%s %s", kind, zone)
		}
	})
	t.Run("delete", func(t *testing.T) {
		for _, path := range []string{"connections/office", "identities/*@acme.example", "domains/acme.example", "credentials/app?tenant=acme", "tenants/acme"} {
			w.do(request{key: adminKey, method: "DELETE", path: "/v1/" + path, header: map[string]string{"If-Match": `"77"`}}).want(t, 412)
			w.do(request{key: adminKey, method: "DELETE", path: "/v1/" + path}).want(t, 204)
			w.do(request{key: adminKey, method: "DELETE", path: "/v1/" + path}).want(t, 404)
			w.get(adminKey, "/v1/"+path).want(t, 404)
		}
	})
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	for i := range 25 {
		w.apply(&tenant.Tenant{Name: fmt.Sprintf("t-%02d", i)})
	}
	var names []string
	for path := "/v1/tenants?limit=7"; path != ""; {
		l := into[struct {
			Items []struct{ Name string }
			Next  string
		}](t, w.get(adminKey, path).want(t, 200))
		for _, it := range l.Items {
			names = append(names, it.Name)
		}
		if path = ""; l.Next != "" {
			path = "/v1/tenants?limit=7&cursor=" + l.Next
		}
	}
	if len(names) != 25 || names[0] != "t-00" || names[24] != "t-24" {
		t.Errorf("%q", names)
	}
}

func TestPolicies(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	st := into[map[string]any](t, w.get(adminKey, "/v1/policies").want(t, 200))
	if st["digest"] == "" || st["default"] != true || st["error"] != nil {
		t.Errorf("%v", st)
	}
	input := `{"package":"behalf.submission.sender","input":{"tenant":{"id":1,"name":"acme","suspended":{"reason":"unpaid"}}}}`
	ex := into[struct {
		Package  string
		Decision struct{ Action, Reason string }
		Rules    []json.RawMessage
	}](t, w.post(adminKey, "/v1/policies/evaluate", input).want(t, 200))
	if ex.Package != "behalf.submission.sender" || ex.Decision.Action != "deny" || !strings.Contains(ex.Decision.Reason, "unpaid") || len(ex.Rules) == 0 {
		t.Errorf("%+v", ex)
	}
}

// Closing the door for new mail is told to HTTP clients too, as try again.
func TestShed(t *testing.T) {
	p := web.ProblemOf(mail.Fail(452, mail.Enhanced{4, 3, 1}, mail.OfUs, mail.ReasonInternal, "short of disk space"))
	if p.Status != http.StatusServiceUnavailable || p.Enhanced != "4.3.1" {
		t.Errorf("%+v", p)
	}
}
