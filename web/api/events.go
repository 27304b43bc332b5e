package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

const (
	maxStreams   = 256              // event streams at a time
	streamBeat   = 20 * time.Second // between signs of life
	streamWrites = 30 * time.Second // what a client may take to read what it was sent
)

// events registers GET /v1/events: the feed as server-sent events, from now on
// or from Last-Event-ID. A tenant's key hears of its own messages only.
func (a *API) events(r chi.Router, h huma.API) {
	event := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[mail.Event](), true, "Event")
	text := &huma.Schema{Type: huma.TypeString}
	h.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "follow-events", Method: http.MethodGet, Path: "/v1/events", Tags: []string{"events"}, Summary: "Follow events as they happen",
		Description: "Server-sent events; the data of each is an event. Reconnect with Last-Event-ID to miss nothing that is still kept.",
		Parameters: []*huma.Param{
			{Name: "tenant", In: "query", Schema: text, Description: "Only of this tenant."},
			{Name: "Last-Event-ID", In: "header", Schema: text, Description: "Go on after this event; 0 for all that is kept."},
		},
		Responses: map[string]*huma.Response{"200": {Description: "The stream", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: event}}}},
	})
	r.Get("/v1/events", func(w http.ResponseWriter, r *http.Request) {
		s, err := a.openStream(w, r)
		if err != nil {
			web.Error(w, r, a.Log, err)
			return
		}
		defer func() { <-a.streams }()
		if err := s.run(r.Context()); err != nil && r.Context().Err() == nil {
			a.Log.Info("an event stream ended", "caller", s.caller.Name, "err", err)
		}
	})
}

// stream is one client of the event feed.
type stream struct {
	*API
	caller *web.Caller
	only   string // tenant; empty for all that the caller may see
	from   uint64
	w      http.ResponseWriter
	out    *http.ResponseController
}

// openStream checks a request for the feed; the caller of it gives the place in
// a.streams back.
func (a *API) openStream(w http.ResponseWriter, r *http.Request) (*stream, error) {
	s := &stream{API: a, caller: web.CallerOf(r.Context()), only: cmp.Or(r.URL.Query().Get("tenant"), web.CallerOf(r.Context()).Named), w: w, out: http.NewResponseController(w)}
	if s.only != "" {
		if _, err := a.filter(r.Context(), Selection{Tenant: s.only}); err != nil {
			return nil, err
		}
	}
	s.from = a.Spool.Stats().LastEvent + 1
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		n, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			return nil, &tenant.ValidationError{Fields: []tenant.FieldError{{Field: "Last-Event-ID", Message: "want the id of an event"}}}
		}
		s.from = min(n+1, s.from)
	}
	select {
	case a.streams <- struct{}{}:
	default:
		f := mail.Fail(451, mail.Enhanced{4, 3, 2}, mail.OfUs, mail.ReasonRate, "%d clients follow the events already; try again later", maxStreams)
		f.RetryAfter = time.Minute
		return nil, f
	}
	if err := s.out.SetReadDeadline(time.Time{}); err != nil { // the request is read; nothing more is due
		<-a.streams
		return nil, fmt.Errorf("preparing a stream: %w", err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return s, nil
}

// run tells events as they happen, until the client goes, stops reading, or is
// not allowed to listen any more.
func (s *stream) run(ctx context.Context) error {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for {
		changed := s.Spool.Changed()
		events, next, err := s.Spool.Events(ctx, s.from, 256)
		if err != nil {
			return err
		}
		if err := s.write(ctx, events); err != nil {
			return err
		}
		s.from = next
		if len(events) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-beat.C:
			if err := s.alive(ctx); err != nil {
				return err
			}
		}
	}
}

// write sends those of the events that the caller may see.
func (s *stream) write(ctx context.Context, events []mail.Event) error {
	if err := s.out.SetWriteDeadline(time.Now().Add(streamWrites)); err != nil {
		return err
	}
	for _, e := range events {
		owner := e.Owner()
		if !s.sees(ctx, s.caller, owner) || s.only != "" && s.nameOf(ctx, owner) != s.only {
			continue
		}
		if !s.caller.Admin {
			var ok bool
			if e, ok = e.ToTenant(); !ok {
				continue
			}
		}
		b, err := json.Marshal(struct {
			Tenant string `json:"tenant"`
			mail.Event
		}{s.nameOf(ctx, owner), e})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(s.w, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, b); err != nil {
			return err
		}
	}
	return s.out.Flush()
}

// alive shows that the stream lives, unless the credential that opened it does
// not any more.
func (s *stream) alive(ctx context.Context) error {
	if !s.caller.Admin {
		if _, err := s.Directory.Authenticated(ctx, s.caller.Principal.Username); err != nil {
			return errors.New("its credential was removed or has expired")
		}
	}
	if err := s.out.SetWriteDeadline(time.Now().Add(streamWrites)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(s.w, ": still here\n\n"); err != nil {
		return err
	}
	return s.out.Flush()
}
