package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"time"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/authres"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/publicsuffix"
)

// judge concludes what a receiver concludes, from the example's DNS.
type judge struct{ resolver *net.Resolver }

func newJudge(dns string) *judge {
	return &judge{&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, dns)
	}}}
}

// judge tells in a few lines how authentic a message is.
func (j *judge) judge(data []byte, client net.IP, helo, mailFrom string, to []string, over string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	txt := func(name string) ([]string, error) { return j.resolver.LookupTXT(ctx, name) }
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "    %-10s %s\n", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s  the receiver got mail for %s from %s [%s], %s\n", time.Now().Format(time.TimeOnly), strings.Join(to, ", "), helo, client, over)
	line("MAIL FROM", "<%s>", mailFrom)
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		line("broken", "%v", err)
		return b.String()
	}
	for _, name := range []string{"From", "Sender", "Reply-To", "Subject"} {
		if v := m.Header.Get(name); v != "" {
			line(name, "%s", v)
		}
	}
	from := fromDomain(m.Header)
	var aligned []string
	signatures, err := dkim.VerifyWithOptions(bytes.NewReader(data), &dkim.VerifyOptions{LookupTXT: txt})
	if err != nil {
		line("DKIM", "%v", err)
	}
	fields := signatureTags(m.Header["Dkim-Signature"])
	for i, v := range signatures {
		result := authres.ResultPass
		if v.Err != nil {
			result = authres.ResultFail
		} else if organization(v.Domain) == organization(from) {
			aligned = append(aligned, "DKIM")
		}
		detail := "d=" + v.Domain
		if i < len(fields) {
			detail += " s=" + fields[i]["s"] + " a=" + fields[i]["a"]
		}
		line("DKIM", "%s  %s", result, detail)
		if v.Err != nil {
			line("", "%v", v.Err)
		}
	}
	result, _ := spf.CheckHostWithSender(client, helo, mailFrom, spf.WithContext(ctx), spf.WithResolver(j.resolver)) // the error says the same as the result
	_, path, _ := strings.Cut(mailFrom, "@")
	if result == spf.Pass && organization(path) == organization(from) {
		aligned = append(aligned, "SPF")
	}
	line("SPF", "%s  %s", result, path)
	line("DMARC", "%s", dmarcResult(from, aligned, txt))
	return b.String()
}

func dmarcResult(from string, aligned []string, txt func(string) ([]string, error)) string {
	policy := "no policy"
	for _, domain := range []string{from, organization(from)} {
		if r, err := dmarc.LookupWithOptions(domain, &dmarc.LookupOptions{LookupTXT: txt}); err == nil {
			policy = "p=" + string(r.Policy)
			break
		}
	}
	if len(aligned) == 0 {
		return "fail  " + from + ", " + policy
	}
	return "pass  " + from + " is aligned by " + strings.Join(unique(aligned), " and ") + ", " + policy
}

func fromDomain(h mail.Header) string {
	list, err := h.AddressList("From")
	if err != nil || len(list) == 0 {
		return ""
	}
	return strings.ToLower(list[0].Address[strings.LastIndexByte(list[0].Address, '@')+1:])
}

// organization is the domain that was registered; DMARC's relaxed alignment
// compares those.
func organization(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(domain))
	if err != nil {
		return strings.ToLower(domain)
	}
	return org
}

// signatureTags reads tags for display.
func signatureTags(fields []string) []map[string]string {
	var all []map[string]string
	for _, f := range fields {
		tags := map[string]string{}
		for part := range strings.SplitSeq(f, ";") {
			if k, v, ok := strings.Cut(part, "="); ok {
				tags[strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
		}
		all = append(all, tags)
	}
	return all
}

func unique(in []string) []string {
	var out []string
	for i, s := range in {
		if i == 0 || s != in[i-1] {
			out = append(out, s)
		}
	}
	return out
}
