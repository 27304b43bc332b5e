package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"behalf/mail"
	"behalf/tenant"
	"behalf/web"
)

// events registers GET /v1/events: the feed as server-sent events, from now on
// or from Last-Event-ID. A tenant's key hears of its own messages only.
func (a *API) events(r chi.Router, h huma.API) {
	event := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[mail.Event](), true, "Event")
	h.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "follow-events", Method: http.MethodGet, Path: "/v1/events", Tags: []string{"events"}, Summary: "Follow events as they happen",
		Description: "Server-sent events; the data of each is an event. Reconnect with Last-Event-ID to miss nothing that is still kept.",
		Parameters:  []*huma.Param{{Name: "tenant", In: "query", Schema: &huma.Schema{Type: huma.TypeString}}},
		Responses:   map[string]*huma.Response{"200": {Description: "The stream", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: event}}}},
	})
	r.Get("/v1/events", func(w http.ResponseWriter, r *http.Request) {
		if err := a.follow(w, r); err != nil {
			web.Error(w, r, a.Log, err)
		}
	})
}

func (a *API) follow(w http.ResponseWriter, r *http.Request) error {
	c, ctx := web.CallerOf(r.Context()), r.Context()
	only := r.URL.Query().Get("tenant")
	if only != "" && !c.May(only) {
		return tenant.ErrNotFound
	}
	from := a.Spool.Stats().LastEvent + 1
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		n, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			return &tenant.ValidationError{Fields: []tenant.FieldError{{Field: "Last-Event-ID", Message: "want the id of an event"}}}
		}
		from = n + 1
	}
	out := http.NewResponseController(w)
	if err := out.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("preparing a stream: %w", err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_ = out.Flush() // a client that has gone ends the context
	alive := time.NewTicker(20 * time.Second)
	defer alive.Stop()
	for {
		changed := a.Spool.Changed()
		events, next, err := a.Spool.Events(ctx, from, 256)
		if err != nil {
			a.Log.Error("event stream ended", "err", err)
			return nil
		}
		for _, e := range events {
			owner := a.tenantName(ctx, e.Message.Tenant())
			if !c.May(owner) || only != "" && owner != only {
				continue
			}
			b, err := json.Marshal(e)
			if err != nil {
				a.Log.Error("event stream ended", "err", err)
				return nil
			}
			fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, b)
		}
		_ = out.Flush()
		from = next
		if len(events) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-alive.C:
			fmt.Fprint(w, ": still here\n\n")
		}
	}
}
