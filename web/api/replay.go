package api

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"behalf/policy"
	"behalf/relay/replay"
	"behalf/tenant"
	"behalf/web"
)

const (
	maxReplayBody  = 32 << 20 // of the files of a set, as they are sent
	maxReplayFiles = 2000
	jsonLines      = "application/x-ndjson"
)

type replayInput struct {
	ContentType string `header:"Content-Type"`
	Accept      string `header:"Accept"`
	Since       string `query:"since" doc:"RFC 3339 time, or how long ago, such as 24h or 7d; default 24h." default:"24h"`
	Until       string `query:"until" doc:"Likewise; default now."`
	Tenant      string `query:"tenant" doc:"Only of this tenant."`
	Examples    int    `query:"examples" minimum:"1" maximum:"500" default:"20" doc:"Decisions to show."`
	RawBody     []byte
}

// ReplayLine is one line of a replay that is told as it goes: one of its fields
// is there, and report or error in the last line.
type ReplayLine struct {
	Progress   *replay.Progress `json:"progress,omitempty"`
	Difference *replay.Example  `json:"difference,omitempty"`
	Report     *replay.Report   `json:"report,omitempty"`
	Error      string           `json:"error,omitempty"`
}

// replay registers POST /v1/policies/replay. It is the admin's.
func (a *API) replay(h huma.API) {
	schemas := h.OpenAPI().Components.Schemas
	text := &huma.Schema{Type: huma.TypeString}
	files := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: text, Description: "The text of each file by its path; or {\"active\": true}."}
	body := &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: files}, "application/x-tar+gzip": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	huma.Register(h, huma.Operation{
		OperationID: "replay-policies", Method: http.MethodPost, Path: "/v1/policies/replay", Tags: []string{"policies"}, SkipValidateBody: true,
		MaxBodyBytes: maxReplayBody, BodyReadTimeout: bodyTimeout,
		Summary: "What a set of policies would have decided on recorded traffic",
		Description: "The body is the set: its files as a JSON object of path and text, or as a tar archive packed with gzip. Without a body the set that waits to be accepted is meant, with {\"active\": true} the one in force. " +
			"With Accept: " + jsonLines + " every difference is told as it is found, with progress between, and the report at the end. One replay runs at a time, 409 says so; a client that goes away ends its own.",
		RequestBody: body,
		Responses: map[string]*huma.Response{"200": {Description: "The report", Content: map[string]*huma.MediaType{
			"application/json": {Schema: schemas.Schema(reflect.TypeFor[replay.Report](), true, "ReplayReport")},
			jsonLines:          {Schema: schemas.Schema(reflect.TypeFor[ReplayLine](), true, "ReplayLine")},
		}}},
	}, func(ctx context.Context, in *replayInput) (*huma.StreamResponse, error) {
		if !web.CallerOf(ctx).Admin {
			return nil, a.problem(tenant.ErrNotFound)
		}
		o, err := in.options(time.Now().UTC())
		if err != nil {
			return nil, a.problem(err)
		}
		set, err := a.replayed(ctx, in)
		if err != nil {
			return nil, a.problem(err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humachi.Unwrap(hc)
			s := &replayStream{w: w, out: http.NewResponseController(w), lines: strings.Contains(in.Accept, jsonLines)}
			a.runReplay(hc.Context(), s, set, o)
		}}, nil
	})
	body.Required = false // as huma has it
}

func (in *replayInput) options(now time.Time) (o replay.Options, err error) {
	o = replay.Options{Tenant: in.Tenant, Examples: in.Examples}
	if o.Since, err = moment("since", in.Since, now); err == nil {
		o.Until, err = moment("until", in.Until, now)
	}
	if err == nil && !o.Until.IsZero() && !o.Until.After(o.Since) {
		err = invalid("until", "must be after since")
	}
	return o, err
}

func invalid(field, message string) error {
	return &tenant.ValidationError{Fields: []tenant.FieldError{{Field: field, Message: message}}}
}

// moment reads an RFC 3339 time or how long ago it was; empty is the zero time.
func moment(field, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at.UTC(), nil
	}
	span, unit := s, time.Duration(1)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		span, unit = days+"h", 24
	}
	ago, err := time.ParseDuration(span)
	if err != nil || ago < 0 || ago > 10*365*24*time.Hour {
		return time.Time{}, invalid(field, "want a time as 2006-01-02T15:04:05Z, or how long ago, such as 24h or 7d")
	}
	return now.Add(-ago * unit), nil
}

// replayed is the set that a request names.
func (a *API) replayed(ctx context.Context, in *replayInput) (policy.Pinned, error) {
	body := bytes.TrimSpace(in.RawBody)
	if len(body) == 0 {
		set, ok := a.Policy.Pending()
		if !ok {
			return set, invalid("body", "no set waits to be accepted; give the files of one, or {\"active\": true} for the one in force")
		}
		return set, nil
	}
	var dir fs.FS
	var err error
	if strings.Contains(in.ContentType, "gzip") || strings.Contains(in.ContentType, "tar") {
		dir, err = untar(in.RawBody)
	} else {
		var named map[string]json.RawMessage
		if err := json.Unmarshal(body, &named); err != nil {
			return policy.Pinned{}, invalid("body", "want a JSON object of path and text of each file: "+err.Error())
		}
		if string(named["active"]) == "true" && len(named) == 1 {
			return a.Policy.Active(), nil
		}
		dir, err = jsonFiles(named)
	}
	if err != nil {
		return policy.Pinned{}, invalid("body", err.Error())
	}
	set, err := a.Policy.Candidate(ctx, dir)
	if err != nil {
		return set, invalid("body", err.Error())
	}
	return set, nil
}

