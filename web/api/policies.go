package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"behalf/policy"
	"behalf/tenant"
	"behalf/web"
)

// policies registers what is in force.
func (a *API) policies(h huma.API) {
	huma.Register(h, huma.Operation{OperationID: "get-policies", Method: http.MethodGet, Path: "/v1/policies", Tags: []string{"policies"}, Summary: "The policy set in force, and whether a newer one was refused"},
		func(ctx context.Context, _ *struct{}) (*struct{ Body policy.Status }, error) {
			if !web.CallerOf(ctx).Admin {
				return nil, a.problem(tenant.ErrNotFound)
			}
			return &struct{ Body policy.Status }{a.Policy.Status()}, nil
		})
}
