package relay

import (
	"testing"
	"time"

	"behalf/mail"
)

func TestWhoBringsTheWork(t *testing.T) {
	start := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	const noisy, quiet = 1, 2
	a := newArrivals()
	for i := range 100 {
		if !a.count(noisy, 1, start.Add(time.Duration(i)*time.Millisecond)) {
			t.Fatal("who alone brings work does not wait for it")
		}
	}
	if a.count(quiet, 1, start.Add(time.Second)) {
		t.Error("one message waits for what another tenant brought a second ago")
	}
	if !a.count(noisy, 1, start.Add(time.Second)) {
		t.Error("what was brought in the second before does not count")
	}
	if !a.count(quiet, 1, start.Add(3*time.Second)) {
		t.Error("what was brought three seconds ago counts")
	}
	if !a.count(quiet, 100, start) {
		t.Error("a clock that is set back")
	}
}

// Of tenants that bring the same all wait, or delivery would starve; and
// whatever they bring, those who wait bring more than half.
func TestMostOfTheWorkWaits(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	same := newArrivals()
	for round := range 50 {
		for who := range 20 {
			if !same.count(mail.TenantID(who), 1, at) && round > 0 {
				t.Fatalf("tenant %d of equals does not wait in round %d", who, round)
			}
		}
	}
	mixed, all, waits := newArrivals(), 0, 0
	for round := range 200 {
		for who := range 40 {
			n := 1
			if who == 0 {
				n = 30
			} else if round%(who+1) != 0 {
				continue
			}
			all += n
			if mixed.count(mail.TenantID(who), n, at) {
				waits += n
			}
		}
	}
	if waits*2 < all {
		t.Errorf("%d of %d wait", waits, all)
	}
}
