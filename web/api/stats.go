package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"behalf/limit"
)

// Sent is what was accepted in a span of time.
type Sent struct {
	Messages   int64 `json:"messages"`
	Recipients int64 `json:"recipients"`
}

// TenantStats is what a tenant has submitted of late, as limits count it.
type TenantStats struct {
	Tenant string `json:"tenant"`
	Hour   Sent   `json:"1h" doc:"In the last hour."`
	Day    Sent   `json:"24h" doc:"In the last 24 hours."`
}

// stats registers what a tenant sent of late.
func (a *API) stats(h huma.API) {
	huma.Register(h, huma.Operation{OperationID: "tenant-stats", Method: http.MethodGet, Path: "/v1/stats", Tags: []string{"stats"}, Summary: "What a tenant, or one of its credentials, has submitted of late"},
		func(ctx context.Context, in *struct {
			Tenant     string `query:"tenant"`
			Credential string `query:"credential" doc:"Username; only what was submitted with it."`
		}) (*struct{ Body TenantStats }, error) {
			id, err := a.ownTenant(ctx, in.Tenant)
			if err != nil {
				return nil, a.problem(err)
			}
			all, own, err := a.Intake.Usage.Get(ctx, id, in.Credential, time.Now())
			if err != nil {
				return nil, a.problem(err)
			}
			if in.Credential != "" {
				all = own
			}
			sent := func(c limit.Counts) Sent { return Sent{c.Messages, c.Recipients} }
			return &struct{ Body TenantStats }{TenantStats{Tenant: a.nameOf(ctx, id), Hour: sent(all.Hour), Day: sent(all.Day)}}, nil
		})
}
