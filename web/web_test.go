package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/tenant"
)

func TestProblemOf(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		detail string
	}{
		{&tenant.ValidationError{Fields: []tenant.FieldError{{Field: "name", Message: "too long"}}}, 422, "name: too long"},
		{fmt.Errorf("tenant x: %w", tenant.ErrNotFound), 404, notFound},
		{fmt.Errorf("tenant x: %w", tenant.ErrConflict), 412, "changed meanwhile"},
		{fmt.Errorf("x.example: %w", tenant.ErrTaken), 409, "x.example"},
		{fmt.Errorf("app: %w", tenant.ErrAmbiguous), 409, "name the tenant"},
		{fmt.Errorf("tenants: %w", tenant.ErrForbidden), 403, "tenants"},
		{mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "who are you"), 401, "who are you"},
		{mail.Fail(550, mail.Enhanced{5, 7, 1}, mail.OfMessage, mail.ReasonPolicy, "not yours"), 403, "not yours"},
		{mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, "bad"), 422, "bad"},
		{mail.Fail(552, mail.Enhanced{5, 3, 4}, mail.OfMessage, mail.ReasonTooLarge, "big"), 413, "big"},
		{mail.Fail(450, mail.Enhanced{4, 7, 1}, mail.OfMessage, mail.ReasonRate, "slow down"), 429, "slow down"},
		{mail.Fail(452, mail.Enhanced{4, 3, 1}, mail.OfUs, mail.ReasonInternal, "disk"), 503, "disk"},
		{&http.MaxBytesError{Limit: 7}, 413, "limit"},
		{fmt.Errorf("reading: %w", io.ErrUnexpectedEOF), 400, "ended early"},
		{fmt.Errorf("reading: %w", os.ErrDeadlineExceeded), 408, "slowly"},
		{context.DeadlineExceeded, 503, "too long"},
		{errors.New("open /data/store: denied"), 500, "our side"},
	} {
		p := ProblemOf(c.err)
		if p.Status != c.status || p.Title == "" || !strings.Contains(p.Detail, c.detail) || strings.Contains(p.Detail, "/data") {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
}

// A refusal that names a time says so in Retry-After.
func TestRetryAfter(t *testing.T) {
	f := mail.Fail(450, mail.Enhanced{4, 7, 1}, mail.OfMessage, mail.ReasonRate, "slow down")
	f.RetryAfter = 90_000_000_000
	w := httptest.NewRecorder()
	Error(w, httptest.NewRequest("GET", "/", nil), slog.New(slog.DiscardHandler), fmt.Errorf("limit: %w", f))
	if w.Code != 429 || w.Header().Get("Retry-After") != "90" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestBearer(t *testing.T) {
	for in, want := range map[string]string{
		"Bearer x": "x", "bearer x": "x", "BEARER  x ": "x", "": "", "Bearer": "", "Bearer ": "", "Basic x": "", "Bearerx": "",
	} {
		if got, ok := bearer(in); got != want && ok || ok != (want != "") {
			t.Errorf("%q: %q %v", in, got, ok)
		}
	}
}
