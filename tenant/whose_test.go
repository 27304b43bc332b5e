package tenant_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"behalf/internal/keyring"
	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/mail"
	"behalf/tenant"
)

// counting counts the views of a store.
type counting struct {
	kv.Store
	views int
}

func (c *counting) View(ctx context.Context, fn func(kv.Reader) error) error {
	c.views++
	return c.Store.View(ctx, fn)
}

// Whose an address is costs no look into the store the second time, whether it
// is anybody's or not.
func TestForeignIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.must(acme, globex, `{"kind":"domain","tenant":"acme","name":"acme.example","verified":true,"dkim":[]}`)
	st := &counting{Store: w.store}
	w.store = st
	w.reopen()
	ctx := context.Background()
	id := w.view("globex").Tenant.ID
	ask := func(local, domain string, want bool) {
		t.Helper()
		if got, err := w.Foreign(ctx, id, mail.Address{Local: local, Domain: domain}); got != want || err != nil {
			t.Fatalf("%s@%s: foreign %v, want %v (%v)", local, domain, got, want, err)
		}
	}
	for _, a := range []struct {
		local, domain string
		want          bool
	}{{"a", "acme.example", true}, {"b", "deep.acme.example", true}, {"c", "nobody.example", false}} {
		ask(a.local, a.domain, a.want)
		before := st.views
		ask(a.local, a.domain, a.want)
		if st.views != before {
			t.Errorf("%s@%s was looked up twice", a.local, a.domain)
		}
	}
	// Of a new address at a known domain only the address is not known.
	before := st.views
	ask("other", "nobody.example", false)
	if st.views != before+1 {
		t.Errorf("a new address took %d views", st.views-before)
	}
}

// Whatever is applied, deleted and proved in whatever order, what is remembered
// says what a directory says that remembers nothing.
func TestForeignAgreesWithTheStore(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 2))
	tenants := []string{"acme", "globex", "initech"}
	for _, name := range tenants {
		w.must(`{"kind":"tenant","name":"` + name + `"}`)
	}
	domains := []string{"one.example", "sub.one.example", "deep.sub.one.example", "two.example"}
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	change := func() {
		who := pick(tenants)
		address := pick([]string{"*", "a"}) + "@" + pick(domains)
		switch r.IntN(6) {
		case 0:
			w.Apply(ctx, fmt.Appendf(nil, `{"kind":"domain","tenant":%q,"name":%q,"verified":%v,"dkim":[{"selector":"b2","algorithm":"ed25519"}]}`, who, pick(domains), r.IntN(2) == 0), admin, 0)
		case 1:
			w.Apply(ctx, fmt.Appendf(nil, `{"kind":"identity","tenant":%q,"address":%q,"verified":%v}`, who, address, r.IntN(3) > 0), admin, 0)
		case 2:
			w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindDomain, Tenant: who, Name: pick(domains)}, 0)
		case 3:
			w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindIdentity, Tenant: who, Name: address}, 0)
		case 4:
			if v, err := w.ViewByName(ctx, who); err == nil {
				w.Activate(ctx, v.Tenant.ID, pick(domains))
			}
		case 5:
			if r.IntN(4) == 0 {
				w.Delete(ctx, admin, tenant.Ref{Kind: tenant.KindTenant, Tenant: who}, 0)
				w.must(`{"kind":"tenant","name":"` + who + `"}`)
			}
		}
	}
	yes := 0
	for range 300 {
		change()
		fresh, err := tenant.Open(ctx, w.store, w.keys, options)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range tenants {
			id := w.view(name).Tenant.ID
			for _, d := range domains {
				a := mail.Address{Local: pick([]string{"a", "A", "b", "*"}), Domain: d}
				got, err := w.Foreign(ctx, id, a)
				want, err2 := fresh.Foreign(ctx, id, a)
				if err != nil || err2 != nil || got != want {
					t.Fatalf("%s of %s: foreign %v, the store says %v (%v, %v)", a, name, got, want, err, err2)
				}
				if want {
					yes++
				}
			}
		}
	}
	if yes == 0 {
		t.Error("nothing was anybody's")
	}
}

// BenchmarkForeign asks about mail of so many tenants in turn, each from its
// own domain.
func BenchmarkForeign(b *testing.B) {
	for _, tenants := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(tenants), func(b *testing.B) {
			keys, err := keyring.New()
			if err != nil {
				b.Fatal(err)
			}
			d, err := tenant.Open(context.Background(), mem.New(mem.Options{}), keys, options)
			if err != nil {
				b.Fatal(err)
			}
			from := make([]mail.Address, tenants)
			for i := range from {
				from[i] = mail.Address{Local: "app", Domain: fmt.Sprintf("d%d.example", i)}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := d.Foreign(context.Background(), 7, from[i%tenants]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
