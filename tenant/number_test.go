package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"behalf/internal/keyring"
	"behalf/internal/kv/mem"
	"behalf/mail"
)

// Numbers have 32 bits and are made at random: once in 100,000 tenants, about, a
// new one gets that of another. It must get another one then.
func TestNumberThatIsTaken(t *testing.T) {
	keys, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(context.Background(), mem.New(mem.Options{}), keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	admin := Actor{Name: "admin", Admin: true}
	next := []mail.TenantID{7, 7, 7, 8, 7, 8, 9}
	d.newID = func() mail.TenantID {
		id := next[0]
		next = next[1:]
		return id
	}
	apply := func(name string) {
		t.Helper()
		raw := json.RawMessage(fmt.Sprintf(`{"kind":"tenant","name":%q}`, name))
		if _, change, err := d.Apply(context.Background(), raw, admin, 0); err != nil || change != Created {
			t.Fatalf("%s: %v, %v", name, change, err)
		}
	}
	apply("acme") // 7
	apply("globex")
	if err := d.Delete(context.Background(), admin, Ref{Kind: KindTenant, Name: "acme"}, 0); err != nil {
		t.Fatal(err)
	}
	apply("initech") // 7 belonged to a tenant once, 8 does today
	for name, want := range map[string]mail.TenantID{"globex": 8, "initech": 9} {
		if id, err := d.tenantID(context.Background(), name); err != nil || id != want {
			t.Errorf("%s has the number %d: %v", name, id, err)
		}
	}
}
