package api_test

import (
	"net/http"
	"testing"

	"behalf/mail"
	"behalf/web/api"
)

func TestSubmitAndShow(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	got := into[api.Accepted](t, w.post("acme-secret", "/v1/messages", draft("acme", "Guest <guest@elsewhere.example>")).want(t, http.StatusAccepted))
	w.state(got.ID, mail.Delivered)
	m := into[api.Message](t, w.get("acme-secret", "/v1/messages/"+got.ID.String()).want(t, 200))
	if m.Tenant != "acme" || m.Credential != "acme/app" || m.MessageID != got.MessageID || m.From != "support@acme.example" || m.Subject != "hello" || len(m.Events) < 2 {
		t.Errorf("%+v", m)
	}
}
