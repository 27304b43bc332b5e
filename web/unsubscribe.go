package web

import (
	"errors"
	"html/template"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"

	"behalf/relay"
)

// Unsubscribe serves /u/{token}. A GET shows a page with a button, because mail
// scanners follow links; a POST, by the button or by a mailbox provider (RFC
// 8058), takes the recipient off.
func Unsubscribe(r chi.Router, in *relay.Intake, log *slog.Logger) {
	page := template.Must(template.New("unsubscribe").Parse(unsubscribePage))
	show := func(w http.ResponseWriter, r *http.Request, done bool, ask func() (relay.Unsubscription, error)) {
		u, err := ask()
		status := http.StatusOK
		switch {
		case errors.Is(err, relay.ErrLink):
			status = http.StatusNotFound
		case err != nil:
			log.Error("unsubscribe link failed", "err", err)
			status = http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = page.Execute(w, struct { // the client is gone if this fails
			relay.Unsubscription
			Status int
			Done   bool
		}{u, status, done})
	}
	r.Get("/u/{token}", func(w http.ResponseWriter, r *http.Request) {
		show(w, r, false, func() (relay.Unsubscription, error) { return in.Unsubscription(r.Context(), chi.URLParam(r, "token")) })
	})
	r.Post("/u/{token}", func(w http.ResponseWriter, r *http.Request) {
		show(w, r, true, func() (relay.Unsubscription, error) { return in.Unsubscribe(r.Context(), chi.URLParam(r, "token")) })
	})
}

const unsubscribePage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">
<title>Unsubscribe</title>
<style>body { font: 18px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem } button { font: inherit; padding: .5em 1.2em }</style></head><body>
{{if eq .Status 404}}<h1>This link is not valid any more</h1><p>Answer the mail you received and ask its sender to stop.</p>
{{else if ne .Status 200}}<h1>That did not work</h1><p>It is our fault. Please try again in a few minutes.</p>
{{else if .Done}}<h1>Done</h1><p>{{.Address}} gets no more mail of this kind from {{.From}}.</p>
{{else}}<h1>Unsubscribe?</h1><p>{{.Address}} will get no more mail of this kind from {{.From}}.</p><form method="post"><button>Unsubscribe</button></form>
{{end}}</body></html>
`
