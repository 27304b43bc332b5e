// Package web holds what every HTTP door needs: who is asking, problem
// documents (RFC 9457), and bounds on what a request may cost.
package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"behalf/mail"
	"behalf/relay"
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
		return status(http.StatusNotFound, "there is no such thing, or it is not yours")
	case errors.Is(err, tenant.ErrConflict):
		return status(http.StatusPreconditionFailed, tenant.ErrConflict.Error())
	case errors.Is(err, tenant.ErrTaken):
		return status(http.StatusConflict, err.Error())
	case errors.Is(err, tenant.ErrAmbiguous):
		return status(http.StatusConflict, err.Error())
	case errors.Is(err, tenant.ErrForbidden):
		return status(http.StatusForbidden, err.Error())
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
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone if this fails
}

// Caller is who makes a request.
type Caller struct {
	tenant.Actor
	Principal *relay.Principal
	Client    relay.Client
}

// May reports whether the caller may act for the named tenant.
func (c *Caller) May(name string) bool {
	if c.Admin {
		return true
	}
	for _, t := range c.Tenants {
		if t == name || t == "*" {
			return true
		}
	}
	return false
}

type callerKey struct{}

// CallerOf is the caller of an authenticated request.
func CallerOf(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}

// Auth authenticates requests: by the admin key or a credential's secret as
// Bearer, or by a username and secret as Basic.
type Auth struct {
	AdminKey string
	Intake   *relay.Intake
	Log      *slog.Logger
}

// Required is the middleware: it answers 401 to whoever shows nothing valid.
func (a *Auth) Required(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(a.AdminKey))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := a.caller(r, want)
		if err != nil {
			Error(w, r, a.Log, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

func (a *Auth) caller(r *http.Request, want [32]byte) (*Caller, error) {
	client := ClientOf(r)
	if user, secret, ok := r.BasicAuth(); ok {
		p, err := a.Intake.Login(r.Context(), client, relay.Login{Mechanism: "BASIC", Username: user, Secret: secret})
		return callerFor(p, client, err)
	}
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "authenticate with the header Authorization: Bearer and an admin key or a credential's secret")
	}
	if got := sha256.Sum256([]byte(secret)); subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
		return &Caller{Actor: tenant.Actor{Name: "admin", Admin: true}, Principal: a.Intake.Administrator(), Client: client}, nil
	}
	p, err := a.Intake.Bearer(r.Context(), client, secret)
	return callerFor(p, client, err)
}

func callerFor(p *relay.Principal, c relay.Client, err error) (*Caller, error) {
	if err != nil {
		return nil, err
	}
	return &Caller{Actor: tenant.ActorOf(p.Credential()), Principal: p, Client: c}, nil
}

// ClientOf describes the client of a request.
func ClientOf(r *http.Request) relay.Client {
	c := relay.Client{Door: mail.DoorHTTP}
	c.Addr, _ = netip.ParseAddrPort(r.RemoteAddr) // the server's own, always well formed
	if r.TLS != nil {
		c.TLS = tlsName(r.TLS)
	}
	return c
}

// Harden sets the headers that keep browsers from guessing.
func Harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self' 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		next.ServeHTTP(w, r)
	})
}
