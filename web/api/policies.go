package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"behalf/policy"
	"behalf/tenant"
	"behalf/web"
)

// PolicyStatus tells which set of policies is in force.
type PolicyStatus struct {
	Digest  string    `json:"digest" doc:"Of the set in force; decisions in traces name it."`
	Loaded  time.Time `json:"loaded" doc:"When it came into force."`
	Default bool      `json:"default" doc:"It is the built-in one."`
	Error   string    `json:"error,omitempty" doc:"Why the files as they are now are not in force."`
	Since   time.Time `json:"since,omitzero" doc:"Since when the error stands."`
}

type evaluateInput struct {
	Package string `query:"package" doc:"Stage to ask, such as behalf.submission.message; default told from the input."`
	RawBody []byte `contentType:"application/json"`
}

// policies registers what is in force and what it says. Both are the admin's.
func (a *API) policies(h huma.API) {
	tags := []string{"policies"}
	huma.Register(h, huma.Operation{OperationID: "get-policies", Method: http.MethodGet, Path: "/v1/policies", Tags: tags, Summary: "The policy set in force, and whether a newer one was refused"},
		func(ctx context.Context, _ *struct{}) (*struct{ Body PolicyStatus }, error) {
			if !web.CallerOf(ctx).Admin {
				return nil, a.problem(tenant.ErrNotFound)
			}
			st := a.Policy.Status()
			out := &struct{ Body PolicyStatus }{PolicyStatus{Digest: st.Digest, Loaded: st.Loaded, Default: st.Default}}
			if st.Err != nil {
				out.Body.Error, out.Body.Since = st.Err.Error(), st.Since
			}
			return out, nil
		})
	huma.Register(h, huma.Operation{OperationID: "evaluate-policies", Method: http.MethodPost, Path: "/v1/policies/evaluate", Tags: tags, SkipValidateBody: true, MaxBodyBytes: 4 << 20, BodyReadTimeout: bodyTimeout,
		Summary: "Ask the set in force about one input, rule by rule", Description: "The body is the input of a stage, or {\"package\": …, \"input\": …}. Nothing is counted or kept."},
		func(ctx context.Context, in *evaluateInput) (*struct{ Body *policy.Explanation }, error) {
			if !web.CallerOf(ctx).Admin {
				return nil, a.problem(tenant.ErrNotFound)
			}
			ex, err := a.Policy.Explain(ctx, in.Package, in.RawBody)
			if err != nil {
				return nil, a.problem(&tenant.ValidationError{Fields: []tenant.FieldError{{Field: "input", Message: err.Error()}}})
			}
			return &struct{ Body *policy.Explanation }{ex}, nil
		})
}
