package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"behalf/internal/throttle"
	"behalf/mail"
	"behalf/relay"
	"behalf/tenant"
)

// Caller is who makes a request, and for which tenants it may.
type Caller struct {
	tenant.Actor
	Principal *relay.Principal
	Client    relay.Client
	// Named is the tenant that the header Behalf-Tenant of the request names.
	// It narrows what the caller sees, and never widens it.
	Named string
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
	Throttle *throttle.Throttle // of failed logins; its own when nil
	Log      *slog.Logger
}

// maxHeld bounds how many refusals are held back at a time.
const maxHeld = 256

// Required makes the middleware: it answers 401 to whoever shows nothing valid,
// later and later, and 429 to whoever guesses on.
func (a *Auth) Required() func(http.Handler) http.Handler {
	g := &guard{Auth: *a, admin: sha256.Sum256([]byte(a.AdminKey)), held: make(chan struct{}, maxHeld)}
	if g.Throttle == nil {
		g.Throttle = throttle.New()
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := g.caller(r)
			if err != nil {
				Error(w, r, a.Log, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
		})
	}
}

// guard is an Auth at work.
type guard struct {
	Auth
	admin [sha256.Size]byte // hash of the admin key
	held  chan struct{}     // a place for each refusal that is held back
}

// caller says who makes the request.
func (g *guard) caller(r *http.Request) (*Caller, error) {
	client := ClientOf(r)
	user, secret, ok := r.BasicAuth()
	if !ok {
		if secret, ok = bearer(r.Header.Get("Authorization")); !ok {
			return nil, mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth,
				"authenticate with the header Authorization: Bearer and an admin key or a credential's secret")
		}
	}
	sum := sha256.Sum256([]byte(secret))
	name := user
	if name == "" {
		// Whoever shows a key and no name is throttled by the key, so that one
		// app with a revoked key does not shut out its neighbours.
		name = "key " + hex.EncodeToString(sum[:8])
	}
	addr := client.Addr.Addr()
	if wait := g.Throttle.Blocked(addr, name); wait > 0 {
		f := mail.Fail(454, mail.Enhanced{4, 7, 0}, mail.OfRoute, mail.ReasonRate, "too many logins have failed; try again in %d seconds", int(wait/time.Second)+1)
		f.RetryAfter = wait + time.Second
		return nil, f
	}
	c, err := g.login(r.Context(), client, user, secret, sum)
	var f *mail.Failure
	switch {
	case err == nil:
		g.Throttle.Succeeded(addr, name)
		c.Named = r.Header.Get("Behalf-Tenant")
	case errors.As(err, &f) && f.Reason == mail.ReasonAuth:
		g.hold(r.Context(), g.Throttle.Failed(addr, name))
	}
	return c, err
}

// bearer is the token of an Authorization field (RFC 6750).
func bearer(authorization string) (string, bool) {
	scheme, token, ok := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	return token, ok && token != "" && strings.EqualFold(scheme, "Bearer")
}

func (g *guard) login(ctx context.Context, client relay.Client, user, secret string, sum [sha256.Size]byte) (*Caller, error) {
	if user == "" && subtle.ConstantTimeCompare(sum[:], g.admin[:]) == 1 {
		return &Caller{Actor: tenant.Actor{Name: "admin", Admin: true}, Principal: g.Intake.Administrator(), Client: client}, nil
	}
	l := relay.Login{Mechanism: "BEARER", Username: user, Secret: secret}
	if user != "" {
		l.Mechanism = "BASIC"
	}
	p, err := g.Intake.Login(ctx, client, l)
	if err != nil {
		return nil, err
	}
	c := &Caller{Actor: tenant.ActorOf(p.Credential()), Principal: p, Client: client}
	if t := p.Tenant(); t != "" {
		c.Tenants = []string{t} // platform/app+acme is acme's and no other's
	}
	return c, nil
}

// hold holds an answer back for d, unless many are held already.
func (g *guard) hold(ctx context.Context, d time.Duration) {
	select {
	case g.held <- struct{}{}:
		defer func() { <-g.held }()
	default:
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
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
