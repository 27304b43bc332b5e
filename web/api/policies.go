package api

import (
	"context"
	"errors"
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
	Default bool      `json:"default" doc:"It is the built-in one, because no folder was there."`
	Path    string    `json:"path,omitempty" doc:"The folder it came from, if it did."`
	Error   string    `json:"error,omitempty" doc:"Why the files as they are now are not in force."`
	Since   time.Time `json:"since,omitzero" doc:"Since when the error stands."`

	Bundles []policy.BundleStatus `json:"bundles,omitempty" doc:"The bundles that policies come from, if not from a folder."`
	Failing []policy.Failing      `json:"failing,omitempty" doc:"Stages that could not decide in the last minute; their clients were told 451."`
	Pending *policy.PendingSet    `json:"pending,omitempty" doc:"What waits to be accepted."`
	History []policy.Activation   `json:"history" doc:"The last sets that came into force, the newest first, and what each changed."`
}

type acceptInput struct {
	Body struct {
		Digest string `json:"digest" minLength:"1" doc:"Of the set that waits."`
		Force  bool   `json:"force,omitempty" doc:"Accept it although nobody replayed it, which the history then tells."`
	}
}

type evaluateInput struct {
	Package string `query:"package" doc:"Stage to ask, such as behalf.submission.message; default told from the input."`
	RawBody []byte `contentType:"application/json"`
}

func policyStatus(st policy.Status) PolicyStatus {
	out := PolicyStatus{Digest: st.Digest, Loaded: st.Loaded, Default: st.Default, Path: st.Path, Bundles: st.Bundles, Failing: st.Failing, Pending: st.Pending, History: st.History}
	if st.Err != nil {
		out.Error, out.Since = st.Err.Error(), st.Since
	}
	return out
}

// policies registers what is in force, what waits and what is tried, and what
// they say. All of it is the admin's.
func (a *API) policies(h huma.API) {
	tags := []string{"policies"}
	huma.Register(h, huma.Operation{OperationID: "get-policies", Method: http.MethodGet, Path: "/v1/policies", Tags: tags, Summary: "The policy set in force, and whether a newer one was refused"},
		func(ctx context.Context, _ *struct{}) (*struct{ Body PolicyStatus }, error) {
			if !web.CallerOf(ctx).Admin {
				return nil, a.problem(tenant.ErrNotFound)
			}
			return &struct{ Body PolicyStatus }{policyStatus(a.Policy.Status())}, nil
		})
	huma.Register(h, huma.Operation{OperationID: "accept-policies", Method: http.MethodPost, Path: "/v1/policies/accept", Tags: tags,
		Summary: "Put the set that waits in force", Description: "With policy.gate a changed set waits until it was replayed and is then accepted by its digest. A replay counts when it is of all tenants and the set was asked at least one recorded question. 409 if no such set waits, or nobody replayed it."},
		func(ctx context.Context, in *acceptInput) (*struct{ Body PolicyStatus }, error) {
			caller := web.CallerOf(ctx)
			if !caller.Admin {
				return nil, a.problem(tenant.ErrNotFound)
			}
			err := a.Policy.Accept(in.Body.Digest, caller.Name, in.Body.Force)
			if errors.Is(err, policy.ErrNotPending) || errors.Is(err, policy.ErrNotReviewed) {
				return nil, &statusError{web.Problem{Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict, Detail: err.Error()}}
			}
			if err != nil {
				return nil, a.problem(err)
			}
			return &struct{ Body PolicyStatus }{policyStatus(a.Policy.Status())}, nil
		})
	huma.Register(h, huma.Operation{OperationID: "get-policy-shadow", Method: http.MethodGet, Path: "/v1/policies/shadow", Tags: tags,
		Summary: "What the draft of policy.shadow would have decided otherwise on live traffic"},
		func(ctx context.Context, _ *struct{}) (*struct{ Body policy.ShadowReport }, error) {
			if !web.CallerOf(ctx).Admin {
				return nil, a.problem(tenant.ErrNotFound)
			}
			report, ok := a.Policy.Shadow()
			if !ok {
				return nil, &statusError{web.Problem{Title: http.StatusText(http.StatusNotFound), Status: http.StatusNotFound, Detail: "no draft is tried; name its folder in policy.shadow"}}
			}
			return &struct{ Body policy.ShadowReport }{report}, nil
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
