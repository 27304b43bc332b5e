package method

import (
	"slices"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/tenant"
)

var allMethods = []mail.Method{mail.MethodDomain, mail.MethodConnection, mail.MethodAddress, mail.MethodName}

// holds is the oracle: contract section 1 said again, as one formula a method.
func holds(in *Input, u *Upstream, m mail.Method, first mail.Method) bool {
	if u.Problem != "" || in.Asked != "" && in.Asked != m {
		return false
	}
	own := map[Kind]string{KindMX: "domain address name", KindAccount: "connection", KindAny: "connection domain", KindProvider: "domain"}
	if !strings.Contains(own[u.Kind], string(m)) {
		return false
	}
	account := false
	for _, s := range u.Senders {
		account = account || s == in.From.String() || s == "*@"+in.From.Domain
	}
	switch m {
	case mail.MethodDomain:
		same := in.Domain.Name == in.From.Domain
		relaxed := in.DMARC.ADKIM != tenant.Strict && (in.DMARC.Org == "" || in.DMARC.Org == in.Domain.Name)
		key := in.Domain.KeySeen
		if u.ProviderSigns || u.Kind == KindProvider {
			key = in.Domain.Active
		}
		return in.Domain.Name != "" && (same || relaxed) && key && (account || u.Kind != KindAny && len(u.Senders) == 0)
	case mail.MethodConnection:
		return account
	case mail.MethodAddress:
		open := in.DMARC.Policy == tenant.PolicyNone || in.DMARC.Policy == tenant.PolicyAbsent
		return in.IdentityOK && !in.Freemail && open && in.AddressLeft > 0
	}
	content := in.SendingPolicy == tenant.PolicyAbsent || in.SendingPolicy == tenant.PolicyNone
	passes := in.Sending.KeySeen || content && in.Sending.PathOK && !in.NullSender
	if u.ProviderSigns {
		passes = in.Sending.KeySeen || in.Sending.PathOK || content || in.SendingPolicy == tenant.PolicyUnknown
	}
	return (in.IdentityOK || !in.IdentityClaimed) && (in.AllowFromChange || in.Asked == m || first == m) && passes
}

// cross calls fn with every combination of facts for an order of methods.
func cross(methods []mail.Method, fn func(in *Input)) {
	bools := []bool{false, true}
	from := mail.Address{Local: "a", Domain: "acme.example"}
	for _, asked := range []mail.Method{"", mail.MethodName, mail.MethodDomain} {
		for bits := range 1 << 8 {
			bit := func(i int) bool { return bits>>i&1 == 1 }
			if bit(2) && !bit(1) {
				continue // no identity that could be good
			}
			for _, policy := range []tenant.Policy{tenant.PolicyUnknown, tenant.PolicyAbsent, tenant.PolicyNone, tenant.PolicyQuarantine, tenant.PolicyReject} {
				for _, d := range []string{"", "acme.example", "example"} {
					for _, strict := range bools {
						// Facts that no method of this order looks at stay as they are.
						if !slices.Contains(methods, mail.MethodAddress) && (bit(3) || !bit(4) || policy == tenant.PolicyNone || policy == tenant.PolicyQuarantine) {
							continue
						}
						if methods[0] == mail.MethodAddress && (d != "" || strict || bits>>5 != 0) {
							continue
						}
						if asked != "" && (policy == tenant.PolicyNone || policy == tenant.PolicyQuarantine) {
							continue
						}
						in := &Input{From: from, Methods: methods, Asked: asked, AllowFromChange: bit(0), IdentityClaimed: bit(1),
							IdentityOK: bit(1) && bit(2), Freemail: bit(3), AddressLeft: map[bool]int{true: 5}[bit(4)],
							Domain:  Domain{Name: d, KeySeen: bit(5), Active: bit(6), KeyUnknown: !bit(5) && bit(7), PathOK: bit(7)},
							Sending: Domain{Name: "send.platform.example", KeySeen: bit(5), PathOK: bit(6)},
							DMARC:   tenant.DMARC{Policy: policy}, SendingPolicy: policy}
						if strict {
							in.NullSender = true
							in.DMARC.ADKIM = tenant.Strict
							in.DMARC.Org = "acme.example"
						}
						fn(in)
					}
				}
			}
		}
	}
}

