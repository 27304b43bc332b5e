// Package api is the HTTP API: /v1, its OpenAPI description and its human page.
// It speaks the same objects as "behalf apply", answers errors with problem
// documents, and shows a tenant's key its own tenant only: whatever else there
// is does not exist for it.
package api

import (
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"golang.org/x/sync/semaphore"

	"behalf/internal/kv"
	"behalf/policy"
	"behalf/relay"
	"behalf/relay/dispatch"
	"behalf/spool"
	"behalf/tenant"
	"behalf/tenant/dnscheck"
	"behalf/web"
)

// Parts are what the API stands on.
type Parts struct {
	Directory  *tenant.Directory
	Checker    *dnscheck.Checker
	Spool      *spool.Spool
	Store      kv.Store
	Intake     *relay.Intake
	Dispatcher *dispatch.Dispatcher
	Policy     *policy.Engine
	Auth       *web.Auth
	MaxSize    int64 // octets of a message
	Log        *slog.Logger
}

// API serves /v1.
type API struct {
	Parts
	memory *semaphore.Weighted // of JSON submissions under way, in octets
}

// jsonMemory bounds what all JSON submissions together may hold.
const jsonMemory = 256 << 20

// Mount adds the API to a router: /v1, /openapi.json and /docs.
func Mount(r chi.Router, p Parts, version string) {
	a := &API{Parts: p, memory: semaphore.NewWeighted(jsonMemory)}
	config := huma.DefaultConfig("Behalf", version)
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	config.Info.Description = "SMTP relay for platforms that send mail on behalf of their customers."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key":   {Type: "http", Scheme: "bearer", Description: "The admin key, or the secret of a credential."},
		"basic": {Type: "http", Scheme: "basic", Description: "Username and secret of a credential."},
	}
	config.Security = []map[string][]string{{"key": {}}, {"basic": {}}}

	var h huma.API
	r.Group(func(r chi.Router) {
		r.Use(authenticateV1(p.Auth))
		h = humachi.New(r, config)
		a.submission(r, h)
		a.events(r, h)
	})
	a.resources(h)
	a.domains(h)
	a.messages(h)
	a.operations(h)
	a.suppressions(h)
	a.policies(h)
	r.Get("/docs", docs(h))
}

// authenticateV1 leaves the description of the API open to everybody.
func authenticateV1(auth *web.Auth) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		guarded := auth.Required(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(r.URL.Path) >= 4 && r.URL.Path[:4] == "/v1/" {
				guarded.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// problem makes an error of huma's out of one of ours.
func (a *API) problem(err error) error {
	p := web.ProblemOf(err)
	if p.Status >= 500 {
		a.Log.Error("request failed", "status", p.Status, "err", err)
	}
	return &statusError{p}
}

// statusError is a problem document that huma writes.
type statusError struct{ web.Problem }

func (e *statusError) Error() string  { return e.Detail }
func (e *statusError) GetStatus() int { return e.Status }

// ContentType makes it application/problem+json (RFC 9457).
func (e *statusError) ContentType(string) string { return "application/problem+json" }
