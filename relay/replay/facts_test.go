package replay

import (
	"reflect"
	"slices"
	"testing"

	"behalf/policy"
)

// TestEveryFact that a set may need is known here.
func TestEveryFact(t *testing.T) {
	typ := reflect.TypeFor[policy.Needs]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if slices.Contains([]string{"Sender", "Recipient", "Message"}, name) {
			continue
		}
		var n policy.Needs
		reflect.ValueOf(&n).Elem().Field(i).SetBool(true)
		if len(missing(policy.PackageMessage, n, policy.Needs{}))+len(missing(policy.PackageRecipient, n, policy.Needs{})) == 0 {
			t.Errorf("facts says nothing of %s", name)
		}
		for _, pkg := range policy.Packages() {
			if m := missing(pkg, n, n); len(m) > 0 {
				t.Errorf("%s: %v is missing although it was gathered", pkg, m)
			}
		}
	}
}