func TestEveryCombinationAgainstTheContract(t *testing.T) {
	var upstreams []Upstream
	for _, k := range []Kind{KindMX, KindAccount, KindAny, KindProvider} {
		for _, senders := range [][]string{nil, {"a@acme.example"}, {"*@acme.example"}, {"b@acme.example"}} {
			if k == KindMX && senders != nil {
				continue
			}
			upstreams = append(upstreams, Upstream{ID: "u", Kind: k, Senders: senders}, Upstream{ID: "u", Kind: k, Senders: senders, ProviderSigns: true})
		}
		upstreams = append(upstreams, Upstream{ID: "u", Kind: k, Problem: "it is down", Senders: []string{"*@acme.example"}})
	}
	for _, methods := range [][]mail.Method{allMethods, {"domain", "connection", "name"}, {"name", "domain"}, {"address"}, {"connection"}} {
		t.Run(strings.Join(texts(methods), " "), func(t *testing.T) {
			t.Parallel()
			n := 0
			var want []mail.Method
			cross(methods, func(in *Input) {
				for i := range upstreams {
					n++
					u := upstreams[i]
					in.Route = []Upstream{u}
					r := Choose(in)
					want = want[:0]
					for _, m := range in.Methods {
						if holds(in, &u, m, in.Methods[0]) {
							want = append(want, m)
						}
					}
					check(t, in, r, want)
					if t.Failed() {
						t.Fatalf("for %+v", *in)
					}
				}
			})
			t.Logf("%d combinations", n)
		})
	}
}

// check compares a result for a route of one step.
func check(t *testing.T, in *Input, r Result, want []mail.Method) {
	var got []mail.Method
	if len(r.Wishes) > 0 {
		got = r.Wishes[0].Methods
	}
	if !slices.Equal(got, want) {
		t.Errorf("hold %v; want %v", got, want)
		return
	}
	if (r.Err == nil) != (len(want) > 0) || len(r.Choices) != len(in.Methods) {
		t.Errorf("error %v, %d choices", r.Err, len(r.Choices))
		return
	}
	chosen := 0
	for _, c := range r.Choices {
		if c.Why == "" {
			t.Errorf("no reason: %+v", c)
		}
		if c.Chosen {
			chosen++
			if c.Method != want[0] || !c.Holds {
				t.Errorf("chosen %+v; want %s", c, want[0])
			}
		}
	}
	if len(want) == 0 {
		if r.Err.Code != 550 && r.Err.Code != 451 || r.Err.Enhanced[0] != r.Err.Code/100 || r.Err.Reason != mail.ReasonUnauthentic {
			t.Errorf("failure %+v", r.Err)
		}
		return
	}
	if chosen != 1 || r.Alignment.From == "" || r.Alignment.DMARC == "" {
		t.Errorf("%d chosen, alignment %+v", chosen, r.Alignment)
	}
	held, f := Hold(in, r.Wishes[0])
	if f != nil || held.Method != want[0] || held.Sign != r.Sign || held.Alignment != r.Alignment {
		t.Errorf("held %+v, %v; want %s with the same facts", held, f, want[0])
	}
	if held.Method == mail.MethodConnection && held.Sign || held.OwnPath && held.Method != mail.MethodDomain {
		t.Errorf("held %+v", held)
	}
}

func texts(ms []mail.Method) (s []string) {
	for _, m := range ms {
		s = append(s, string(m))
	}
	return s
}

