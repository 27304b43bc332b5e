package relay_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/mail/scan"
	"behalf/relay/relaytest"
	"behalf/spool"
)

// bodyHash is the hash that a signature of text must have.
func bodyHash(t testing.TB, text string) [32]byte {
	t.Helper()
	_, body, ok := strings.Cut(relaytest.CRLF(text), "\r\n\r\n")
	if !ok {
		t.Fatalf("no body in %.100q", text)
	}
	h := scan.NewBodyHasher()
	h.Write([]byte(body))
	return h.Sum()
}

// signedHashes are the bh= of the signatures that a message leaves with.
func signedHashes(r relaytest.Rendered) (list []string) {
	for _, f := range r.Header.All() {
		if f.Name == "DKIM-Signature" {
			_, bh, _ := strings.Cut(strings.Join(strings.Fields(f.Value()), ""), ";bh=")
			bh, _, _ = strings.Cut(bh, ";")
			list = append(list, bh)
		}
	}
	return list
}

// rightly checks that all that signs a message by a wish signs the hash of text.
func rightly(t *testing.T, w *relaytest.World, st *spool.Stored, wish int, text string, signatures int) {
	t.Helper()
	want := bodyHash(t, text)
	got := signedHashes(w.Render(st, wish, 0))
	if len(got) != signatures {
		t.Errorf("wish %d: %d signatures, want %d", wish, len(got), signatures)
	}
	for _, bh := range got {
		if bh != base64.StdEncoding.EncodeToString(want[:]) {
			t.Errorf("wish %d: signed with bh=%s, want %x", wish, bh, want)
		}
	}
}

// TestBodyHash: the hash is made on the way in where a signature is expected, from
// what was kept where one turns out to be needed, and at the attempt where that
// needs one after all. What signs always signs the right one.
func TestBodyHash(t *testing.T) {
	const domainFirst, account = `"methods":["domain","connection"],`, `{"upstream":"mx"},{"connection":"office"}`
	elsewhere := strings.Replace(body, "support@acme.example", "ann@other.example", 1)
	only := strings.Replace(office, `"*@acme.example"`, `"ann@other.example"`, 1) + `}`
	for _, c := range []struct {
		name       string
		tenant     string
		with       string
		header     string
		hashed     bool
		signatures []int // by each wish
	}{
		{"expected and needed", `"route":[{"upstream":"mx"}]`, "", body, true, []int{3}},
		{"neither, by an account", `"route":[{"connection":"office"}]`, office + `}`, body, false, []int{0}},
		{"neither, by a server that signs", `"route":[{"connection":"office"}]`, office + `,"envelope":"any","signs":"provider"}`, body, false, []int{0}},
		{"expected, by a server that takes any envelope", `"route":[{"connection":"office"}]`, office + `,"envelope":"any"}`, body, true, []int{2}},
		{"not expected, but the account may not send as this From", `"route":[{"connection":"office"},{"upstream":"mx"}]`,
			strings.Replace(office, `"senders":["support@acme.example","*@acme.example"]`, `"senders":["other@acme.example"]`, 1) + `}`, body, true, []int{3}},
		{"not expected, but asked for", `"route":[{"connection":"office"}]`, office + `}`, "Behalf-Route: mx\n" + body, true, []int{3}},
		{"expected, but the domain is not the tenant's", domainFirst + `"route":[` + account + `]`, only, elsewhere, true, []int{0}},
		{"not expected, needed by the next wish", `"route":[{"connection":"office"},{"upstream":"mx"}]`, office + `}`, body, false, []int{0, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := acme(t, relaytest.Options{}, c.tenant)
			if c.with != "" {
				w.Apply(c.with)
			}
			for _, text := range []string{c.header, c.header + strings.Repeat("a line  of many \n\n", 80_000) + " \n\n"} {
				st := w.Accepted(w.App(), "app@acme.example", text, "bob@there.example")
				if st.Message.Hashed() != c.hashed || c.hashed && st.Message.BodyHash != bodyHash(t, text) {
					t.Errorf("%d octets: stored hash %x; want one: %v", len(text), st.Message.BodyHash, c.hashed)
				}
				if len(st.Message.Wishes) != len(c.signatures) {
					t.Fatalf("wishes %+v", st.Message.Wishes)
				}
				again, err := w.Spool.Load(t.Context(), st.Message.ID)
				if err != nil || again.Message.BodyHash != st.Message.BodyHash {
					t.Fatalf("read back %+v, %v", again, err)
				}
				again.Young = nil // as after a restart
				for wish, n := range c.signatures {
					rightly(t, w, st, wish, text, n)
					rightly(t, w, again, wish, text, n)
				}
			}
		})
	}
}

// TestBodyHashOfTheRecord: a record that has a hash is signed with it; the
// body, here another, is not read again.
func TestBodyHashOfTheRecord(t *testing.T) {
	w := acme(t, relaytest.Options{}, `"route":[{"upstream":"mx"}]`)
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	m := *st.Message
	m.BodyHash = bodyHash(t, "A: b\n\nof before\n")
	old := *st
	old.Message = &m
	rightly(t, w, &old, 0, "A: b\n\nof before\n", 3)
}

// TestBodyHashOfATenantNamedInTheMessage: while it is not known whose mail it is,
// a signature is expected.
func TestBodyHashOfATenantNamedInTheMessage(t *testing.T) {
	w := acme(t, relaytest.Options{}, `"route":[{"upstream":"mx"}]`)
	w.Apply(`{"kind":"credential","scope":"platform","tenants":["*"],"name":"app","secret":"` + platformSecret + `"}`)
	text := "Behalf-Tenant: acme\n" + body
	st := w.Accepted(w.Login("platform/app", platformSecret), "app@acme.example", text, "bob@there.example")
	rightly(t, w, st, 0, text, 3)
	if st.Message.Door != mail.DoorSMTP || !st.Message.Hashed() {
		t.Errorf("%+v", st.Message)
	}
}
