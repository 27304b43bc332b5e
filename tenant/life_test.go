package tenant_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xdg-go/scram"

	"behalf/internal/keyring"
	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/mail"
	"behalf/tenant"
)

func TestDeletedTenantLeavesNothingAndItsNumberIsNotUsedAgain(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(globex, globexApp)
	empty := dump(t, w.store)
	w.must(acme, acmeApp, `{"kind":"domain","tenant":"acme","name":"acme.example","verified":true,`+ed25519Dom+`}`, office)
	for i := range 450 { // several batches
		w.must(fmt.Sprintf(`{"kind":"identity","tenant":"acme","address":"a%d@acme.example"}`, i))
	}
	id := w.view("acme").Tenant.ID
	c, err := w.Authenticate(ctx, "acme/app", "acme-app-secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindTenant, Name: "acme"}, 0); err != nil {
		t.Fatal(err)
	}
	left := strings.Replace(dump(t, w.store), "u/id/"+string([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})+"=acme\n", "", 1)
	if left != empty {
		t.Errorf("left over:\n%q\nwant:\n%q", left, empty)
	}
	if _, err := w.View(ctx, id); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("its view: %v", err)
	}
	if _, err := w.Authenticated(ctx, "acme/app"); !errors.Is(err, tenant.ErrAuth) {
		t.Errorf("its credential: %v", err)
	}
	if _, err := w.AuthenticateBearer(ctx, "acme-app-secret"); !errors.Is(err, tenant.ErrAuth) {
		t.Errorf("its secret: %v", err)
	}
	again := w.must(acme, acmeApp).(*tenant.Credential)
	if v := w.view("acme"); v.Tenant.ID == id || again.Tenant != "acme" {
		t.Error("the number was used again")
	}
	// A session of the old tenant's credential must not become one of the new
	// tenant of that name.
	if _, err := w.ViewFor(ctx, c, "acme", anywhere); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("the old credential sees the new tenant: %v", err)
	}
}

// broken is a store that fails after some updates.
type broken struct {
	kv.Store
	left int
}

func (b *broken) Update(ctx context.Context, fn func(kv.Writer) error) error {
	if b.left--; b.left < 0 {
		return errors.New("power cut")
	}
	return b.Store.Update(ctx, fn)
}

func TestCutOffDeleteGoesOnAtTheNextStart(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	before := dump(t, w.store)
	w.must(acme, acmeApp)
	for i := range 300 {
		w.must(fmt.Sprintf(`{"kind":"identity","tenant":"acme","address":"a%d@acme.example"}`, i))
	}
	d, err := tenant.Open(ctx, &broken{w.store, 3}, w.keys, options) // opening takes one
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindTenant, Name: "acme"}, 0); err == nil {
		t.Fatal("the store broke and nobody noticed")
	}
	w.reopen()
	after := dump(t, w.store)
	i := strings.Index(after, "u/id/")
	if after[:i] != before {
		t.Errorf("left over: %q", after)
	}
}

func TestListPagesThroughEverythingOnce(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(platform, everywhere)
	want := map[tenant.Kind]int{tenant.KindCredential: 2}
	for i := range 7 {
		w.must(fmt.Sprintf(`{"kind":"tenant","name":"t%d"}`, i))
		want[tenant.KindTenant]++
		for j := range i % 4 {
			w.must(fmt.Sprintf(`{"kind":"credential","tenant":"t%d","name":"c%d","secret":"secret-%d-%d"}`, i, j, i, j),
				fmt.Sprintf(`{"kind":"identity","tenant":"t%d","address":"a%d@x.example"}`, i, j))
			want[tenant.KindCredential]++
			want[tenant.KindIdentity]++
		}
	}
	for kind, n := range want {
		for _, limit := range []int{1, 2, 3, 100} {
			seen := map[string]bool{}
			page := tenant.Page{Limit: limit}
			for pages := 0; ; pages++ {
				l, err := w.List(ctx, admin, tenant.Ref{Kind: kind}, page)
				if err != nil || len(l.Items) > limit || pages > 100 {
					t.Fatalf("%s by %d: %d items, %v", kind, limit, len(l.Items), err)
				}
				for _, r := range l.Items {
					b, _ := json.Marshal(r)
					if seen[string(b)] {
						t.Errorf("%s by %d: %s twice", kind, limit, b)
					}
					seen[string(b)] = true
				}
				if l.Next == "" {
					break
				}
				page.Cursor = l.Next
			}
			if len(seen) != n {
				t.Errorf("%s by %d: %d items; want %d", kind, limit, len(seen), n)
			}
		}
	}
	var invalid *tenant.ValidationError
	if _, err := w.List(ctx, admin, tenant.Ref{Kind: tenant.KindTenant}, tenant.Page{Cursor: "!"}); !errors.As(err, &invalid) {
		t.Errorf("bad cursor: %v", err)
	}
	if _, err := w.Get(ctx, admin, tenant.Ref{Kind: tenant.KindCredential, Name: "c0"}); !errors.Is(err, tenant.ErrAmbiguous) {
		t.Errorf("a name that several have: %v", err)
	}
	if r, err := w.Get(ctx, admin, tenant.Ref{Kind: tenant.KindCredential, Name: "c2"}); err != nil || r.(*tenant.Credential).Username != "t3/c2" {
		t.Errorf("a name that one has: %+v, %v", r, err)
	}
}