// folder is files in memory; a zip archive is a file system.
type folder struct {
	b bytes.Buffer
	z *zip.Writer
	n int
}

func newFolder() *folder {
	f := &folder{}
	f.z = zip.NewWriter(&f.b)
	return f
}

func (f *folder) add(name string, r io.Reader) error {
	name = strings.TrimPrefix(path.Clean(name), "/")
	if !fs.ValidPath(name) {
		return fmt.Errorf("%q is no path inside a folder", name)
	}
	if f.n++; f.n > maxReplayFiles {
		return fmt.Errorf("more than %d files", maxReplayFiles)
	}
	w, err := f.z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.LimitReader(r, maxReplayBody-int64(f.b.Len())+1))
	if err == nil && f.b.Len() > maxReplayBody {
		err = fmt.Errorf("more than %d MiB", maxReplayBody>>20)
	}
	return err
}

func (f *folder) open() (fs.FS, error) {
	if err := f.z.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(f.b.Bytes()), int64(f.b.Len()))
}

func jsonFiles(named map[string]json.RawMessage) (fs.FS, error) {
	f := newFolder()
	for name, raw := range named {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, fmt.Errorf("%s: want the text of the file", name)
		}
		if err := f.add(name, strings.NewReader(text)); err != nil {
			return nil, err
		}
	}
	return f.open()
}

func untar(b []byte) (fs.FS, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("want a tar archive packed with gzip: %w", err)
	}
	f := newFolder()
	for t := tar.NewReader(io.LimitReader(z, 2*maxReplayBody)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return f.open()
		}
		if err != nil {
			return nil, fmt.Errorf("want a tar archive packed with gzip: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := f.add(h.Name, t); err != nil {
			return nil, err
		}
	}
}

// replayStream is the answer to one replay: the report, or lines as it goes.
type replayStream struct {
	w     http.ResponseWriter
	out   *http.ResponseController
	lines bool
	begun bool
}

// begin says that all is well; errors are told in lines from then on.
func (s *replayStream) begin() {
	if s.begun {
		return
	}
	s.begun = true
	s.w.Header().Set("Content-Type", "application/json")
	if s.lines {
		s.w.Header().Set("Content-Type", jsonLines)
	}
	s.w.Header().Set("Cache-Control", "no-store")
	s.w.WriteHeader(http.StatusOK)
}

func (s *replayStream) line(v any, flush bool) error {
	s.begin()
	if err := s.out.SetWriteDeadline(time.Now().Add(streamWrites)); err != nil {
		return err
	}
	if err := json.NewEncoder(s.w).Encode(v); err != nil || !flush {
		return err
	}
	return s.out.Flush()
}

// runReplay replays while the client listens. What was replayed to its end, for
// all tenants, counts as reviewed.
func (a *API) runReplay(ctx context.Context, s *replayStream, set policy.Pinned, o replay.Options) {
	_ = errors.Join(s.out.SetReadDeadline(time.Time{}), s.out.SetWriteDeadline(time.Time{})) // without it, the server's own deadlines hold
	if s.lines {
		o.Progress = func(p replay.Progress) error { return s.line(ReplayLine{Progress: &p}, true) }
		o.Difference = func(e *replay.Example) error { return s.line(ReplayLine{Difference: e}, false) }
	}
	runner := a.Replay
	if runner == nil {
		runner = &replay.Runner{}
	}
	report, err := runner.Run(ctx, set, o)
	if err == nil && o.Tenant == "" {
		a.Policy.Reviewed(set.Digest(), policy.Review{Since: report.Since, Until: report.Until,
			Decisions: report.Decisions, Asked: report.Same + report.Differing, Differing: report.Differing})
	}
	switch {
	case ctx.Err() != nil:
		a.Log.Info("a replay of policies ended, because the client went away", "digest", set.Digest())
	case err != nil && s.begun:
		a.Log.Error("a replay of policies failed", "digest", set.Digest(), "err", err)
		_ = s.line(ReplayLine{Error: "the replay broke off; the log of the relay says why"}, true) // the client is gone if this fails
	case err != nil:
		a.refuseReplay(s.w, err)
	case s.lines:
		_ = s.line(ReplayLine{Report: report}, true) // likewise
	default:
		_ = s.line(report, true) // likewise
	}
}

func (a *API) refuseReplay(w http.ResponseWriter, err error) {
	p := web.ProblemOf(err)
	if errors.Is(err, replay.ErrBusy) || errors.Is(err, replay.ErrOff) {
		p = web.Problem{Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict, Detail: err.Error()}
	} else {
		a.Log.Error("a replay of policies failed", "err", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone if this fails
}