func good() *Input {
	return &Input{
		From: mail.Address{Local: "support", Domain: "acme.example"}, Methods: []mail.Method{"domain", "connection", "name"},
		IdentityClaimed: true, IdentityOK: true,
		Domain:  Domain{Name: "acme.example", Active: true, KeySeen: true, ReturnPath: "bounce.acme.example", PathOK: true},
		Sending: Domain{Name: "send.platform.example", KeySeen: true, ReturnPath: "bounce.send.platform.example", PathOK: true},
		DMARC:   tenant.DMARC{Policy: tenant.PolicyReject, Domain: "acme.example", Org: "acme.example", Record: "v=DMARC1; p=reject"},
		Route:   []Upstream{{ID: "connection:office", Kind: KindAccount, Senders: []string{"office@acme.example"}}, {ID: "mx"}, {ID: "platform"}},
	}
}

func TestRouteIsTriedInOrderAndTheChoiceExplained(t *testing.T) {
	r := Choose(good())
	if len(r.Wishes) != 2 || r.Wishes[0].Upstream != "mx" || r.Wishes[1].Upstream != "platform" {
		t.Fatalf("wishes %+v", r.Wishes)
	}
	var lines []string
	for _, c := range r.Choices {
		mark := " "
		if c.Chosen {
			mark = "*"
		}
		lines = append(lines, mark+string(c.Upstream)+" "+string(c.Method)+": "+c.Why)
	}
	want := strings.TrimSpace(`
 connection:office domain: method domain is not possible at connection:office
 connection:office connection: the account of connection:office may not send as support@acme.example; list it under senders if it may
 connection:office name: method name is not possible at connection:office
*mx domain: the DNS shows a key of acme.example
 mx connection: method connection is not possible at mx
 mx name: it would change the visible From, which the tenant does not allow (allow_from_change)
 platform domain: the DNS shows a key of acme.example
 platform connection: method connection is not possible at platform
 platform name: it would change the visible From, which the tenant does not allow (allow_from_change)`)
	if got := strings.TrimSpace(strings.Join(lines, "\n")); got != want {
		t.Errorf("choices:\n%s\nwant:\n%s", got, want)
	}
	if a := r.Alignment; a != (mail.Alignment{From: "acme.example", SPF: "pass, aligned (bounce.acme.example)", DKIM: "pass, aligned (d=acme.example)", DMARC: "pass"}) {
		t.Errorf("alignment %+v", a)
	}
}

func TestRefusalNamesTheRecordWhatWasFoundAndWhatIsExpected(t *testing.T) {
	in := good()
	in.Domain.KeySeen = false
	in.Domain.Missed, in.Domain.Found = &tenant.DKIMKey{Selector: "b1", Algorithm: tenant.AlgorithmRSA, Public: "MIIB"}, "no such name"
	r := Choose(in)
	want := "550 5.7.1 cannot send as support@acme.example: the DNS must show a DKIM key at b1._domainkey.acme.example (TXT); found: no such name; expected: v=DKIM1; k=rsa; p=MIIB; see behalf domain records acme.example;" +
		" connection: the account of connection:office may not send as support@acme.example; list it under senders if it may;" +
		" name: it would change the visible From, which the tenant does not allow (allow_from_change)"
	if r.Err == nil || r.Err.Error() != want {
		t.Errorf("got  %v\nwant %s", r.Err, want)
	}
	in.Domain.Missed.Public = strings.Repeat("M", 392)
	if r := Choose(in); !strings.Contains(r.Err.Text, strings.Repeat("M", 82)+"...; see behalf") || strings.ContainsFunc(r.Err.Text, func(c rune) bool { return c > '~' }) {
		t.Errorf("a long key: %q", r.Err.Text)
	}
	in.Domain.KeyUnknown, in.Domain.Found = true, "timeout"
	if r := Choose(in); r.Err == nil || r.Err.Code != 451 {
		t.Errorf("DNS trouble: %v; want 451", r.Err)
	}
	for name, change := range map[string]func(*Input){
		"the route is empty":         func(in *Input) { in.Route = nil },
		"the tenant has no methods":  func(in *Input) { in.Methods = nil },
		"method address was asked":   func(in *Input) { in.Asked = mail.MethodAddress },
		"has no upstream where one":  func(in *Input) { in.Methods = []mail.Method{"connection"}; in.Route = in.Route[1:] },
		"asks receivers to reject":   func(in *Input) { in.Methods = []mail.Method{"address"} },
		"claimed but not verified":   func(in *Input) { in.Methods = []mail.Method{"name"}; in.IdentityOK = false },
		"strict alignment (adkim=s)": func(in *Input) { in.From.Domain = "eu.acme.example"; in.DMARC.ADKIM = tenant.Strict },
		"different organizations":    func(in *Input) { in.From.Domain = "eu.acme.example"; in.DMARC.Org = "eu.acme.example" },
	} {
		in := good()
		change(in)
		if r := Choose(in); r.Err == nil || !strings.Contains(r.Err.Text, name) || r.Err.Code != 550 {
			t.Errorf("%v; want 550 with %q", r.Err, name)
		}
	}
}

