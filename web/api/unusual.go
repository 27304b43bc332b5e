package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"behalf/limit/habit"
	"behalf/mail"
	"behalf/relay"
	"behalf/relay/dispatch"
	"behalf/spool"
	"behalf/tenant"
	"behalf/web"
)

// EpisodeList are the episodes of a tenant.
type EpisodeList struct {
	Items []habit.Episode `json:"items"`
}

// Verdict says what unusual mail was.
type Verdict struct {
	Credential string `json:"credential,omitempty" doc:"Only that of this one; a username. Absent: of all."`
	Reason     string `json:"reason,omitempty" maxLength:"500" doc:"For the timelines of the messages."`
}

// unusual registers what is held as unusual and the two ways to end it.
func (a *API) unusual(h huma.API) {
	huma.Register(h, huma.Operation{OperationID: "tenant-unusual", Method: http.MethodGet, Path: "/v1/tenants/{name}/unusual", Tags: []string{"tenants"}, Summary: "Unusual mail of a tenant that is held, by credential, with the evidence"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*struct{ Body EpisodeList }, error) {
			id, err := a.ownTenant(ctx, in.Name)
			if err != nil {
				return nil, a.problem(err)
			}
			list, err := a.Intake.Habits.Episodes(ctx, id)
			if err != nil {
				return nil, a.problem(err)
			}
			return &struct{ Body EpisodeList }{EpisodeList{append([]habit.Episode{}, list...)}}, nil
		})
	huma.Register(h, huma.Operation{OperationID: "release-unusual", Method: http.MethodPost, Path: "/v1/tenants/{name}/unusual/release", Tags: []string{"tenants"}, Summary: "Let go of all unusual mail that is held; its like is usual from now on. For the admin key"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
			Body *Verdict
		}) (*changedOutput, error) {
			return a.judge(ctx, in.Name, in.Body, true)
		})
	huma.Register(h, huma.Operation{OperationID: "cancel-unusual", Method: http.MethodPost, Path: "/v1/tenants/{name}/unusual/cancel", Tags: []string{"tenants"}, Summary: "Give up all unusual mail that is held; more of the same text is held at once"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
			Body *Verdict
		}) (*changedOutput, error) {
			return a.judge(ctx, in.Name, in.Body, false)
		})
}

// judge ends the episodes of a tenant. What is usual is said first, so that what
// comes meanwhile is not held again; a call that broke off may be made again.
func (a *API) judge(ctx context.Context, name string, v *Verdict, usual bool) (*changedOutput, error) {
	id, err := a.ownTenant(ctx, name)
	if err != nil {
		return nil, a.problem(err)
	}
	c := web.CallerOf(ctx)
	if usual && !c.Admin {
		return nil, a.problem(fmt.Errorf("what policy holds is released with the admin key: %w", tenant.ErrForbidden))
	}
	if v == nil {
		v = &Verdict{}
	}
	if err := a.Intake.Habits.Close(ctx, id, v.Credential, usual); err != nil {
		return nil, a.problem(err)
	}
	do := (*dispatch.Dispatcher).Cancel
	if usual {
		do = (*dispatch.Dispatcher).Release
	}
	f := spool.Filter{Tenant: &id, State: mail.Held, Rule: relay.RuleUnusual, Credential: v.Credential}
	n, err := do(a.Dispatcher, ctx, dispatch.Selection{Filter: &f}, dispatch.Op{Actor: c.Name, Admin: c.Admin, Reason: v.Reason})
	if err != nil {
		return nil, a.problem(err)
	}
	return &changedOutput{Changed{n}}, nil
}
