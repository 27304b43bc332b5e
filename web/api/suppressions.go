package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/tenant"
	"behalf/tenant/suppress"
	"behalf/web"
)

type suppressionInput struct {
	Tenant  string `query:"tenant"`
	Stream  string `query:"stream" default:"transactional" pattern:"^[a-z0-9][a-z0-9-]*$" maxLength:"40" doc:"In which it must not be mailed."`
	Address string `path:"address"`
}

// SuppressionPage is a part of a list of suppressed addresses.
type SuppressionPage struct {
	Items []suppress.Entry `json:"items"`
	Next  string           `json:"next,omitempty"`
}

type suppressionList struct{ Body SuppressionPage }

// suppressions registers the list of addresses that a tenant must not mail.
func (a *API) suppressions(h huma.API) {
	tags := []string{"suppressions"}
	huma.Register(h, huma.Operation{OperationID: "list-suppressions", Method: http.MethodGet, Path: "/v1/suppressions", Tags: tags, Summary: "List suppressed addresses"},
		func(ctx context.Context, in *listInput) (*suppressionList, error) {
			f, err := a.ownTenant(ctx, in.Tenant)
			if err != nil {
				return nil, a.problem(err)
			}
			from, err := base64.RawURLEncoding.DecodeString(in.Cursor)
			if err != nil {
				return nil, a.problem(&tenant.ValidationError{Fields: []tenant.FieldError{{Field: "cursor", Message: "is not one that a list gave"}}})
			}
			items, next, err := suppress.List(ctx, a.Store, f, string(from), in.Limit)
			if err != nil {
				return nil, a.problem(err)
			}
			out := &suppressionList{}
			out.Body.Items, out.Body.Next = append([]suppress.Entry{}, items...), base64.RawURLEncoding.EncodeToString([]byte(next))
			return out, nil
		})
	huma.Register(h, huma.Operation{OperationID: "add-suppression", Method: http.MethodPut, Path: "/v1/suppressions/{address}", Tags: tags, Summary: "Suppress an address in a stream", DefaultStatus: http.StatusNoContent},
		func(ctx context.Context, in *suppressionInput) (*struct{}, error) {
			return nil, a.changeSuppression(ctx, in, func(w kv.Writer, t mail.TenantID, addr mail.Address) error {
				return a.Intake.Lists.Add(w, t, suppress.Entry{Stream: in.Stream, Address: addr.String(), Reason: suppress.Manual, Added: time.Now().UTC(), By: web.CallerOf(ctx).Name})
			})
		})
	huma.Register(h, huma.Operation{OperationID: "remove-suppression", Method: http.MethodDelete, Path: "/v1/suppressions/{address}", Tags: tags, Summary: "Let an address be mailed again"},
		func(ctx context.Context, in *suppressionInput) (*struct{}, error) {
			return nil, a.changeSuppression(ctx, in, func(w kv.Writer, t mail.TenantID, addr mail.Address) error {
				return suppress.Remove(w, t, in.Stream, addr)
			})
		})
}

func (a *API) changeSuppression(ctx context.Context, in *suppressionInput, change func(kv.Writer, mail.TenantID, mail.Address) error) error {
	t, err := a.ownTenant(ctx, in.Tenant)
	if err != nil {
		return a.problem(err)
	}
	addr, err := mail.ParseAddress(in.Address)
	if err != nil {
		return a.problem(&tenant.ValidationError{Fields: []tenant.FieldError{{Field: "address", Message: err.Error()}}})
	}
	if err := a.Store.Update(ctx, func(w kv.Writer) error { return change(w, t, addr) }); err != nil {
		return a.problem(err)
	}
	return nil
}

// ownTenant is the tenant that a request is about: the one it names, or the
// only one the caller has.
func (a *API) ownTenant(ctx context.Context, name string) (mail.TenantID, error) {
	f, err := a.filter(ctx, Selection{Tenant: name})
	if err != nil {
		return 0, err
	}
	if f.Tenant == nil {
		return 0, &tenant.ValidationError{Fields: []tenant.FieldError{{Field: "tenant", Message: "name the tenant"}}}
	}
	return *f.Tenant, nil
}