func TestWishIsResolvedAgainAtEachAttempt(t *testing.T) {
	in := good()
	in.AllowFromChange = true
	w := Choose(in).Wishes[0]
	if len(w.Methods) != 2 {
		t.Fatalf("wish %+v; want domain and name", w)
	}
	h, _ := Hold(in, w)
	if h.Method != mail.MethodDomain || !h.Sign || !h.OwnPath {
		t.Errorf("%+v; want domain, signed, own return path", h)
	}
	in.Domain.PathOK, in.Domain.PathDetail = false, "bounce.acme.example has no MX"
	if h, _ = Hold(in, w); h.Method != mail.MethodDomain || h.OwnPath || !strings.Contains(h.Why, "no MX") {
		t.Errorf("%+v; a broken return path must not change the From", h)
	}
	in.Domain.KeySeen, in.Domain.Missed = false, &tenant.DKIMKey{Selector: "b1"}
	if h, _ = Hold(in, w); h.Method != mail.MethodName {
		t.Errorf("%+v; want name once the key is gone", h)
	}
	in.AllowFromChange = false
	if _, f := Hold(in, w); f == nil || f.Scope != mail.OfRoute || !f.Temporary() || !strings.Contains(f.Text, "b1._domainkey") {
		t.Errorf("%+v; want a temporary failure of the route", f)
	}
	in.Methods = []mail.Method{mail.MethodConnection}
	if _, f := Hold(in, w); f == nil || !strings.Contains(f.Text, "any more") {
		t.Errorf("%+v; the tenant gave the methods up", f)
	}
	in.Route = nil
	if _, f := Hold(in, w); f == nil || f.Reason != mail.ReasonUpstreamAbsent || f.Scope != mail.OfRoute {
		t.Errorf("%+v; want upstream-missing", f)
	}
}

