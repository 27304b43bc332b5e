package api

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"behalf/tenant"
	"behalf/web"
)

// kinds are the resources of the directory, with what stands in the path.
var kinds = [...]struct {
	kind tenant.Kind
	path string
	of   reflect.Type
}{
	{tenant.KindTenant, "tenants", reflect.TypeFor[tenant.Tenant]()},
	{tenant.KindCredential, "credentials", reflect.TypeFor[tenant.Credential]()},
	{tenant.KindDomain, "domains", reflect.TypeFor[tenant.Domain]()},
	{tenant.KindIdentity, "identities", reflect.TypeFor[tenant.Identity]()},
	{tenant.KindConnection, "connections", reflect.TypeFor[tenant.Connection]()},
}

type applyInput struct {
	IfMatch string `header:"If-Match" doc:"Revision that the change is based on."`
	RawBody []byte `contentType:"application/json"`
}

// What a request with a raw body may cost: somewhat more octets than the
// largest resource has.
const (
	maxBody     = 320 << 10
	bodyTimeout = 10 * time.Second
)

type refInput struct {
	Name    string `path:"name"`
	Tenant  string `query:"tenant" doc:"Owner; needed where several tenants have one of that name. Empty for tenants and platform credentials."`
	IfMatch string `header:"If-Match" doc:"Revision that must be there."`
}

type getInput struct {
	Name        string `path:"name"`
	Tenant      string `query:"tenant" doc:"Owner; needed where several tenants have one of that name. Empty for tenants and platform credentials."`
	IfNoneMatch string `header:"If-None-Match" doc:"Revision that is known already: 304 if it is still the one."`
}

type listInput struct {
	Tenant string `query:"tenant" doc:"Only what this tenant has."`
	Cursor string `query:"cursor" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type resourceOutput struct {
	Status int    `json:"-"`
	ETag   string `header:"ETag"`
	Change string `header:"Behalf-Change" doc:"created, updated or unchanged"`
	Body   any
}

type listOutput struct{ Body tenant.List }

// resources registers list, apply, get and delete for every kind.
func (a *API) resources(h huma.API) {
	for _, k := range kinds {
		tags := []string{k.path}
		one := h.OpenAPI().Components.Schemas.Schema(k.of, true, string(k.kind))
		asJSON := func() map[string]*huma.MediaType {
			return map[string]*huma.MediaType{"application/json": {Schema: one}}
		}
		now := &huma.Response{Description: "The resource as it is now", Content: asJSON()}
		page := &huma.Schema{Type: huma.TypeObject, Required: []string{"items"}, Properties: map[string]*huma.Schema{
			"items": {Type: huma.TypeArray, Items: one}, "next": {Type: huma.TypeString, Description: "Cursor of the page that follows; absent on the last."},
		}}
		apply := func(ctx context.Context, in *applyInput) (*resourceOutput, error) { return a.apply(ctx, k.kind, in) }
		huma.Register(h, huma.Operation{OperationID: "apply-" + string(k.kind), Method: http.MethodPost, Path: "/v1/" + k.path, Tags: tags,
			Summary: "Make a " + string(k.kind) + " be as given", SkipValidateBody: true, MaxBodyBytes: maxBody, BodyReadTimeout: bodyTimeout,
			RequestBody: &huma.RequestBody{Required: true, Content: asJSON()},
			Responses:   map[string]*huma.Response{"200": now, "201": {Description: "The resource, which is new", Content: asJSON()}}}, apply)
		huma.Register(h, huma.Operation{OperationID: "list-" + k.path, Method: http.MethodGet, Path: "/v1/" + k.path, Tags: tags, Summary: "List " + k.path,
			Responses: map[string]*huma.Response{"200": {Description: "A page", Content: map[string]*huma.MediaType{"application/json": {Schema: page}}}}},
			func(ctx context.Context, in *listInput) (*listOutput, error) {
				l, err := a.Directory.List(ctx, web.CallerOf(ctx).Actor, tenant.Ref{Kind: k.kind, Tenant: in.Tenant}, tenant.Page{Cursor: in.Cursor, Limit: in.Limit})
				if err != nil {
					return nil, a.problem(err)
				}
				if l.Items == nil {
					l.Items = []any{}
				}
				return &listOutput{l}, nil
			})
		huma.Register(h, huma.Operation{OperationID: "get-" + string(k.kind), Method: http.MethodGet, Path: "/v1/" + k.path + "/{name}", Tags: tags,
			Summary: "Show a " + string(k.kind), Responses: map[string]*huma.Response{"200": {Description: now.Description, Content: asJSON()}, "304": {Description: "It is still the revision of If-None-Match"}}},
			func(ctx context.Context, in *getInput) (*resourceOutput, error) {
				r, err := a.Directory.Get(ctx, web.CallerOf(ctx).Actor, tenant.Ref{Kind: k.kind, Tenant: in.Tenant, Name: in.Name})
				if err != nil {
					return nil, a.problem(err)
				}
				if in.IfNoneMatch == etag(r) {
					return &resourceOutput{Status: http.StatusNotModified, ETag: etag(r)}, nil
				}
				return &resourceOutput{Status: http.StatusOK, ETag: etag(r), Body: r}, nil
			})
		huma.Register(h, huma.Operation{OperationID: "delete-" + string(k.kind), Method: http.MethodDelete, Path: "/v1/" + k.path + "/{name}", Tags: tags, Summary: "Delete a " + string(k.kind)},
			func(ctx context.Context, in *refInput) (*struct{}, error) {
				rev, err := revision(in.IfMatch)
				if err == nil {
					err = a.Directory.Delete(ctx, web.CallerOf(ctx).Actor, tenant.Ref{Kind: k.kind, Tenant: in.Tenant, Name: in.Name}, rev)
				}
				if err != nil {
					return nil, a.problem(err)
				}
				return nil, nil
			})
	}
}

func (a *API) apply(ctx context.Context, k tenant.Kind, in *applyInput) (*resourceOutput, error) {
	rev, err := revision(in.IfMatch)
	if err != nil {
		return nil, a.problem(err)
	}
	r, err := tenant.Decode(in.RawBody, k)
	if err != nil {
		return nil, a.problem(err)
	}
	res, change, err := a.Directory.ApplyResource(ctx, r, web.CallerOf(ctx).Actor, rev)
	if err != nil {
		return nil, a.problem(err)
	}
	out := &resourceOutput{Status: http.StatusOK, ETag: etag(res), Change: string(change), Body: res}
	if change == tenant.Created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// etag is the revision of a resource, quoted (RFC 9110, section 8.8.3).
func etag(r any) string {
	var rev uint64
	switch r := r.(type) {
	case *tenant.Tenant:
		rev = r.Revision
	case *tenant.Credential:
		rev = r.Revision
	case *tenant.Domain:
		rev = r.Revision
	case *tenant.Identity:
		rev = r.Revision
	case *tenant.Connection:
		rev = r.Revision
	}
	return `"` + strconv.FormatUint(rev, 10) + `"`
}

func revision(ifMatch string) (uint64, error) {
	if ifMatch == "" || ifMatch == "*" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.Trim(ifMatch, `"`), 10, 64)
	if err != nil {
		return 0, tenant.ErrConflict
	}
	return n, nil
}
