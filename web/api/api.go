// Package api is the HTTP API: /v1, its OpenAPI description and its human page.
// It speaks the same objects as "behalf apply", answers errors with problem
// documents, and shows a tenant's key its own tenant only: whatever else there
// is does not exist for it.
package api

import (
	"log/slog"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"golang.org/x/sync/semaphore"

	"behalf/internal/kv"
	"behalf/policy"
	"behalf/relay"
	"behalf/relay/dispatch"
	"behalf/relay/replay"
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
	Replay     *replay.Runner // nil: nothing is recorded
	Auth       *web.Auth
	MaxSize    int64 // octets of a message
	Log        *slog.Logger
}

// API serves /v1.
type API struct {
	Parts
	memory  *semaphore.Weighted // of JSON submissions under way, in octets
	streams chan struct{}       // a place for each event stream
}

// Mount adds the API to a router: /v1, /openapi.json and /docs.
func Mount(r chi.Router, p Parts, version string) {
	a := &API{Parts: p, memory: semaphore.NewWeighted(jsonMemory), streams: make(chan struct{}, maxStreams)}
	config := huma.DefaultConfig("Behalf", version)
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	config.Transformers = []huma.Transformer{asProblem}
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
	a.replay(h)
	a.stats(h)
	a.limits(h)
	a.unusual(h)
	describeProblems(h.OpenAPI())
	r.Get("/docs", docs(h))
}

// authenticateV1 leaves the description of the API open to everybody.
func authenticateV1(auth *web.Auth) func(http.Handler) http.Handler {
	required := auth.Required()
	return func(next http.Handler) http.Handler {
		guarded := required(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/") {
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

// asProblem gives the errors that huma finds by itself, in parameters and
// bodies, the form of ours. It leaves out the offending value, which may be a
// secret.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := web.Problem{Title: m.Title, Status: m.Status, Detail: m.Detail}
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, tenant.FieldError{Field: e.Location, Message: e.Message})
	}
	if len(p.Errors) > 0 {
		var texts []string
		for _, e := range p.Errors {
			texts = append(texts, strings.TrimPrefix(e.Field+": "+e.Message, ": "))
		}
		p.Detail = strings.Join(texts, "; ")
	}
	return p, nil
}

// describeProblems says in the description of every operation what its errors
// look like.
func describeProblems(o *huma.OpenAPI) {
	problem := o.Components.Schemas.Schema(reflect.TypeFor[web.Problem](), true, "Problem")
	answer := &huma.Response{Description: "A problem document (RFC 9457)", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: problem}}}
	for _, item := range o.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if op == nil {
				continue
			}
			for status, r := range op.Responses {
				if r.Content["application/problem+json"] != nil {
					delete(op.Responses, status)
				}
			}
			op.Responses["default"] = answer
		}
	}
	schemas := o.Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
}
