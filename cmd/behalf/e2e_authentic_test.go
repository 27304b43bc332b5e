package main_test

import (
	"fmt"
	"strings"
	"testing"

	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/smtppeer"
)

// more tenants than Tenants has: visit may send as whom its identities name,
// by method address alone; either may fall back on name; named uses only that.
const moreTenants = `---
kind: tenant
name: visit
labels: { plan: enterprise }
methods: [address]
route: [ { upstream: mx } ]
---
kind: tenant
name: either
labels: { plan: enterprise }
methods: [address, name]
allow_from_change: true
route: [ { upstream: mx } ]
---
kind: tenant
name: named
display_name: Named Tickets
labels: { plan: enterprise }
methods: [name]
route: [ { upstream: mx } ]
`

func identities() string {
	var b strings.Builder
	for _, tenant := range []string{"visit", "either"} {
		for _, domain := range []string{"open.test", "strict.test", "wary.test", "none.test"} {
			fmt.Fprintf(&b, "---\nkind: identity\ntenant: %s\naddress: %s@%s\nverified: true\n", tenant, tenant, domain)
		}
	}
	b.WriteString("---\nkind: identity\ntenant: named\naddress: help@strict.test\ndisplay_name: Help\nverified: true\n")
	return b.String()
}

// sendAs submits for a tenant by the platform's credential; an error is the
// refusal.
func sendAs(t testing.TB, r *lab.Relay, tenant, from, subject string, args ...string) (string, error) {
	t.Helper()
	out, err := r.CLIAs(t, lab.PlatformSecret, "Grüße\n.\n..\n \t \nFrom here on\n\n\n", binary(t), append([]string{"send", "--tenant", tenant, "--from", from, "--to", "you@sink.test", "--subject", subject}, args...)...)
	if err != nil {
		return "", err
	}
	return idIn(t, out), nil
}

// verdicts asks all verifiers about a message that the sink took.
func verdicts(t *testing.T, w *lab.World, m smtppeer.Message) (dkimpy, mailauth, maildkim *lab.Verdict) {
	t.Helper()
	a := lab.Arrival{Data: m.Data, MailFrom: m.From, Client: "127.0.0.1", Helo: "relay.platform.test"}
	return lab.Dkimpy(t, w.DNS.Addr, a), lab.Mailauth(t, w.DNS.Addr, a), lab.MailDKIM(t, w.DNS.Addr, a)
}

// authentic checks what three verifiers must conclude: both signatures of the
// From domain pass, and SPF passes for a return path aligned with it.
func authentic(t *testing.T, w *lab.World, m smtppeer.Message, domain, returnPath string) {
	t.Helper()
	dkimpy, mailauth, maildkim := verdicts(t, w, m)
	for _, v := range []*lab.Verdict{dkimpy, mailauth, maildkim} {
		if !v.Passed(domain, "rsa-sha256") {
			t.Errorf("%s: the RSA signature of %s does not pass: %+v", v.By, domain, v.DKIM)
		}
		if v != maildkim && !v.Passed(domain, "ed25519-sha256") {
			t.Errorf("%s: the Ed25519 signature of %s does not pass: %+v", v.By, domain, v.DKIM)
		}
		for _, s := range v.DKIM {
			if !s.Pass && (v != maildkim || s.Algorithm == "rsa-sha256") {
				t.Errorf("%s: a signature fails: %+v", v.By, s)
			}
		}
		if v != maildkim && (v.SPF != "pass" || v.SPFDomain != returnPath) {
			t.Errorf("%s: SPF is %s for %s, want pass for %s", v.By, v.SPF, v.SPFDomain, returnPath)
		}
	}
	if mailauth.DMARC != "pass" || !mailauth.DMARCDKIM || !mailauth.DMARCSPF {
		t.Errorf("mailauth: DMARC is %s, aligned by DKIM %v, by SPF %v", mailauth.DMARC, mailauth.DMARCDKIM, mailauth.DMARCSPF)
	}
	if t.Failed() {
		t.Log(m.Data)
	}
}

