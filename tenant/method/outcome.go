package method

import (
	"fmt"
	"slices"
	"strings"

	"behalf/mail"
	"behalf/tenant"
)

// obstacle is a method that does not hold somewhere.
type obstacle struct {
	upstream *Upstream
	method   mail.Method
	verdict  verdict
}

const maxExpected = 100 // octets of a record's value in an error; an Ed25519 key fits

// refuse says why nothing holds. A missing DNS record is what the tenant can
// mend, so it is named first, with what was found and what is expected.
func refuse(in *Input, obstacles []obstacle) *mail.Failure {
	code, enhanced := 550, mail.Enhanced{5, 7, 1}
	var reasons []string
	missing := false
	for _, o := range obstacles {
		if o.verdict.temporary {
			code, enhanced = 451, mail.Enhanced{4, 7, 1}
		}
		missing = missing || o.verdict.missing
		if !o.upstream.Kind.possible(o.method) || in.Asked != "" && in.Asked != o.method {
			continue // says nothing about this message
		}
		s := string(o.method) + ": " + o.verdict.why
		if !slices.Contains(reasons, s) {
			reasons = append(reasons, s)
		}
	}
	text := "no way to send as " + in.From.String() + " authentically"
	switch {
	case missing:
		d := &in.Domain
		text = fmt.Sprintf("cannot send as %s: the DNS must show a DKIM key at %s (TXT); found: %s; expected: %s; see behalf domain records %s",
			in.From, d.record(), d.Found, cut(d.expected()), d.Name)
		reasons = without(reasons, d)
	case len(in.Route) == 0:
		text += ": the route is empty"
	case len(in.Methods) == 0:
		text += ": the tenant has no methods"
	case len(reasons) == 0 && in.Asked != "":
		text += fmt.Sprintf(": method %s was asked for, which the tenant does not use or its route cannot do", in.Asked)
	case len(reasons) == 0:
		text += ": the route has no upstream where one of the tenant's methods is possible"
	}
	if len(reasons) > 0 {
		text += "; " + strings.Join(reasons, "; ")
	}
	return mail.Fail(code, enhanced, mail.OfMessage, mail.ReasonUnauthentic, "%s", text)
}

// without drops the reason that is told in full already.
func without(reasons []string, missing *Domain) []string {
	told := noKey(missing).why
	var out []string
	for _, r := range reasons {
		if !strings.HasSuffix(r, told) {
			out = append(out, r)
		}
	}
	return out
}

func cut(s string) string {
	if len(s) > maxExpected {
		return s[:maxExpected] + "..." // ASCII, for SMTP
	}
	return s
}

// alignment is what a receiver will conclude of a message that goes out through
// u by method m.
func alignment(in *Input, u *Upstream, m mail.Method) mail.Alignment {
	from := in.From.Domain
	switch m {
	case mail.MethodDomain:
		return domainAlignment(in, u)
	case mail.MethodConnection:
		return mail.Alignment{From: from, SPF: "the provider's", DKIM: "the provider's", DMARC: "pass expected, as the provider signs for its account"}
	case mail.MethodAddress:
		return mail.Alignment{From: from, SPF: "pass, not aligned", DKIM: "pass, not aligned (d=" + in.Sending.Name + ")",
			DMARC: fmt.Sprintf("fail, and the domain asks for nothing (policy %s)", in.DMARC.Policy)}
	}
	a := mail.Alignment{From: in.Sending.Name, SPF: "none", DKIM: "none", DMARC: "pass"}
	if in.Sending.PathOK && !in.NullSender {
		a.SPF = "pass, aligned (" + in.Sending.ReturnPath + ")"
	}
	if in.Sending.KeySeen {
		a.DKIM = "pass, aligned (d=" + in.Sending.Name + ")"
	}
	if a.SPF == "none" && a.DKIM == "none" { // a smart host that signs may do better
		a.DMARC = "fail, and the sending domain asks for nothing"
	}
	return a
}

func domainAlignment(in *Input, u *Upstream) mail.Alignment {
	d := in.Domain
	a := mail.Alignment{From: in.From.Domain, DKIM: "pass, aligned (d=" + d.Name + ")", DMARC: "pass"}
	switch {
	case u.Kind == KindProvider:
		a.SPF = "the provider's"
	case in.NullSender:
		a.SPF = "not aligned (the null return path)"
	case !d.PathOK:
		a.SPF = "pass, not aligned (the platform's return path)"
	case in.DMARC.ASPF == tenant.Strict:
		a.SPF = "pass, not aligned (" + d.ReturnPath + "; the domain asks for aspf=s)"
	default:
		a.SPF = "pass, aligned (" + d.ReturnPath + ")"
	}
	return a
}
