package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"behalf/mail"
	"behalf/relay/dispatch"
	"behalf/tenant"
	"behalf/web"
)

// operation is one thing that can be done to messages that are not yet done.
type operation struct {
	name, summary string
	do            func(*dispatch.Dispatcher, context.Context, dispatch.Selection, dispatch.Op) (int, error)
}

var operations = [...]operation{
	{"retry", "Try again now", (*dispatch.Dispatcher).Retry},
	{"hold", "Keep until released", (*dispatch.Dispatcher).Hold},
	{"release", "Let go of what is held", (*dispatch.Dispatcher).Release},
	{"cancel", "Give up what is not yet delivered", (*dispatch.Dispatcher).Cancel},
}

// Reasoned says why, for the timeline.
type Reasoned struct {
	Reason    string    `json:"reason,omitempty" maxLength:"500"`
	ReleaseAt time.Time `json:"release_at,omitzero" doc:"hold: released by itself at this time."`
}

// Changed says what an operation did.
type Changed struct {
	Changed int `json:"changed" doc:"Recipients whose state changed."`
}

type changedOutput struct{ Body Changed }

// Bulk is an operation on all messages that match.
type Bulk struct {
	Selection
	Reasoned
	All bool `json:"all,omitempty" doc:"Must be true where nothing else picks messages."`
}

// operations registers them for one message and, below /v1/queue, for all that
// match a selection; and shows the queues.
func (a *API) operations(h huma.API) {
	for _, op := range operations {
		huma.Register(h, huma.Operation{OperationID: op.name + "-message", Method: http.MethodPost, Path: "/v1/messages/{id}/" + op.name, Tags: []string{"messages"}, Summary: op.summary},
			func(ctx context.Context, in *struct {
				ID   string `path:"id"`
				Body *Reasoned
			}) (*changedOutput, error) {
				st, err := a.load(ctx, in.ID)
				if err != nil {
					return nil, a.problem(err)
				}
				return a.change(ctx, op, dispatch.Selection{IDs: []mail.ID{st.Message.ID}}, in.Body)
			})
		huma.Register(h, huma.Operation{OperationID: op.name + "-queue", Method: http.MethodPost, Path: "/v1/queue/" + op.name, Tags: []string{"queue"}, Summary: op.summary + ", for every message that matches"},
			func(ctx context.Context, in *struct{ Body Bulk }) (*changedOutput, error) {
				if in.Body.Selection == (Selection{Tenant: in.Body.Tenant}) && !in.Body.All {
					return nil, a.problem(&tenant.ValidationError{Fields: []tenant.FieldError{{Field: "all", Message: "pick messages, or say \"all\": true to mean every one"}}})
				}
				f, err := a.filter(ctx, in.Body.Selection)
				if err != nil {
					return nil, a.problem(err)
				}
				return a.change(ctx, op, dispatch.Selection{Filter: &f}, &in.Body.Reasoned)
			})
	}
	huma.Register(h, huma.Operation{OperationID: "list-queues", Method: http.MethodGet, Path: "/v1/queue", Tags: []string{"queue"}, Summary: "The queues: what waits where, and which limit binds"},
		func(ctx context.Context, in *struct {
			Tenant string `query:"tenant"`
		}) (*struct{ Body QueueList }, error) {
			items, err := a.queues(ctx, in.Tenant)
			if err != nil {
				return nil, a.problem(err)
			}
			return &struct{ Body QueueList }{QueueList{items}}, nil
		})
	huma.Register(h, huma.Operation{OperationID: "queue-stats", Method: http.MethodGet, Path: "/v1/queue/stats", Tags: []string{"queue"}, Summary: "Counts of recipients by state, and the age of the oldest"},
		func(ctx context.Context, _ *struct{}) (*struct{ Body Stats }, error) {
			if !web.CallerOf(ctx).Admin {
				return nil, a.problem(tenant.ErrNotFound)
			}
			s := a.Spool.Stats()
			out := &struct{ Body Stats }{Stats{Recipients: s.Recipients, Messages: s.Messages, Unfinished: s.Unfinished}}
			if !s.Oldest.IsZero() {
				out.Body.OldestSeconds = max(0, time.Since(s.Oldest).Seconds())
			}
			return out, nil
		})
}

// Stats are counts over all tenants.
type Stats struct {
	Recipients    map[mail.State]int64 `json:"recipients"`
	Messages      int64                `json:"messages"`
	Unfinished    int64                `json:"unfinished"`
	OldestSeconds float64              `json:"oldest_seconds" doc:"How long the oldest message has been due."`
}

func (a *API) change(ctx context.Context, op operation, sel dispatch.Selection, why *Reasoned) (*changedOutput, error) {
	if why == nil {
		why = &Reasoned{}
	}
	n, err := op.do(a.Dispatcher, ctx, sel, dispatch.Op{Actor: web.CallerOf(ctx).Name, Admin: web.CallerOf(ctx).Admin, Reason: why.Reason, Until: why.ReleaseAt})
	if err != nil {
		return nil, a.problem(err)
	}
	return &changedOutput{Changed{n}}, nil
}

// QueueList are the queues that the caller may see.
type QueueList struct {
	Items []Queue `json:"items"`
}

// Queue is one lane of one tenant.
type Queue struct {
	Tenant string `json:"tenant"`
	dispatch.QueueInfo
}

func (a *API) queues(ctx context.Context, name string) ([]Queue, error) {
	c := web.CallerOf(ctx)
	out := []Queue{}
	if name == "" {
		name = c.Named
	}
	if name != "" && !c.May(name) {
		return nil, tenant.ErrNotFound
	}
	for _, q := range a.Dispatcher.Queues(ctx) {
		if q.Depth == 0 && q.Ready == 0 && q.InFlight == 0 && q.Closed == "" {
			continue // nothing waits there any more
		}
		owner := a.nameOf(ctx, q.Tenant)
		if !a.sees(ctx, c, q.Tenant) || name != "" && owner != name {
			continue
		}
		out = append(out, Queue{owner, q})
	}
	return out, nil
}
