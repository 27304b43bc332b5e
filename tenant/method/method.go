// Package method decides how a message is made authentic: which of the four
// methods holds for a From, here and now, at each way out, and why the others
// do not. It is pure: callers gather the facts.
//
// Two rules carry it. A method holds only where everything that it needs is
// known to be there, so nothing is sent that will fail DMARC at a domain that
// asks for quarantine or reject; and the visible From is changed only where the
// tenant allows it.
package method

import (
	"slices"

	"behalf/mail"
	"behalf/tenant"
)

// Kind is what sort of way out an upstream is; it says which methods are
// possible there.
type Kind uint8

// The kinds.
const (
	KindMX       Kind = iota // mx, the platform's smart host, local delivery: it goes out as we made it
	KindAccount              // smtp with envelope: account, gmail, graph
	KindAny                  // smtp with envelope: any
	KindProvider             // ses, mandrill
)

// possible are the methods at each kind of upstream.
func (k Kind) possible(m mail.Method) bool {
	switch m {
	case mail.MethodDomain:
		return k == KindMX || k == KindAny || k == KindProvider
	case mail.MethodConnection:
		return k == KindAccount || k == KindAny
	case mail.MethodAddress, mail.MethodName:
		return k == KindMX
	}
	return false
}

// Upstream is what is known of one step of the route.
type Upstream struct {
	ID            mail.UpstreamID
	Kind          Kind
	ProviderSigns bool     // it signs for the tenant's domain, so we do not
	Senders       []string // connections: addresses and *@domain that the account may send as
	Problem       string   // a sentence why it cannot be used now; empty: it works
}

// signs reports whether the upstream signs for the tenant's domain itself.
func (u *Upstream) signs() bool { return u.ProviderSigns || u.Kind == KindProvider }

// ours reports whether it is for us to sign mail that goes by method m.
func (u *Upstream) ours(m mail.Method) bool {
	return m != mail.MethodConnection && !(m == mail.MethodDomain && u.signs())
}

// LikelySigned guesses, before anything is known of a message, whether it is for us
// to sign mail by a route: at the first way that works, by the first method that is
// possible there.
func LikelySigned(route []Upstream, methods []mail.Method) bool {
	for i := range route {
		u := &route[i]
		for _, m := range methods {
			if u.Problem == "" && u.Kind.possible(m) {
				return u.ours(m)
			}
		}
	}
	return false
}

// Domain is what is known of a domain of the tenant or the platform.
type Domain struct {
	Name       string          // empty: there is none for this From
	Active     bool            // proved once, or an admin said so
	KeySeen    bool            // at least one of its DKIM keys stands in the DNS
	KeyUnknown bool            // the DNS could not say, and has not said so lately
	Found      string          // what stands there: a sentence
	Missed     *tenant.DKIMKey // whose TXT record is not there; nil: none, or it could not be read
	ReturnPath string          // host of the return path
	PathOK     bool            // its records are in order
	PathDetail string          // a sentence, if not
}

// Input is all that a choice depends on.
type Input struct {
	From            mail.Address
	Methods         []mail.Method // the tenant's, in order; method address is used only if it stands there
	Asked           mail.Method   // the client or a policy wants just this one of them; empty: any
	AllowFromChange bool
	NullSender      bool // the envelope sender is null and stays so: SPF aligns with nothing
	IdentityClaimed bool // an identity of the tenant covers From
	IdentityOK      bool // and it is verified, or its domain is proved
	Domain          Domain
	Sending         Domain        // the platform's sending domain
	SendingPolicy   tenant.Policy // its DMARC policy
	DMARC           tenant.DMARC  // of From; PolicyUnknown: could not be looked up
	DMARCDetail     string        // why not
	Freemail        bool          // From is at a provider of free mailboxes
	AddressLeft     int           // what method address may still send today; Hold does not ask
	Route           []Upstream
}

