package api_test

import (
	"fmt"
	"testing"

	"behalf/limit/habit"
	"behalf/mail"
	"behalf/web/api"
)

// flood sends to n new recipients, 50 a message, and gives the ids.
func (w *world) flood(key, customer, text string, n int) (ids []mail.ID) {
	w.t.Helper()
	for i := 0; i < n; i += 50 {
		to := make([]string, 50)
		for k := range to {
			to[k] = fmt.Sprintf("%s-%d@away.example", text, i+k)
		}
		ids = append(ids, w.send(key, customer, map[string]any{"to": to, "text": "A text about " + text}))
	}
	return ids
}

func (w *world) episodes(key, customer string) []habit.Episode {
	w.t.Helper()
	return into[struct{ Items []habit.Episode }](w.t, w.get(key, "/v1/tenants/"+customer+"/unusual").want(w.t, 200)).Items
}

func (w *world) changed(key, path, body string) int {
	w.t.Helper()
	return into[api.Changed](w.t, w.post(key, path, body).want(w.t, 200)).Changed
}

// TestUnusual: a tenant sees what of its mail is held as unusual and may give it
// up; only the admin key lets it go, and what was released is usual.
func TestUnusual(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	if list := w.episodes("acme-secret", "acme"); len(list) != 0 {
		t.Fatalf("%+v", list)
	}
	ids := w.flood("acme-secret", "acme", "mailboxes", 600)
	w.state(ids[0], mail.Queued)
	w.state(ids[len(ids)-1], mail.Held)
	for _, key := range []string{"acme-secret", adminKey} {
		list := w.episodes(key, "acme")
		if len(list) != 1 || list[0].Credential != "acme/app" || list[0].Recipients < 300 || list[0].Recipients != 50*list[0].Messages || list[0].Score < habit.Over || len(list[0].Reasons) == 0 || len(list[0].Examples) != 5 {
			t.Fatalf("%+v", list)
		}
	}
	held := int(w.episodes(adminKey, "acme")[0].Recipients)

	// Not by the tenant itself, and not by another one.
	w.post("acme-secret", "/v1/tenants/acme/unusual/release", "").want(t, 403)
	w.get("globex-secret", "/v1/tenants/acme/unusual").want(t, 404)
	w.post("globex-secret", "/v1/tenants/acme/unusual/cancel", "").want(t, 404)
	w.post("globex-secret", "/v1/tenants/acme/unusual/release", "").want(t, 404)
	w.post(adminKey, "/v1/tenants/acme/unusual/release", `{"credential":7}`).want(t, 422)
	w.get(adminKey, "/v1/tenants/nobody/unusual").want(t, 404)
	if list := w.episodes("acme-secret", "acme"); len(list) != 1 || int(list[0].Recipients) != held {
		t.Fatalf("%+v", list)
	}
	if list := w.episodes("globex-secret", "globex"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if n := w.changed(adminKey, "/v1/tenants/acme/unusual/release", `{"credential":"acme/other"}`) + w.changed(adminKey, "/v1/tenants/globex/unusual/release", ""); n != 0 {
		t.Errorf("%d changed of others", n)
	}

	if n := w.changed(adminKey, "/v1/tenants/acme/unusual/release", `{"credential":"acme/app","reason":"a new list"}`); n != held {
		t.Errorf("%d released, want %d", n, held)
	}
	w.state(ids[len(ids)-1], mail.Queued)
	m := into[api.Message](t, w.get("acme-secret", "/v1/messages/"+ids[len(ids)-1].String()))
	if e := m.Events[len(m.Events)-1]; e.Type != mail.EventReleased || e.Reason != "a new list" {
		t.Errorf("%+v", e)
	}
	if list := w.episodes("acme-secret", "acme"); len(list) != 0 {
		t.Errorf("after the release: %+v", list)
	}
	// Who was released is known: the same once more is not even counted as new.
	again := w.flood("acme-secret", "acme", "mailboxes", 600)
	w.state(again[len(again)-1], mail.Queued)

	// And so for what the tenant gives up: it stays unusual.
	ids = w.flood("globex-secret", "globex", "prizes", 1200)
	held = int(w.episodes("globex-secret", "globex")[0].Recipients)
	if n := w.changed("globex-secret", "/v1/tenants/globex/unusual/cancel", ""); n != held {
		t.Errorf("%d cancelled, want %d", n, held)
	}
	w.state(ids[len(ids)-1], mail.Cancelled)
	w.state(ids[0], mail.Queued)
	if list := w.episodes("globex-secret", "globex"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	w.state(w.send("globex-secret", "globex", map[string]any{"to": "prizes-x@away.example", "text": "A text about prizes"}), mail.Held)
}