func TestE2EAuthentic(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: w.Tenants("[ { upstream: mx } ]") + moreTenants + identities()})

	t.Run("domain", func(t *testing.T) {
		for name, v := range map[string]struct{ subject, from string }{
			"plain": {"plain", "support@acme.test"}, "display name": {"Grüße aus Köln", "Acme Süpport <support@acme.test>"}, "folded": {strings.Repeat("long subject ", 40), "support@acme.test"},
		} {
			id, err := sendAs(t, r, "acme", v.from, v.subject, "--header", "X-Case: "+name)
			if err != nil {
				t.Fatal(err)
			}
			r.Reaches(t, id, "delivered", soon)
			authentic(t, w, lab.Arrived(t, w.Sink, "X-Case: "+name), "acme.test", "bounce.acme.test")
		}
	})
	t.Run("domain, submitted as bytes", func(t *testing.T) {
		raw := strings.ReplaceAll("From: support@acme.test\nTo: you@sink.test\nSubject: odd  bytes\nX-Odd:\n \t folded \t\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße \t \n\n.dot\n\n\n\n", "\n", "\r\n")
		r.Reaches(t, sendmail(t, r, raw, "-t", "-i"), "delivered", soon)
		authentic(t, w, lab.Arrived(t, w.Sink, "Subject: odd  bytes"), "acme.test", "bounce.acme.test")
	})
	t.Run("name", func(t *testing.T) {
		id, err := sendAs(t, r, "named", "Help Desk <help@strict.test>", "by name")
		if err != nil {
			t.Fatal(err)
		}
		r.Reaches(t, id, "delivered", soon)
		got := lab.Arrived(t, w.Sink, "Subject: by name")
		from, replyTo := field(got.Data, "From"), field(got.Data, "Reply-To")
		if !strings.HasSuffix(from, "@send.platform.test>") || !strings.Contains(from, " via Platform") || strings.Count(from, "@") != 1 {
			t.Errorf("From: %s", from)
		}
		if !strings.Contains(replyTo, "help@strict.test") {
			t.Errorf("Reply-To: %s", replyTo)
		}
		authentic(t, w, got, "send.platform.test", "bounce.send.platform.test")
	})
	t.Run("address", func(t *testing.T) {
		for _, domain := range []string{"open.test", "none.test"} { // p=none, and no record at all
			id, err := sendAs(t, r, "visit", "visit@"+domain, "by address at "+domain)
			if err != nil {
				t.Fatal(err)
			}
			r.Reaches(t, id, "delivered", soon)
			got := lab.Arrived(t, w.Sink, "Subject: by address at "+domain)
			if from := field(got.Data, "From"); !strings.Contains(from, "visit@"+domain) {
				t.Errorf("From: %s", from)
			}
			if sender := field(got.Data, "Sender"); !strings.HasSuffix(strings.Trim(sender, "<>"), "@send.platform.test") {
				t.Errorf("Sender: %s", sender)
			}
			dkimpy, _, maildkim := verdicts(t, w, got)
			if !dkimpy.Passed("send.platform.test", "ed25519-sha256") || !maildkim.Passed("send.platform.test", "rsa-sha256") || dkimpy.SPF != "pass" {
				t.Errorf("not authentic as the platform: %+v %+v", dkimpy, maildkim)
			}
		}
	})
	t.Run("address is refused where DMARC is enforced", func(t *testing.T) {
		for _, domain := range []string{"strict.test", "wary.test"} {
			_, err := sendAs(t, r, "visit", "visit@"+domain, "must not leave")
			if err == nil {
				t.Errorf("mail from %s was taken", domain)
				continue
			}
			for _, want := range []string{"_dmarc." + domain, "DMARC"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal does not name %s: %v", want, err)
				}
			}
		}
	})
	t.Run("address falls back on name where DMARC is enforced", func(t *testing.T) {
		id, err := sendAs(t, r, "either", "either@strict.test", "downgraded")
		if err != nil {
			t.Fatal(err)
		}
		r.Reaches(t, id, "delivered", soon)
		authentic(t, w, lab.Arrived(t, w.Sink, "Subject: downgraded"), "send.platform.test", "bounce.send.platform.test")
	})
	if n := lab.Count(w.Sink, "must not leave"); n > 0 {
		t.Errorf("%d messages left that were refused", n)
	}
}

// Without its key in the DNS a domain signs nothing, and the refusal names the
// record.
func TestE2EDomainWithoutItsKey(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	resources := strings.Replace(w.Tenants("[ { upstream: mx } ]"), "[domain, connection, name]", "[domain]", 1)
	resources = strings.NewReplacer("selector: b1", "selector: nowhere", "selector: b2", "selector: nowhere2").Replace(resources)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: resources})
	_, err := sendAs(t, r, "acme", "support@acme.test", "unsigned")
	if err == nil || !strings.Contains(err.Error(), "._domainkey.acme.test") || !strings.Contains(err.Error(), "at nowhere") || !strings.Contains(err.Error(), "expected: v=DKIM1") {
		t.Errorf("want a refusal that names a record and its value, got %v", err)
	}
}

