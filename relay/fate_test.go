package relay

import (
	"testing"
	"time"

	"behalf/mail"
)

// What policy holds only others release, and what it paces nobody brings
// forward: the recipient says so itself.
func TestFateIsRemembered(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	then := now.Add(time.Hour)
	for _, c := range []struct {
		name string
		word func(*fateOfOne)
		want mail.Recipient
	}{
		{"nothing", func(*fateOfOne) {}, mail.Recipient{State: mail.Queued, Next: now}},
		{"paced", func(f *fateOfOne) { f.pace(then, cause{}) }, mail.Recipient{State: mail.Queued, Next: then, NotBefore: then}},
		{"paced to before the message", func(f *fateOfOne) { f.pace(now.Add(-time.Second), cause{}) }, mail.Recipient{State: mail.Queued, Next: now}},
		{"held", func(f *fateOfOne) { f.hold(held{cause: cause{why: "new"}}) }, mail.Recipient{State: mail.Held, Reason: "new", HeldBy: mail.HeldByPolicy}},
		{"held and paced", func(f *fateOfOne) { f.hold(held{cause: cause{why: "new"}, until: now}); f.pace(then, cause{}) },
			mail.Recipient{State: mail.Held, Reason: "new", HeldBy: mail.HeldByPolicy, Next: then, NotBefore: then}},
	} {
		var f fateOfOne
		c.word(&f)
		r := mail.Recipient{State: mail.Queued, Next: now}
		if f.apply(&r, now); r != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, r, c.want)
		}
	}
}
