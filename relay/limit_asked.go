package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"behalf/mail"
	"behalf/policy"
	"behalf/tenant"
)

// Which limits hold for a tenant is known to its rules alone. They are asked
// about an ordinary message of each credential, as if it came now. Where a limit
// counts by what only a real message has, such as its recipient, the message
// that was made up shows in the key, and the limit is left out.
const (
	ordinaryDomain = "ordinary.invalid"
	ordinaryClient = "192.0.2.1"
	ordinarySize   = 10_000 // octets

	askedCredentials = 16 // of one tenant
)

// limitsAsked are the limits that the set in force has for a tenant. A stage that
// cannot be asked, which is logged, has none.
func (in *Intake) limitsAsked(ctx context.Context, v *tenant.View, now time.Time) ([]keyed, error) {
	names, err := in.someCredentials(ctx, v.Tenant.Name)
	if err != nil {
		return nil, err
	}
	var out []keyed
	for _, name := range names {
		usage, err := in.usageOf(ctx, v.Tenant.ID, name, now)
		if err != nil {
			return nil, err
		}
		for _, stream := range []string{mail.StreamTransactional, mail.StreamBroadcast} {
			list, err := in.limitsFor(ctx, ordinary(v, name, stream, usage, now))
			if err != nil {
				return nil, err
			}
			for _, l := range list {
				if !madeUp(l.Key) {
					out = keep(out, keyed{l, limitKey(l)})
				}
			}
		}
	}
	return out, nil
}

// someCredentials are usernames of a tenant; one that is made up if it has none.
func (in *Intake) someCredentials(ctx context.Context, name string) ([]string, error) {
	l, err := in.Directory.List(ctx, tenant.Actor{Name: in.administrator.Username, Admin: true}, tenant.Ref{Kind: tenant.KindCredential, Tenant: name}, tenant.Page{Limit: askedCredentials})
	if err != nil {
		return nil, fmt.Errorf("reading the credentials of %s: %w", name, err)
	}
	var out []string
	for _, item := range l.Items {
		if c, ok := item.(*tenant.Credential); ok {
			out = append(out, c.Username)
		}
	}
	if len(out) == 0 {
		out = append(out, name+"/"+ordinaryDomain)
	}
	return out, nil
}

// usageOf is what a tenant and one of its credentials sent of late, if rules ask.
func (in *Intake) usageOf(ctx context.Context, id mail.TenantID, username string, now time.Time) (*policy.Usage, error) {
	if needs := in.Policy.Needs(); !needs.Usage && !needs.CredentialUsage {
		return nil, nil
	}
	all, own, err := in.Usage.Get(ctx, id, username, now)
	if err != nil {
		return nil, fmt.Errorf("reading the usage: %w", err)
	}
	return &policy.Usage{Hour: policy.Window(all.Hour), Day: policy.Window(all.Day),
		Credential: policy.CredentialUsage{Hour: policy.Window(own.Hour), Day: policy.Window(own.Day)}}, nil
}

// ordinary is the made-up message, with all that a receiver wants of one.
func ordinary(v *tenant.View, username, stream string, usage *policy.Usage, now time.Time) policy.MessageInput {
	from := "someone@" + ordinaryDomain
	in := policy.MessageInput{
		SenderInput: policy.SenderInput{
			Time: now.UnixNano(), Stream: stream, Usage: usage, Tenant: tenantInput(v),
			Session:    &policy.Session{Addr: ordinaryClient, TLS: "TLS 1.3", Door: mail.DoorHTTP},
			Credential: &policy.Credential{Username: username, Scope: tenant.ScopeTenant},
			Envelope:   policy.Envelope{From: from, FromDomain: ordinaryDomain, Size: ordinarySize},
		},
		Identity: policy.Identity{Address: from, Verified: true, Methods: []mail.Method{mail.MethodDomain}},
		Message:  policy.Message{From: from, FromDomain: ordinaryDomain, Subject: "Hello", Size: ordinarySize, OneClick: true},
	}
	in.Candidates = []policy.Candidate{{Upstream: mail.UpstreamMX, Method: mail.MethodDomain, Holds: true}}
	in.Authentication = policy.Authentication{Method: mail.MethodDomain, FromDomain: ordinaryDomain, SPF: true, DKIM: true, DMARCPolicy: "reject", ReverseDNS: true}
	return in
}

// limitsFor asks the three stages, aside from live traffic.
func (in *Intake) limitsFor(ctx context.Context, m policy.MessageInput) ([]policy.Limit, error) {
	set := in.Policy.Active()
	sender := m.SenderInput
	m.Envelope.Recipients = 1
	to := policy.RecipientInput{SenderInput: sender}
	to.Recipient = policy.Recipient{Address: m.Message.From, Domain: ordinaryDomain, Site: ordinaryDomain}
	var out []policy.Limit
	for _, ask := range []func() (policy.Decision, error){
		func() (policy.Decision, error) { return set.Sender(ctx, &sender) },
		func() (policy.Decision, error) { return set.Recipient(ctx, &to) },
		func() (policy.Decision, error) { return set.Message(ctx, &m) },
	} {
		d, err := ask()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("asking the policy which limits hold: %w", ctx.Err())
		}
		if err != nil {
			in.o.Log.Warn("policy could not tell which limits hold", "tenant", m.Tenant.Name, "err", err)
		}
		out = append(out, d.Limits...)
	}
	return out, nil
}

// madeUp tells whether a key has something of the ordinary message in it.
func madeUp(key []string) bool {
	return slices.ContainsFunc(key, func(k string) bool { return k == ordinaryClient || strings.Contains(k, ordinaryDomain) })
}

// TenantLimit is one limit of a tenant, as it stands now.
type TenantLimit struct {
	LimitStanding
	boardCounts
	Binding bool // no other one is as pressing
}

// TenantLimits are the limits that hold for a tenant, and those that its mail
// met since this process started, the most pressing first.
func (in *Intake) TenantLimits(ctx context.Context, v *tenant.View, now time.Time) ([]TenantLimit, error) {
	asked, err := in.limitsAsked(ctx, v, now)
	if err != nil {
		return nil, err
	}
	if slices.Contains(v.Methods(), mail.MethodAddress) {
		asked = keep(asked, addressLimit(v))
	}
	seen := in.board.of(v.Tenant.ID)
	for _, l := range asked {
		if k := slices.IndexFunc(seen, func(s sighting) bool { return s.key == l.key }); k >= 0 {
			seen[k].limit = l.Limit // rate and burst may have changed
		} else {
			seen = append(seen, sighting{key: l.key, limit: l.Limit})
		}
	}
	var out []TenantLimit
	for _, s := range seen {
		k := keyed{s.limit, s.key}
		w := in.Limits.Would(now, k.ask(1))
		out = append(out, TenantLimit{boardCounts: s.n, LimitStanding: LimitStanding{Limit: s.limit, Remaining: w.Remaining, ResetAt: w.ResetAt, Wait: w.Wait,
			Shared: shared(s.limit.Key, v.Tenant.ID, v.Tenant.Name)}})
	}
	slices.SortStableFunc(out, func(a, b TenantLimit) int { return a.compare(&b.LimitStanding) })
	if len(out) > 0 && out[0].Used() > 0 {
		out[0].Binding = true
	}
	return out, nil
}
