// Package method decides how a message is made authentic: which of the four
// methods holds for a From, here and now, at each way out, and why the others
// do not. It is pure: callers gather the facts.
package method

import (
	"behalf/mail"
	"behalf/tenant"
)

// Kind is what sort of way out an upstream is; methods depend on it.
type Kind uint8

// The kinds.
const (
	KindMX       Kind = iota // direct, also local delivery and the platform's smart host: what we send is as we made it
	KindAccount              // smtp with envelope: account, gmail, graph
	KindAny                  // smtp with envelope: any
	KindProvider             // ses, mandrill
)

// Upstream is what is known of one step of the route.
type Upstream struct {
	ID            mail.UpstreamID
	Kind          Kind
	ProviderSigns bool     // KindAny with signs: provider
	Senders       []string // connections: addresses and *@domain that the account may send as
	Problem       string   // a sentence why it cannot be used now; empty: it works
}

// Domain is what is known of the tenant's domain for a From.
type Domain struct {
	Name       string // empty: the tenant has none for it
	Active     bool   // proved once, or an admin said so
	KeySeen    bool   // at least one of its DKIM keys stands in the DNS
	KeyUnknown bool   // the DNS could not say (and never said before)
	Found      string // what stands there: a sentence
	Record     string // name of the record that is missed, e.g. b1._domainkey.acme.example
	Expected   string // the value it should have
	ReturnPath string // host of the return path
	PathOK     bool   // its records are in order
	PathDetail string // a sentence, if not
}

// Input is all that a choice depends on.
type Input struct {
	From            mail.Address
	Methods         []mail.Method // the tenant's, in order
	Asked           mail.Method   // the client or a policy wants just this one; empty: any
	AllowFromChange bool
	IdentityClaimed bool // an identity of the tenant covers From
	IdentityOK      bool // and it is verified, or its domain is authenticated
	Domain          Domain
	Sending         Domain        // the platform's sending domain
	SendingPolicy   tenant.Policy // its DMARC policy
	DMARC           tenant.DMARC  // of From; PolicyUnknown: could not be looked up
	DMARCDetail     string        // why not
	Freemail        bool
	AddressLeft     int // what method address may still send today
	Route           []Upstream
}

// Result is what may be done.
type Result struct {
	Wishes    []mail.Wish // upstreams where a method holds, with those that do, best first
	Choices   []mail.Choice
	Alignment mail.Alignment // expected for the first wish
	Err       *mail.Failure  // nothing holds: what is missing
}

// Choose looks at each upstream of the route in turn.
func Choose(in *Input) Result { return Result{} }

// Held is a method chosen for one attempt.
type Held struct {
	Method    mail.Method
	Sign      bool // we sign (for the domain of the method)
	OwnPath   bool // the return path is the tenant's; else the platform's
	Why       string
	Alignment mail.Alignment
}

// Hold resolves one wish again, with the facts of now.
func Hold(in *Input, w mail.Wish) (Held, *mail.Failure) { return Held{}, nil }