// TestNameOnlyWhereItPasses: mail from the platform's sending domain is signed,
// or passes by SPF where that is known to do.
func TestNameOnlyWhereItPasses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Input)
		code   int // 0: holds
		says   string
	}{
		"signed, null sender":      {func(in *Input) { in.NullSender = true }, 0, ""},
		"signed, policy unknown":   {func(in *Input) { in.SendingPolicy = tenant.PolicyUnknown }, 0, ""},
		"no key, SPF, no DMARC":    {func(in *Input) { in.Sending.KeySeen = false }, 0, ""},
		"no key, SPF, enforced":    {func(in *Input) { in.Sending.KeySeen, in.SendingPolicy = false, tenant.PolicyReject }, 550, "b1._domainkey.send.platform.example: no such name"},
		"no key, null sender":      {func(in *Input) { in.Sending.KeySeen, in.NullSender = false, true }, 550, "no such name"},
		"no key, no return path":   {func(in *Input) { in.Sending.KeySeen, in.Sending.PathOK = false, false }, 550, "no such name"},
		"no key, policy unknown":   {func(in *Input) { in.Sending.KeySeen, in.SendingPolicy = false, tenant.PolicyUnknown }, 451, "DMARC policy"},
		"key unknown, null sender": {func(in *Input) { in.Sending.KeySeen, in.Sending.KeyUnknown, in.NullSender = false, true, true }, 451, "looked up"},
		"key unknown, enforced": {func(in *Input) {
			in.Sending.KeySeen, in.Sending.KeyUnknown, in.SendingPolicy = false, true, tenant.PolicyReject
		}, 451, "looked up"},
		"no key, null sender, host signs": {func(in *Input) { in.Sending.KeySeen, in.NullSender, in.Route[0].ProviderSigns = false, true, true }, 0, ""},
		"no key, no path, enforced, signs": {func(in *Input) {
			in.Sending, in.SendingPolicy, in.Route[0].ProviderSigns = Domain{Name: "x.example"}, tenant.PolicyReject, true
		}, 550, "x.example"},
	} {
		in := good()
		in.Methods, in.Route, in.SendingPolicy = []mail.Method{"name"}, []Upstream{{ID: "platform"}}, tenant.PolicyAbsent
		in.Sending.Missed, in.Sending.Found = &tenant.DKIMKey{Selector: "b1"}, "no such name"
		tt.change(in)
		r := Choose(in)
		if tt.code == 0 {
			if r.Err != nil {
				t.Errorf("%s: %v", name, r.Err)
			}
			continue
		}
		if r.Err == nil || r.Err.Code != tt.code || !strings.Contains(r.Err.Text, tt.says) {
			t.Errorf("%s: %v; want %d with %q", name, r.Err, tt.code, tt.says)
		}
	}
}

// TestCapIsAskedOnce: the last message that the cap lets in must not meet it
// again at its attempts.
func TestCapIsAskedOnce(t *testing.T) {
	in := good()
	in.Methods, in.DMARC.Policy, in.AddressLeft = []mail.Method{"address"}, tenant.PolicyNone, 1
	w := Choose(in).Wishes[0]
	in.AddressLeft = 0
	if r := Choose(in); r.Err == nil || r.Err.Code != 451 {
		t.Errorf("over the cap: %v", r.Err)
	}
	if h, f := Hold(in, w); f != nil || h.Method != mail.MethodAddress {
		t.Errorf("%+v, %v; want address", h, f)
	}
}

func TestWhoSigns(t *testing.T) {
	for _, tt := range []struct {
		u          Upstream
		want       mail.Method
		sign, path bool
	}{
		{Upstream{ID: "mx"}, mail.MethodDomain, true, true},
		{Upstream{ID: "platform", ProviderSigns: true}, mail.MethodDomain, false, true},
		{Upstream{ID: "c", Kind: KindAny, Senders: []string{"*@acme.example"}}, mail.MethodDomain, true, true},
		{Upstream{ID: "c", Kind: KindAny, ProviderSigns: true, Senders: []string{"*@acme.example"}}, mail.MethodDomain, false, true},
		{Upstream{ID: "c", Kind: KindAccount, Senders: []string{"Support@acme.example"}}, mail.MethodConnection, false, false},
		{Upstream{ID: "c", Kind: KindProvider}, mail.MethodDomain, false, false},
	} {
		in := good()
		in.Route = []Upstream{tt.u}
		r := Choose(in)
		if r.Err != nil {
			t.Errorf("%+v: %v", tt.u, r.Err)
			continue
		}
		h, f := Hold(in, r.Wishes[0])
		if f != nil || h.Method != tt.want || h.Sign != tt.sign || h.OwnPath != tt.path {
			t.Errorf("%+v: %+v, %v", tt.u, h, f)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	in := good()
	b.ReportAllocs()
	for b.Loop() {
		Choose(in)
	}
}