// field is the unfolded value of the first header field with a name.
func field(msg, name string) string {
	head, _, _ := strings.Cut(strings.ReplaceAll(msg, "\r\n", "\n"), "\n\n")
	head = strings.NewReplacer("\n ", " ", "\n\t", " ").Replace(head)
	for line := range strings.Lines(head) {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// A hop that cannot carry the content as it is gets it encoded, and the
// signatures are of what it gets.
func TestE2EAuthenticAfterEncoding(t *testing.T) {
	t.Parallel()
	var old *smtppeer.Peer
	w := lab.NewWorld(t, func(w *lab.World) string {
		old = w.NewSink(t, smtppeer.Options{Ext: []string{"PIPELINING", "SIZE 10485760"}})
		return lab.MX("old.test", "mx.old.test", old.Host())
	}, nil)
	r := start(t, w, "")
	c := login(t, r)
	long := strings.Repeat("A line that nobody would write by hand. ", 50)
	for name, v := range map[string]struct{ head, body string }{
		"eight bits":     {"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", "Grüße aus Köln\r\n"},
		"long lines":     {"Content-Type: text/html; charset=us-ascii\r\n", "<p>" + long + "</p>\r\n"},
		"in a multipart": {"Content-Type: multipart/alternative; boundary=b\r\n", "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>Grüße " + long + "</p>\r\n--b--\r\n"},
	} {
		if err := c.Mail(acmeFrom); err != nil {
			t.Fatal(err)
		}
		if err := c.Rcpt("you@old.test"); err != nil {
			t.Fatal(err)
		}
		d, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(d, "From: %s\r\nTo: you@old.test\r\nSubject: %s\r\nMIME-Version: 1.0\r\n%s\r\n%s", acmeFrom, name, v.head, v.body)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		got := lab.Arrived(t, old, "Subject: "+name)
		for line := range strings.Lines(got.Data) {
			if len(line) > 1000 || strings.ContainsFunc(line, func(r rune) bool { return r > 126 }) {
				t.Errorf("%s: the hop cannot carry the line %.80q", name, line)
			}
		}
		authentic(t, w, got, "acme.test", "bounce.acme.test")
	}
}

// Broadcast mail can be left by one click, and the signatures say that the
// platform offers it.
func TestE2EBroadcast(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	r := start(t, w, "")
	id := send(t, r, "you@sink.test", "news of the month", "--stream", "broadcast")
	r.Reaches(t, id, "delivered", soon)
	got := lab.Arrived(t, w.Sink, "Subject: news of the month")
	if post := field(got.Data, "List-Unsubscribe-Post"); post != "List-Unsubscribe=One-Click" {
		t.Errorf("List-Unsubscribe-Post: %q", post)
	}
	link := strings.Trim(field(got.Data, "List-Unsubscribe"), "<>")
	_, path, ok := strings.Cut(link, "http://relay.platform.test")
	if !ok || !strings.HasPrefix(path, "/u/") {
		t.Fatalf("List-Unsubscribe: %s", link)
	}
	authentic(t, w, got, "acme.test", "bounce.acme.test")
	if signed := strings.ToLower(field(got.Data, "DKIM-Signature")); !strings.Contains(signed, "list-unsubscribe:list-unsubscribe-post") {
		t.Errorf("the signature does not cover the pair: %s", signed)
	}
	// The click counts at once, for this stream only.
	lab.MustRun(t, "", lab.Program(t, "curl"), "-sS", "--fail-with-body", "-d", "List-Unsubscribe=One-Click", r.HTTP+path)
	out, err := r.CLIAs(t, lab.AcmeSecret, "", binary(t), "send", "--from", acmeFrom, "--to", "you@sink.test", "--subject", "more news", "--text", "x", "--stream", "broadcast")
	if err == nil {
		r.Reaches(t, idIn(t, out), "suppressed", soon)
	}
	r.Reaches(t, send(t, r, "you@sink.test", "your password"), "delivered", soon)
	if lab.Count(w.Sink, "Subject: more news") > 0 {
		t.Error("who left the list got more news")
	}
}
