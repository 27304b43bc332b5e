package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"behalf/internal/dnsx"
)

const (
	reverseKept  = 10 * time.Minute // how long an answer holds
	reverseRetry = 30 * time.Second // until a failed question is asked again
	reverseWait  = time.Second      // how long one message waits for the DNS
)

// ReverseDNS knows whether the addresses that this relay sends from have names
// in the DNS that lead back to them (forward-confirmed reverse DNS), as the big
// receivers ask.
//
// It is looked up by the first message that wants to know after an answer has
// run out, within a second; others meanwhile have the old answer. When the DNS
// cannot say, the last answer holds, and before the first one true, with a
// warning: a resolver that is down must not look like a relay without a name.
type ReverseDNS struct {
	dns      dnsx.Resolver
	hostname string
	sources  []netip.Addr
	log      *slog.Logger
	looking  sync.WaitGroup // what Known began

	mu     sync.Mutex
	answer bool
	until  time.Time // the answer holds until then
	asking bool
}

// NewReverseDNS is for a relay that says hostname in EHLO and sends from sources;
// if there are none, or they are private, from the addresses of its hostname.
func NewReverseDNS(dns dnsx.Resolver, hostname string, sources []netip.Addr, log *slog.Logger) *ReverseDNS {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &ReverseDNS{dns: dns, hostname: hostname, log: log, answer: true}
	for _, a := range sources {
		if a = a.Unmap(); a.IsGlobalUnicast() && !a.IsPrivate() {
			r.sources = append(r.sources, a)
		}
	}
	return r
}

// Confirmed reports whether name and address confirm each other, for every
// address that the relay sends from.
func (r *ReverseDNS) Confirmed(ctx context.Context) bool {
	r.mu.Lock()
	if r.asking || time.Now().Before(r.until) {
		defer r.mu.Unlock()
		return r.answer
	}
	r.asking = true
	r.mu.Unlock()
	return r.ask(ctx)
}

// Known is the last answer. One that has run out is looked up meanwhile, for who
// asks next; see [ReverseDNS.Wait].
func (r *ReverseDNS) Known(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asking && !time.Now().Before(r.until) {
		r.asking = true
		r.looking.Go(func() { r.ask(context.WithoutCancel(ctx)) })
	}
	return r.answer
}

// Wait waits for what is being looked up, a second at most. Nobody may ask any
// more.
func (r *ReverseDNS) Wait() { r.looking.Wait() }

// ask looks it up; asking is set.
func (r *ReverseDNS) ask(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, reverseWait)
	defer cancel()
	why, err := r.look(limited)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking = false
	now := time.Now()
	if err != nil {
		r.until = now.Add(reverseRetry)
		r.log.Warn("reverse DNS of this relay could not be looked up; what was known of it holds", "hostname", r.hostname, "confirmed", r.answer, "err", err)
		return r.answer
	}
	if ok := why == ""; !ok && r.answer {
		r.log.Warn("reverse DNS of this relay is not in order: big receivers will refuse its mail", "hostname", r.hostname, "problem", why)
	}
	r.answer, r.until = why == "", now.Add(reverseKept)
	return r.answer
}

// look says what is wrong; empty: nothing.
func (r *ReverseDNS) look(ctx context.Context) (why string, err error) {
	addrs := r.sources
	if len(addrs) == 0 {
		if addrs, _, err = r.dns.Addrs(ctx, r.hostname); err != nil {
			return "", fmt.Errorf("looking up %s: %w", r.hostname, err)
		}
		if len(addrs) == 0 {
			return r.hostname + " has no address", nil
		}
	}
	for _, a := range addrs {
		ok, err := r.confirmed(ctx, a)
		if err != nil {
			return "", err
		}
		if !ok {
			return fmt.Sprintf("no PTR record of %s names a host that has this address", a), nil
		}
	}
	return "", nil
}

func (r *ReverseDNS) confirmed(ctx context.Context, a netip.Addr) (bool, error) {
	names, _, err := r.dns.PTR(ctx, a)
	if err != nil {
		return false, fmt.Errorf("looking up the name of %s: %w", a, err)
	}
	const most = 10 // names that are tried; receivers do not try more
	for _, name := range names[:min(len(names), most)] {
		back, _, err := r.dns.Addrs(ctx, strings.TrimSuffix(name, "."))
		if err != nil {
			return false, fmt.Errorf("looking up %s: %w", name, err)
		}
		if slices.ContainsFunc(back, func(b netip.Addr) bool { return b.Unmap() == a.Unmap() }) {
			return true, nil
		}
	}
	return false, nil
}
