package api

import (
	"context"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"behalf/mail"
	"behalf/tenant"
	"behalf/tenant/dnscheck"
	"behalf/web"
)

// RecordList are the records that a domain's owner must publish.
type RecordList struct {
	Items []dnscheck.Record `json:"items"`
}

type recordsInput struct {
	Name   string `path:"name"`
	Tenant string `query:"tenant" doc:"Owner; needed where several tenants have claimed the domain."`
	Accept string `header:"Accept"`
}

// domains registers the records that a domain's owner must publish.
func (a *API) domains(h huma.API) {
	huma.Register(h, huma.Operation{OperationID: "list-domain-records", Method: http.MethodGet, Path: "/v1/domains/{name}/records", Tags: []string{"domains"},
		Summary: "The DNS records to publish, with what stands there now", Description: "With Accept: text/dns as a fragment of a zone file.",
		Responses: map[string]*huma.Response{"200": {Description: "The records", Content: map[string]*huma.MediaType{
			"application/json": {Schema: h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[RecordList](), true, "RecordList")},
			"text/dns":         {Schema: &huma.Schema{Type: huma.TypeString}},
		}}}},
		func(ctx context.Context, in *recordsInput) (*huma.StreamResponse, error) {
			t, d, err := a.domain(ctx, in.Tenant, in.Name)
			if err != nil {
				return nil, a.problem(err)
			}
			records := a.Checker.Records(ctx, t, d)
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				if strings.Contains(in.Accept, "text/dns") {
					hc.SetHeader("Content-Type", "text/dns; charset=utf-8")
					_, _ = hc.BodyWriter().Write([]byte(dnscheck.Zone(records)))
					return
				}
				hc.SetHeader("Content-Type", "application/json")
				_ = huma.DefaultJSONFormat.Marshal(hc.BodyWriter(), RecordList{records})
			}}, nil
		})
}

// domain opens a domain that the caller may see.
func (a *API) domain(ctx context.Context, owner, name string) (mail.TenantID, *tenant.Domain, error) {
	r, err := a.Directory.Get(ctx, web.CallerOf(ctx).Actor, tenant.Ref{Kind: tenant.KindDomain, Tenant: owner, Name: name})
	if err != nil {
		return 0, nil, err
	}
	d := r.(*tenant.Domain)
	v, err := a.Directory.ViewByName(ctx, d.Tenant)
	if err != nil {
		return 0, nil, err
	}
	return v.Tenant.ID, d, nil
}
