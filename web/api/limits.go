package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"behalf/limit"
	"behalf/mail"
	"behalf/policy"
	"behalf/relay"
	"behalf/web"
)

// MetLimit is one limit of a tenant, as it stands now.
type MetLimit struct {
	Rule    string       `json:"rule" doc:"The rule that says so, as file:rule."`
	Key     []string     `json:"key" doc:"Who or what is counted."`
	Count   policy.Count `json:"count" enum:"messages,recipients,bytes"`
	Rate    float64      `json:"rate" doc:"That many in per."`
	Per     string       `json:"per"`
	Burst   int64        `json:"burst" doc:"That many at once."`
	Over    policy.Over  `json:"over" enum:"defer,pace,hold"`
	MaxWait string       `json:"max_wait,omitempty"`

	Used      *int64    `json:"used,omitempty" doc:"Of burst. A tenant is not told what is used of a limit that it shares with others."`
	Remaining *int64    `json:"remaining,omitempty"`
	Reset     time.Time `json:"reset,omitzero" doc:"When the whole burst may pass again; absent if it may now."`
	Wait      float64   `json:"wait_seconds,omitempty" doc:"How long the next one has to wait."`
	Shared    bool      `json:"shared,omitempty" doc:"The key does not name the tenant: others count in it too."`
	Binding   bool      `json:"binding,omitempty" doc:"The most pressing of all."`

	Last        time.Time `json:"last,omitzero" doc:"When it last counted something, or refused it; absent if it did not since the server started."`
	LastRefused time.Time `json:"last_refused,omitzero"`
	Refused     int64     `json:"refused" doc:"How often it refused since the server started, as far as is remembered."`
	Paced       int64     `json:"paced" doc:"How often it delayed."`
	Held        int64     `json:"held" doc:"How often it held."`
}

// TenantLimits are the limits of a tenant, at the door and at delivery.
type TenantLimits struct {
	Items    []MetLimit `json:"items" doc:"Limits of rules that hold for the tenant, and others that it met since the last start, the most pressing first."`
	Delivery []Queue    `json:"delivery" doc:"Its queues, with what binds each at delivery."`
}

// limits registers what limits a tenant.
func (a *API) limits(h huma.API) {
	huma.Register(h, huma.Operation{OperationID: "tenant-limits", Method: http.MethodGet, Path: "/v1/tenants/{name}/limits", Tags: []string{"tenants"}, Summary: "The limits that hold for a tenant, and which one binds"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*struct{ Body TenantLimits }, error) {
			id, err := a.ownTenant(ctx, in.Name)
			if err != nil {
				return nil, a.problem(err)
			}
			out := TenantLimits{Items: []MetLimit{}}
			v, err := a.Directory.View(ctx, id)
			if err != nil {
				return nil, a.problem(err)
			}
			list, err := a.Intake.TenantLimits(ctx, v, time.Now())
			if err != nil {
				return nil, a.problem(err)
			}
			for _, l := range list {
				out.Items = append(out.Items, limitView(&l, web.CallerOf(ctx).Admin))
			}
			if out.Delivery, err = a.queues(ctx, in.Name); err != nil {
				return nil, a.problem(err)
			}
			return &struct{ Body TenantLimits }{out}, nil
		})
}

func limitView(l *relay.TenantLimit, admin bool) MetLimit {
	v := MetLimit{
		Rule: l.Rule, Key: l.Key, Count: l.Count, Rate: l.Rate, Per: l.Per.String(), Burst: l.Allowed(), Over: l.Over,
		Shared: l.Shared, Binding: l.Binding, Last: l.Last, LastRefused: l.LastRefused, Refused: l.Refused, Paced: l.Paced, Held: l.Held,
	}
	if l.MaxWait > 0 {
		v.MaxWait = l.MaxWait.String()
	}
	if admin || !l.Shared {
		used, remaining := l.Used(), l.Remaining
		v.Used, v.Remaining, v.Reset, v.Wait = &used, &remaining, l.ResetAt, l.Wait.Seconds()
	}
	return v
}

// Answers to submissions tell where the most pressing limits stand, in the
// fields RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers,
// version 09. A rule's limit is a policy there: its quota q is what may pass at
// once, its window w the seconds in which all of that comes back. RateLimit has
// what remains as r, and as t the seconds after which the quota is whole again,
// or after which a request that was refused may pass.

// ofReceipt is what a submission that was accepted tells of limits.
func ofReceipt(h http.Header, list []relay.LimitStanding) {
	var policies, states []string
	for i := range list {
		if s := &list[i]; !s.Shared {
			policies, states = append(policies, quota(s)), append(states, left(s, time.Until(s.ResetAt)))
		}
	}
	if len(policies) > 0 {
		h.Set("RateLimit-Policy", strings.Join(policies, ", "))
		h.Set("RateLimit", strings.Join(states, ", "))
	}
}

// ofRefusal is what a refusal by a limit tells, besides Retry-After: of one that
// is shared with others, nothing.
func ofRefusal(h http.Header, err error) {
	var over *relay.OverLimit
	if f := mail.AsFailure(err); f == nil || !errors.As(f, &over) || over.Shared {
		return
	}
	h.Set("RateLimit-Policy", quota(&over.LimitStanding))
	if over.Wait != limit.Never {
		h.Set("RateLimit", fmt.Sprintf("%s;r=0;t=%d", quoted(over.Name()), seconds(over.Wait)))
	}
}

func quota(s *relay.LimitStanding) string {
	text := fmt.Sprintf("%s;q=%d;w=%d", quoted(s.Name()), integer(s.Allowed()), seconds(time.Duration(float64(s.Per)/s.Rate*float64(s.Allowed()))))
	switch s.Count {
	case policy.CountBytes:
		text += `;qu="content-bytes"`
	case policy.CountRecipients:
		text += `;qu="recipients"`
	}
	return text
}

func left(s *relay.LimitStanding, reset time.Duration) string {
	return fmt.Sprintf("%s;r=%d;t=%d", quoted(s.Name()), integer(s.Remaining), seconds(reset))
}

// seconds rounds up, as who comes a moment too early comes in vain.
func seconds(d time.Duration) int64 { return integer(int64(math.Ceil(max(0, d.Seconds())))) }

// integer is n within what a structured field can say (RFC 9651, section 3.3.1).
func integer(n int64) int64 { return min(max(n, 0), 999_999_999_999_999) }

// quoted is a string of a structured field (RFC 9651, section 3.3.3).
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