// otherSigner is what Options.RSA gives in tests.
type otherSigner struct{ crypto.Signer }

func TestAnotherSignerForRSA(t *testing.T) {
	w := newWorld(t)
	calls := 0
	o := options
	o.RSA = func(k *rsa.PrivateKey) crypto.Signer { calls++; return otherSigner{k} }
	d, err := tenant.Open(context.Background(), w.store, w.keys, o)
	if err != nil {
		t.Fatal(err)
	}
	w.Directory = d
	w.must(acme, `{"kind":"domain","tenant":"acme","name":"acme.example"}`)
	id := w.view("acme").Tenant.ID
	dom, _ := w.view("acme").Domain("acme.example")
	for range 3 {
		for _, k := range dom.DKIM {
			s, err := w.Signer(context.Background(), mail.Selector{Tenant: id, Domain: "acme.example", Name: k.Selector})
			if _, other := s.(otherSigner); err != nil || other != (k.Algorithm == tenant.AlgorithmRSA) {
				t.Errorf("%s: a %T, %v", k.Algorithm, s, err)
			}
		}
	}
	if calls != 1 {
		t.Errorf("asked %d times for one key", calls)
	}
}

// Whoever wants to know is told of a connection that was made or changed, and
// not of one that stayed as it was.
func TestConnectionsAreToldOf(t *testing.T) {
	w := newWorld(t)
	var told []string
	o := options
	o.Connection = func(_ mail.TenantID, name string) { told = append(told, name) }
	d, err := tenant.Open(context.Background(), w.store, w.keys, o)
	if err != nil {
		t.Fatal(err)
	}
	w.Directory = d
	w.must(acme, office)
	if len(told) != 1 {
		t.Errorf("made: told of %v", told)
	}
	w.must(office)
	if len(told) != 1 {
		t.Errorf("left as it was: told of %v", told)
	}
	w.must(strings.Replace(office, "hunter22", "hunter23", 1))
	if !slices.Equal(told, []string{"office", "office"}) {
		t.Errorf("a new password: told of %v", told)
	}
}

func TestKeysSignAndAreKeptAndImported(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme, `{"kind":"domain","tenant":"acme","name":"acme.example"}`)
	id := w.view("acme").Tenant.ID
	dom, _ := w.view("acme").Domain("acme.example")
	digest := sha256.Sum256([]byte("x"))
	for _, k := range dom.DKIM {
		s, err := w.Signer(ctx, mail.Selector{Tenant: id, Domain: "acme.example", Name: k.Selector})
		if err != nil {
			t.Fatal(err)
		}
		der, _ := base64.StdEncoding.DecodeString(k.Public)
		switch pub := s.Public().(type) {
		case ed25519.PublicKey:
			sig, _ := s.Sign(nil, digest[:], crypto.Hash(0))
			if !ed25519.Verify(ed25519.PublicKey(der), digest[:], sig) || len(pub) != len(der) {
				t.Errorf("%s: signature does not fit the published key", k.Selector)
			}
		case *rsa.PublicKey:
			parsed, err := x509.ParsePKIXPublicKey(der)
			sig, _ := s.Sign(nil, digest[:], crypto.SHA256)
			if err != nil || rsa.VerifyPKCS1v15(parsed.(*rsa.PublicKey), crypto.SHA256, digest[:], sig) != nil || pub.N.BitLen() != 2048 {
				t.Errorf("%s: signature does not fit the published key, %v", k.Selector, err)
			}
		}
		if again, _ := w.Signer(ctx, mail.Selector{Tenant: id, Domain: "acme.example", Name: k.Selector}); k.Algorithm == "rsa-2048" && again != s {
			t.Error("the key was opened twice")
		}
	}
	_, priv, _ := ed25519.GenerateKey(nil)
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(priv)
	text, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	imported := `{"kind":"domain","tenant":"acme","name":"acme.example","dkim":[{"selector":"b1"},{"selector":"b9","algorithm":"ed25519","key":` + string(text) + `}]}`
	for i, want := range []tenant.Change{tenant.Updated, tenant.Unchanged} {
		if _, change, err := w.Apply(ctx, json.RawMessage(imported), admin, 0); err != nil || change != want {
			t.Fatalf("time %d: %s, %v", i+1, change, err)
		}
	}
	now, _ := w.view("acme").Domain("acme.example")
	if now.DKIM[0].Public != dom.DKIM[0].Public {
		t.Error("a key that was not to change did")
	}
	if want := base64.StdEncoding.EncodeToString(priv.Public().(ed25519.PublicKey)); now.DKIM[1].Public != want {
		t.Error("another key than the imported one")
	}
	if _, err := w.Signer(ctx, mail.Selector{Tenant: id, Domain: "acme.example", Name: "b2"}); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("a key that was dropped: %v", err)
	}
	seed := `{"kind":"domain","tenant":"acme","name":"acme.example","dkim":[{"selector":"s","algorithm":"ed25519","key":"` + base64.StdEncoding.EncodeToString(priv.Seed()) + `"}]}`
	w.must(seed)
	if last, _ := w.view("acme").Domain("acme.example"); last.DKIM[0].Public != now.DKIM[1].Public {
		t.Error("the seed gives another key than PEM")
	}
}

