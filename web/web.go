// Package web holds what every HTTP door needs: who is asking, problem
// documents (RFC 9457), and bounds on what a request may cost.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"

	"behalf/mail"
	"behalf/tenant"
)

// Problem is an error as clients see it (RFC 9457).
type Problem struct {
	Type     string              `json:"type,omitempty"`
	Title    string              `json:"title"`
	Status   int                 `json:"status"`
	Detail   string              `json:"detail,omitempty"`
	Code     int                 `json:"smtp_code,omitempty"` // what SMTP would have said
	Enhanced string              `json:"enhanced,omitempty"`
	Errors   []tenant.FieldError `json:"errors,omitempty"`
}

// notFound is the answer about what is not there or is none of the caller's
// business; the two must look alike.
const notFound = "there is no such thing, or it is not yours"

// ProblemOf says what went wrong with the right status. Causes of our own
// trouble are not told.
func ProblemOf(err error) Problem {
	var invalid *tenant.ValidationError
	var failure *mail.Failure
	var tooLarge *http.MaxBytesError
	status := func(n int, detail string) Problem {
		return Problem{Title: http.StatusText(n), Status: n, Detail: detail}
	}
	switch {
	case errors.As(err, &invalid):
		p := status(http.StatusUnprocessableEntity, invalid.Error())
		p.Errors = invalid.Fields
		return p
	case errors.As(err, &failure):
		p := status(statusOf(failure), failure.Text)
		p.Code, p.Enhanced = failure.Code, failure.Enhanced.String()
		return p
	case errors.As(err, &tooLarge):
		return status(http.StatusRequestEntityTooLarge, "the request is larger than the limit")
	case errors.Is(err, tenant.ErrNotFound):
		return status(http.StatusNotFound, notFound)
	case errors.Is(err, tenant.ErrConflict):
		return status(http.StatusPreconditionFailed, tenant.ErrConflict.Error())
	case errors.Is(err, tenant.ErrTaken):
		return status(http.StatusConflict, err.Error())
	case errors.Is(err, tenant.ErrAmbiguous):
		return status(http.StatusConflict, err.Error())
	case errors.Is(err, tenant.ErrForbidden):
		return status(http.StatusForbidden, err.Error())
	case errors.Is(err, io.ErrUnexpectedEOF):
		return status(http.StatusBadRequest, "the request ended early; nothing was done")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return status(http.StatusRequestTimeout, "the request came too slowly; nothing was done")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status(http.StatusServiceUnavailable, "the request took too long")
	}
	return status(http.StatusInternalServerError, "trouble on our side; try again, and tell the operator if it stays")
}

func statusOf(f *mail.Failure) int {
	switch {
	case f.Reason == mail.ReasonTooLarge:
		return http.StatusRequestEntityTooLarge
	case f.Code == 535:
		return http.StatusUnauthorized
	case f.Reason == mail.ReasonRate:
		return http.StatusTooManyRequests
	case f.Temporary():
		return http.StatusServiceUnavailable
	case f.Reason == mail.ReasonPolicy:
		return http.StatusForbidden
	}
	return http.StatusUnprocessableEntity
}

// Error answers with a problem document, and logs what is our own fault.
func Error(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	p := ProblemOf(err)
	if p.Status >= 500 {
		log.Error("request failed", "method", r.Method, "path", r.URL.Path, "status", p.Status, "err", err)
	}
	var f *mail.Failure
	if errors.As(err, &f) && f.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(f))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="behalf"`)
	}
	p.write(w)
}

func (p Problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone if this fails
}
