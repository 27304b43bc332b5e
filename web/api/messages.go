package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"behalf/mail"
	"behalf/spool"
	"behalf/tenant"
	"behalf/web"
)

// Message is a message as the API shows it.
type Message struct {
	ID         mail.ID           `json:"id"`
	Tenant     string            `json:"tenant"`
	Credential string            `json:"credential,omitempty"`
	Door       mail.Door         `json:"door"`
	Stream     string            `json:"stream"`
	MailFrom   string            `json:"mail_from"`
	From       string            `json:"from"`
	Subject    string            `json:"subject,omitempty"`
	MessageID  string            `json:"message_id"`
	Size       int64             `json:"size"`
	Tag        string            `json:"tag,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Accepted   time.Time         `json:"accepted"`
	NotBefore  time.Time         `json:"not_before,omitzero"`
	Expires    time.Time         `json:"expires"`
	Recipients []Recipient       `json:"recipients"`
	Events     []mail.Event      `json:"events,omitempty" doc:"Everything that happened, in order; only in the answer for one message."`
}

// Recipient is one recipient of a Message.
type Recipient struct {
	Address  string          `json:"address"`
	State    mail.State      `json:"state"`
	Upstream mail.UpstreamID `json:"upstream,omitempty"`
	Tries    int             `json:"tries"`
	Next     time.Time       `json:"next,omitzero" doc:"When it is tried again, or released by itself."`
	Done     time.Time       `json:"done,omitzero"`
	Reason   string          `json:"reason,omitempty"`
	Last     *mail.Failure   `json:"last,omitempty"`
}

// maxShown bounds the recipients of a message in a list.
const maxShown = 100

func (a *API) show(ctx context.Context, st *spool.Stored, most int) Message {
	m := st.Message
	v := Message{
		ID: m.ID, Tenant: a.nameOf(ctx, m.Tenant), Credential: m.Credential, Door: m.Door, Stream: m.Stream, MailFrom: m.Envelope.From.String(),
		From: m.From.String(), Subject: m.Subject, MessageID: m.MessageID, Size: m.Size, Tag: m.Tag, Tags: m.Tags, Metadata: m.Metadata,
		Accepted: m.Accepted, Expires: m.Expires, Recipients: []Recipient{},
	}
	if m.NotBefore.After(m.Accepted) {
		v.NotBefore = m.NotBefore
	}
	for _, r := range st.Recipients[:min(most, len(st.Recipients))] {
		u, _, _ := r.Lane.Parts()
		v.Recipients = append(v.Recipients, Recipient{Address: r.Address.String(), State: r.Shown(), Upstream: u, Tries: r.Tries,
			Next: r.Next, Done: r.Done, Reason: r.Reason, Last: r.Last})
	}
	return v
}

// nameOf is the name of a tenant, or its number when it was deleted. It is to
// be shown, not to be compared: another tenant may be named like that number.
func (a *API) nameOf(ctx context.Context, id mail.TenantID) string {
	v, err := a.Directory.View(ctx, id)
	if err != nil {
		return strconv.FormatUint(uint64(id), 10)
	}
	return v.Tenant.Name
}

// sees tells whether the caller may see what belongs to a tenant. A deleted
// tenant's things only the admin sees.
func (a *API) sees(ctx context.Context, c *web.Caller, id mail.TenantID) bool {
	if c.Admin {
		return true
	}
	v, err := a.Directory.View(ctx, id)
	return err == nil && c.May(v.Tenant.Name)
}

// load opens a message that the caller may see.
func (a *API) load(ctx context.Context, id string) (*spool.Stored, error) {
	mid, err := mail.ParseID(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", tenant.ErrNotFound, err)
	}
	if !a.sees(ctx, web.CallerOf(ctx), mid.Tenant()) {
		return nil, tenant.ErrNotFound
	}
	st, err := a.Spool.Load(ctx, mid)
	if errors.Is(err, spool.ErrNotFound) {
		return nil, tenant.ErrNotFound
	}
	return st, err
}

// Selection is what picks messages, in lists and in bulk operations.
type Selection struct {
	Tenant     string    `query:"tenant" json:"tenant,omitempty"`
	State      string    `query:"state" json:"state,omitempty" enum:"queued,deferred,held,delivered,failed,bounced,expired,cancelled,suppressed,discarded"`
	Domain     string    `query:"domain" json:"domain,omitempty" doc:"Of a recipient."`
	Recipient  string    `query:"recipient" json:"recipient,omitempty"`
	From       string    `query:"from" json:"from,omitempty"`
	Tag        string    `query:"tag" json:"tag,omitempty"`
	Stream     string    `query:"stream" json:"stream,omitempty"`
	Credential string    `query:"credential" json:"credential,omitempty"`
	MessageID  string    `query:"message_id" json:"message_id,omitempty"`
	Rule       string    `query:"rule" json:"rule,omitempty" doc:"Of policy, that holds a recipient: its name, or file:rule."`
	Since      time.Time `query:"since" json:"since,omitzero"`
	Until      time.Time `query:"until" json:"until,omitzero"`
}

// filter narrows a selection to what the caller may see: a tenant's key has
// one tenant, and everybody but the admin must name one of its own.
func (a *API) filter(ctx context.Context, s Selection) (spool.Filter, error) {
	c := web.CallerOf(ctx)
	f := spool.Filter{State: mail.State(s.State), Domain: s.Domain, Recipient: s.Recipient, From: s.From, Tag: s.Tag, Stream: s.Stream,
		Credential: s.Credential, MessageID: s.MessageID, Rule: s.Rule, Since: s.Since, Until: s.Until}
	if c.Named != "" {
		if s.Tenant != "" && s.Tenant != c.Named {
			return f, &tenant.ValidationError{Fields: []tenant.FieldError{{Field: "tenant", Message: "the header Behalf-Tenant names another"}}}
		}
		s.Tenant = c.Named
	}
	if s.Tenant == "" && !c.Admin {
		if len(c.Tenants) != 1 || c.Tenants[0] == "*" {
			return f, &tenant.ValidationError{Fields: []tenant.FieldError{{Field: "tenant", Message: "name the tenant; this key may see several"}}}
		}
		s.Tenant = c.Tenants[0]
	}
	if s.Tenant == "" {
		return f, nil
	}
	if !c.May(s.Tenant) {
		return f, tenant.ErrNotFound
	}
	v, err := a.Directory.ViewByName(ctx, s.Tenant)
	if err != nil {
		return f, err
	}
	f.Tenant = &v.Tenant.ID
	return f, nil
}

type messageListInput struct {
	Selection
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

// MessagePage is a part of a list of messages.
type MessagePage struct {
	Items []Message `json:"items"`
	Next  string    `json:"next,omitempty"`
}

type messageList struct{ Body MessagePage }

// Timeline is all that happened to a message, in order.
type Timeline struct {
	Items []mail.Event `json:"items"`
}

type messageOutput struct{ Body Message }

type idInput struct {
	ID string `path:"id"`
}

// timeline is what happened to a message, as far as the caller may know.
func (a *API) timeline(ctx context.Context, id mail.ID) ([]mail.Event, error) {
	events, err := a.Spool.Timeline(ctx, id)
	if err != nil || web.CallerOf(ctx).Admin {
		return events, err
	}
	var seen []mail.Event
	for _, e := range events {
		if e, ok := e.ToTenant(); ok {
			seen = append(seen, e)
		}
	}
	return seen, nil
}

// messages registers list, show, events and raw.
func (a *API) messages(h huma.API) {
	tags := []string{"messages"}
	huma.Register(h, huma.Operation{OperationID: "list-messages", Method: http.MethodGet, Path: "/v1/messages", Tags: tags, Summary: "List messages, newest first"},
		func(ctx context.Context, in *messageListInput) (*messageList, error) {
			f, err := a.filter(ctx, in.Selection)
			if err != nil {
				return nil, a.problem(err)
			}
			if _, err := hex.DecodeString(in.Cursor); err != nil {
				return nil, a.problem(&tenant.ValidationError{Fields: []tenant.FieldError{{Field: "cursor", Message: "is not one that a list gave"}}})
			}
			list, next, err := a.Spool.List(ctx, f, in.Cursor, in.Limit)
			if err != nil {
				return nil, a.problem(err)
			}
			out := &messageList{}
			out.Body.Items, out.Body.Next = []Message{}, next
			for _, st := range list {
				out.Body.Items = append(out.Body.Items, a.show(ctx, st, maxShown))
			}
			return out, nil
		})
	huma.Register(h, huma.Operation{OperationID: "get-message", Method: http.MethodGet, Path: "/v1/messages/{id}", Tags: tags, Summary: "Show a message with its trace"},
		func(ctx context.Context, in *idInput) (*messageOutput, error) {
			st, err := a.load(ctx, in.ID)
			if err != nil {
				return nil, a.problem(err)
			}
			out := &messageOutput{a.show(ctx, st, len(st.Recipients))}
			if out.Body.Events, err = a.timeline(ctx, st.Message.ID); err != nil {
				return nil, a.problem(err)
			}
			return out, nil
		})
	huma.Register(h, huma.Operation{OperationID: "list-message-events", Method: http.MethodGet, Path: "/v1/messages/{id}/events", Tags: tags, Summary: "What happened to a message, in order"},
		func(ctx context.Context, in *idInput) (*struct{ Body Timeline }, error) {
			st, err := a.load(ctx, in.ID)
			if err != nil {
				return nil, a.problem(err)
			}
			events, err := a.timeline(ctx, st.Message.ID)
			if err != nil {
				return nil, a.problem(err)
			}
			return &struct{ Body Timeline }{Timeline{slices.Concat([]mail.Event{}, events)}}, nil
		})
	huma.Register(h, huma.Operation{OperationID: "get-message-raw", Method: http.MethodGet, Path: "/v1/messages/{id}/raw", Tags: tags, Summary: "The message as it was submitted",
		Responses: map[string]*huma.Response{"200": {Description: "The octets the client gave", Content: map[string]*huma.MediaType{"message/rfc822": {}}}}},
		func(ctx context.Context, in *idInput) (*huma.StreamResponse, error) {
			st, err := a.load(ctx, in.ID)
			if err != nil {
				return nil, a.problem(err)
			}
			body, err := a.Spool.OpenBody(ctx, st)
			if errors.Is(err, spool.ErrBodyGone) {
				err = tenant.ErrNotFound
			}
			if err != nil {
				return nil, a.problem(err)
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				defer body.Close()
				hc.SetHeader("Content-Type", "message/rfc822")
				hc.SetHeader("Content-Length", strconv.FormatInt(body.Size(), 10))
				_, _ = io.Copy(hc.BodyWriter(), io.NewSectionReader(body, 0, body.Size())) // the client is gone if this fails
			}}, nil
		})
}