func TestPlatformKeys(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	if _, err := w.PlatformKeys(ctx); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	var first []tenant.DKIMKey
	for range 2 {
		if err := w.EnsurePlatform(ctx, "send.platform.example", nil); err != nil {
			t.Fatal(err)
		}
		keys, err := w.PlatformKeys(ctx)
		if err != nil || len(keys) != 2 || keys[0].Public == "" {
			t.Fatalf("%+v, %v", keys, err)
		}
		if first != nil && keys[0] != first[0] {
			t.Error("the keys changed at the second start")
		}
		first = keys
		w.reopen()
	}
	if _, err := w.Signer(ctx, mail.Selector{Domain: "send.platform.example", Name: first[1].Selector}); err != nil {
		t.Error(err)
	}
}

func TestScram(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme, acmeApp)
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		v, err := w.Scram(ctx, user)
		return scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(v.Salt), Iters: v.Iterations}, StoredKey: v.StoredKey, ServerKey: v.ServerKey}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	talk := func(user, secret string) error {
		client, err := scram.SHA256.NewClient(user, secret, "")
		if err != nil {
			t.Fatal(err)
		}
		c, s := client.NewConversation(), server.NewConversation()
		from := ""
		for !c.Done() {
			to, err := c.Step(from)
			if err != nil {
				return err
			}
			if c.Done() {
				break
			}
			if from, err = s.Step(to); err != nil {
				return err
			}
		}
		return nil
	}
	if err := talk("acme/app", "acme-app-secret"); err != nil {
		t.Errorf("the right secret: %v", err)
	}
	for _, user := range []string{"acme/app", "acme/nobody", "nobody/app"} {
		if talk(user, "wrong-secret") == nil {
			t.Errorf("%s: a wrong secret was taken", user)
		}
	}
	a, _ := w.Scram(ctx, "acme/nobody")
	b, _ := w.Scram(ctx, "acme/nobody")
	real, _ := w.Scram(ctx, "acme/app")
	if !hmac.Equal(a.Salt, b.Salt) || len(a.Salt) != len(real.Salt) || a.Iterations != real.Iterations || len(a.StoredKey) != len(real.StoredKey) {
		t.Error("an unknown user can be told from a known one")
	}
}