// Result is what may be done.
type Result struct {
	Wishes    []mail.Wish // upstreams where a method holds, with all that do, best first
	Choices   []mail.Choice
	Sign      bool           // it is for us to sign by what is chosen
	Alignment mail.Alignment // expected for the first wish
	Err       *mail.Failure  // nothing holds: what is missing
}

// Choose looks at each upstream of the route in turn. Of each upstream, those
// methods of the tenant that hold there become a wish, in the tenant's order;
// the first of the first wish is what is chosen. When there is none, Err says
// what is missing: 451 if that may be a passing trouble, else 550.
func Choose(in *Input) Result {
	r := Result{Choices: make([]mail.Choice, 0, len(in.Route)*len(in.Methods))}
	var space [8]obstacle // for most
	obstacles := space[:0]
	for i := range in.Route {
		u := &in.Route[i]
		w := mail.Wish{Upstream: u.ID}
		for _, m := range in.Methods {
			v := judge(in, u, m, isFallback(in, m))
			if v.holds {
				if w.Methods == nil {
					w.Methods = make([]mail.Method, 0, len(in.Methods))
				}
				w.Methods = append(w.Methods, m)
			} else {
				obstacles = append(obstacles, obstacle{u, m, v})
			}
			first := v.holds && len(r.Wishes) == 0 && len(w.Methods) == 1
			r.Choices = append(r.Choices, mail.Choice{Upstream: u.ID, Method: m, Holds: v.holds, Chosen: first, Why: v.why})
			if first {
				r.Sign, r.Alignment = u.ours(m), alignment(in, u, m)
			}
		}
		if len(w.Methods) > 0 {
			r.Wishes = append(r.Wishes, w)
		}
	}
	if len(r.Wishes) == 0 {
		r.Err = refuse(in, obstacles)
	}
	return r
}

// isFallback reports whether m is not what the tenant, or the client, wants
// most.
func isFallback(in *Input, m mail.Method) bool {
	return in.Asked != m && len(in.Methods) > 0 && in.Methods[0] != m
}

// Held is a method chosen for one attempt.
type Held struct {
	Method    mail.Method
	Sign      bool // we sign for the domain of the method; else the provider does
	OwnPath   bool // the return path is at the tenant's domain; else the platform's or the account's
	Why       string
	Alignment mail.Alignment
}

// Hold resolves one wish of Choose again, with the facts of now: the first of
// its methods that still holds. The failure, when none does, is of the route
// and temporary, so that the next wish is tried, or this one later. Facts must
// have the wish's upstream in their Route.
func Hold(in *Input, w mail.Wish) (Held, *mail.Failure) {
	i := slices.IndexFunc(in.Route, func(u Upstream) bool { return u.ID == w.Upstream })
	if i < 0 {
		return Held{}, mail.Fail(451, mail.Enhanced{4, 3, 5}, mail.OfRoute, mail.ReasonUpstreamAbsent,
			"the way out %s is not there any more; put it back or send the message again", w.Upstream)
	}
	u := &in.Route[i]
	asked := *in
	asked.Asked = ""      // was heeded when the wish was made
	asked.AddressLeft = 1 // was counted then: a message must not meet the cap that it filled itself
	var space [8]obstacle // for most
	obstacles := space[:0]
	for _, m := range w.Methods {
		v := verdict{why: "the tenant does not use it any more"}
		if slices.Contains(in.Methods, m) {
			v = judge(&asked, u, m, m != w.Methods[0])
		}
		if !v.holds {
			obstacles = append(obstacles, obstacle{u, m, v})
			continue
		}
		return Held{
			Method:    m,
			Sign:      u.ours(m),
			OwnPath:   m == mail.MethodDomain && u.Kind != KindProvider && in.Domain.PathOK,
			Why:       v.why,
			Alignment: alignment(in, u, m),
		}, nil
	}
	f := refuse(in, obstacles)
	f.Code, f.Enhanced, f.Scope = 451, mail.Enhanced{4, 7, 1}, mail.OfRoute
	return Held{}, f
}
