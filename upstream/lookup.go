package upstream

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"behalf/internal/dnsx"
	"behalf/internal/egress"
	"behalf/internal/smtpclient"
	"behalf/mail"
)

// Lookup makes r the resolver of an egress.Dialer.
func Lookup(r dnsx.Resolver) func(context.Context, string) ([]netip.Addr, error) {
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		addrs, _, err := r.Addrs(ctx, host)
		if err == nil && len(addrs) == 0 {
			err = egress.ErrNoAddress
		}
		return addrs, err
	}
}

// DialFailure is the verdict on a host that a dialer could not connect to.
// scope is whose fault it is when the host may not be reached at all.
func DialFailure(host string, err error, scope mail.Scope) *mail.Failure {
	f := smtpclient.Unreachable(host, err)
	switch {
	case egress.IsForbidden(err):
		f.Code, f.Enhanced, f.Scope, f.Reason = 550, mail.Enhanced{5, 4, 4}, scope, mail.ReasonForbiddenHost
		f.Text = host + " leads to an address that must not be reached from here"
	case errors.Is(err, dnsx.ErrTemporary):
		f.Enhanced, f.Reason, f.Text = mail.Enhanced{4, 4, 3}, mail.ReasonDNS, "the DNS did not say where "+host+" is"
	case errors.Is(err, egress.ErrNoAddress):
		f.Enhanced, f.Reason, f.Text = mail.Enhanced{4, 4, 4}, mail.ReasonDNS, "the DNS has no address for "+host
	}
	return f
}

// Interrupted is the result of a job that was stopped before anything was sent,
// because the process ends.
func Interrupted(j *Job, start time.Time, err error) []Result {
	return FailAll(j, start, interrupted(err))
}

func interrupted(err error) *mail.Failure {
	f := mail.Fail(451, mail.Enhanced{4, 3, 0}, mail.OfUs, mail.ReasonInternal, "the attempt could not begin; it is made again")
	f.Err = err
	return f
}