func TestResolveSecrets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"p.txt": "from file\r\n", "ca.pem": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "empty": "", "big": strings.Repeat("x", 70_000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("BEHALF_TEST_SECRET", "from env")
	for _, tt := range []struct{ in, want string }{
		{`{"kind":"credential","secret":"env:BEHALF_TEST_SECRET"}`, `"secret":"from env"`},
		{`{"kind":"credential","secret":"file:p.txt"}`, `"secret":"from file"`},
		{`{"kind":"credential","secret":"file:` + dir + `/p.txt"}`, `"secret":"from file"`},
		{`{"kind":"credential","secret":"literal"}`, `"secret":"literal"`},
		{`{"kind":"domain","dkim":[{"selector":"a","key":"file:p.txt"},{"selector":"b"}]}`, `"key":"from file"`},
		{`{"kind":"connection","smtp":{"password":"file:p.txt","ca_file":"ca.pem","port":587}}`, `"ca_file":"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"`},
		{`{"kind":"tenant","name":"file:p.txt"}`, `"name":"file:p.txt"`},
	} {
		got, err := tenant.ResolveSecrets(json.RawMessage(tt.in), dir)
		if err != nil || !strings.Contains(string(got), tt.want) {
			t.Errorf("%s: %s, %v", tt.in, got, err)
		}
	}
	for _, bad := range []string{"env:BEHALF_TEST_UNSET", "file:missing", "file:empty", "file:big"} {
		if got, err := tenant.ResolveSecrets(json.RawMessage(`{"kind":"credential","secret":"`+bad+`"}`), dir); err == nil {
			t.Errorf("%s: %s", bad, got)
		}
	}
}

// Whoever reads after a write has returned sees it, however many read and write
// at once, and writes are not lost.
func TestViewsFollowWritesUnderLoad(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(acme)
	id := w.view("acme").Tenant.ID
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 40 {
				name := fmt.Sprintf("a%d-%d@acme.example", n, i)
				if _, _, err := w.Apply(ctx, json.RawMessage(`{"kind":"identity","tenant":"acme","address":"`+name+`"}`), admin, 0); err != nil {
					t.Error(err)
					return
				}
				v, err := w.View(ctx, id)
				if err != nil {
					t.Error(err)
					return
				}
				if _, ok := v.Identity(mail.Address{Local: strings.TrimSuffix(name, "@acme.example"), Domain: "acme.example"}); !ok {
					t.Errorf("%s is not seen after it was written", name)
				}
			}
		})
	}
	wg.Wait()
	// One resource, many writers: each revision is somebody's.
	for range 8 {
		wg.Go(func() {
			for i := range 10 {
				for {
					_, _, err := w.Apply(ctx, json.RawMessage(fmt.Sprintf(`{"kind":"tenant","name":"acme","address_per_day":%d}`, i+1)), admin, 0)
					if !errors.Is(err, tenant.ErrConflict) {
						if err != nil {
							t.Error(err)
						}
						break
					}
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{acme, acmeApp, platform, acmeDomain, support, office, `{"kind":"tenant","route":[{"upstream":"mx"}],"suspended":{"reason":"x"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := tenant.Decode(b, "")
		var invalid *tenant.ValidationError
		if err != nil && !errors.As(err, &invalid) || err == nil && r == nil {
			t.Errorf("%q: %v, %v", b, r, err)
		}
		tenant.ResolveSecrets(b, "/nonexistent")
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	w := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Authenticate(context.Background(), "acme/app", "acme-app-secret"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkViewByName(b *testing.B) {
	w := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.ViewByName(context.Background(), "acme"); err != nil {
			b.Fatal(err)
		}
	}
}

func benchWorld(b *testing.B) *tenant.Directory {
	b.Helper()
	st := mem.New(mem.Options{})
	b.Cleanup(func() { st.Close() })
	d := openBench(b, st)
	for _, r := range []string{acme, acmeApp, acmeDomain} {
		if _, _, err := d.Apply(context.Background(), json.RawMessage(r), admin, 0); err != nil {
			b.Fatal(err)
		}
	}
	return d
}

func openBench(b *testing.B, st kv.Store) *tenant.Directory {
	b.Helper()
	keys, err := keyring.New()
	if err != nil {
		b.Fatal(err)
	}
	d, err := tenant.Open(context.Background(), st, keys, options)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkView is what a tenant's view costs of which the cache has and has
// not, with as many tenants.
func BenchmarkView(b *testing.B) {
	for _, tenants := range []int{100, 5_000} {
		w := newWorld(b)
		ids := make([]mail.TenantID, tenants)
		for i := range ids {
			w.must(fmt.Sprintf(`{"kind":"tenant","name":"t%d"}`, i),
				fmt.Sprintf(`{"kind":"credential","tenant":"t%d","name":"app","secret":"t%d-app-secret"}`, i, i),
				fmt.Sprintf(`{"kind":"domain","tenant":"t%d","name":"d%d.example","dkim":[{"selector":"b2","algorithm":"ed25519"}]}`, i, i))
			ids[i] = w.view(fmt.Sprintf("t%d", i)).Tenant.ID
		}
		for _, kept := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d/kept=%v", tenants, kept), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if !kept && i%tenants == 0 {
						w.reopen()
					}
					if _, err := w.View(context.Background(), ids[i%tenants]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
