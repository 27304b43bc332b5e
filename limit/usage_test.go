package limit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/mail"
)

var one = Counts{Messages: 1, Recipients: 2, NewRecipients: 1}

func usage(t *testing.T, u *Usage, tenant mail.TenantID, credential string, now time.Time) (Windows, Windows) {
	t.Helper()
	a, b, err := u.Get(t.Context(), tenant, credential, now)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// TestWindowsSlide counts one message each minute and looks at both windows.
func TestWindowsSlide(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	u := NewUsage(store, UsageOptions{})
	now := start
	for range 48 * 60 {
		if err := u.Add(t.Context(), 7, "acme/app", now, one); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	tenant, credential := usage(t, u, 7, "acme/app", now)
	if tenant != credential {
		t.Errorf("tenant %+v, credential %+v", tenant, credential)
	}
	// Never fewer than in the true window, at most one step more.
	if n := tenant.Hour.Messages; n < 60 || n > 65 {
		t.Errorf("%d in the hour", n)
	}
	if n := tenant.Day.Messages; n < 1440 || n > 1500 || tenant.Day.Recipients != 2*n || tenant.Day.NewRecipients != n {
		t.Errorf("%+v in the day", tenant.Day)
	}
	tenant, _ = usage(t, u, 7, "", now.Add(66*time.Minute))
	if tenant.Hour != (Counts{}) || tenant.Day == (Counts{}) {
		t.Errorf("an hour later: %+v", tenant)
	}
	if tenant, _ = usage(t, u, 7, "", now.Add(25*time.Hour)); tenant != (Windows{}) {
		t.Errorf("a day later: %+v", tenant)
	}
	if tenant, credential = usage(t, u, 8, "acme/app", now); tenant != (Windows{}) || credential != (Windows{}) {
		t.Errorf("another tenant: %+v", tenant)
	}
}

// TestUsageClockGoesBack: what was counted counts on when the clock is set back,
// or when somebody counts at a time that is past, over a restart too.
func TestUsageClockGoesBack(t *testing.T) {
	for _, back := range []time.Duration{time.Minute, 4 * time.Minute, 65 * time.Minute, 10 * time.Hour, 25 * time.Hour} {
		t.Run(back.String(), func(t *testing.T) {
			store := mem.New(mem.Options{})
			defer store.Close()
			u := NewUsage(store, UsageOptions{})
			add := func(at time.Time) {
				t.Helper()
				if err := u.Add(t.Context(), 7, "acme/app", at, one); err != nil {
					t.Fatal(err)
				}
			}
			add(start)
			add(start.Add(-back))
			// The hour is asked for by its end; who counts at a time that is past need
			// not be in it.
			if all, _ := usage(t, u, 7, "acme/app", start); all.Day.Messages != 2 || all.Hour.Messages < 1 {
				t.Errorf("at the later time %+v", all)
			}
			check := func(what string, u *Usage) {
				t.Helper()
				if all, own := usage(t, u, 7, "acme/app", start.Add(-back)); all != own || all.Day.Messages != 2 || all.Hour.Messages != 2 {
					t.Errorf("%s: %+v, %+v", what, all, own)
				}
			}
			check("set back", u)
			if err := u.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if back < 24*time.Hour { // what is a day ahead is not believed
				check("after a restart", NewUsage(store, UsageOptions{}))
			}
		})
	}
}

// TestUsageSurvives restarts: what was flushed is read again, both windows, the
// tenant's and each credential's.
func TestUsageSurvives(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	u := NewUsage(store, UsageOptions{})
	now := start
	for i := range 30 * 6 { // each ten minutes over 30 hours
		if err := u.Add(t.Context(), 7, fmt.Sprintf("acme/%d", i%2), now, Counts{Messages: 1, Bounces: 3, Complaints: 1}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Minute)
		if i%5 == 0 {
			if err := u.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := u.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := NewUsage(store, UsageOptions{})
	for _, credential := range []string{"acme/0", "acme/1", ""} {
		a, b := usage(t, u, 7, credential, now)
		c, d := usage(t, again, 7, credential, now)
		if a != c || b != d || a.Hour.Messages == 0 || credential != "" && b.Day.Bounces == 0 {
			t.Errorf("%q: %+v %+v, after a restart %+v %+v", credential, a, b, c, d)
		}
	}
	if err := again.sweep(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if n := rowsOf(t, store, tableUsage); n > 3*(hourSlots+1) {
		t.Errorf("%d rows after the sweep", n)
	}
	if c, _ := usage(t, NewUsage(store, UsageOptions{}), 7, "", now); c.Day.Messages == 0 {
		t.Error("the sweep took too much")
	}
}

// TestUsageRun flushes in false time and once more at the end.
func TestUsageRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New(mem.Options{})
		defer store.Close()
		u := NewUsage(store, UsageOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- u.Run(ctx) }()
		add := func() {
			if err := u.Add(t.Context(), 7, "", time.Now(), one); err != nil {
				t.Error(err)
			}
		}
		add()
		time.Sleep(1100 * time.Millisecond)
		if n := rowsOf(t, store, tableUsage); n != 1 {
			t.Errorf("%d rows after a second", n)
		}
		add()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if w, _ := usage(t, NewUsage(store, UsageOptions{}), 7, "", time.Now()); w.Hour.Messages != 2 {
			t.Errorf("%+v", w)
		}
	})
}

// TestUsageFailure: what the store did not take is written next time, and an
// account with changes is not forgotten meanwhile.
func TestUsageFailure(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	u := NewUsage(store, UsageOptions{MaxTenants: 2})
	now := time.Now()
	for i := range mail.TenantID(50) {
		if err := u.Add(t.Context(), i, "", now, one); err != nil {
			t.Fatal(err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Flush(gone); err == nil {
		t.Fatal("a flush without a store went well")
	}
	if err := u.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := rowsOf(t, store, tableUsage); n != 50 {
		t.Errorf("%d rows", n)
	}
	for i := range mail.TenantID(50) {
		if w, _ := usage(t, u, i, "", now); w.Hour != one {
			t.Errorf("tenant %d: %+v", i, w)
		}
	}
	if n := len(u.dirty); n != 0 {
		t.Errorf("%d accounts still count as changed", n)
	}
}

// TestUsageAtOnce: with accounts pushed out and read again all the time, no count
// is lost.
func TestUsageAtOnce(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	u := NewUsage(store, UsageOptions{MaxTenants: 3})
	now := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for i := range 100 {
				if err := u.Add(context.Background(), mail.TenantID(i%10), "app", now, one); err != nil {
					t.Error(err)
				}
			}
		})
	}
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		for range 50 {
			if err := u.Flush(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}()
	wg.Wait()
	<-flushed
	for i := range mail.TenantID(10) {
		if w, c := usage(t, u, i, "app", now); w.Hour.Messages != 200 || c.Day.Recipients != 400 {
			t.Errorf("tenant %d: %+v %+v", i, w, c)
		}
	}
}

// FuzzUsageRow: no row breaks a load, and what can be read is written the same.
func FuzzUsageRow(f *testing.F) {
	var r ring
	r.add(start, one)
	r.add(start.Add(20*time.Minute), Counts{Messages: 300})
	f.Add(r.encode(hourOf(start)))
	f.Add([]byte{1, 0, 0, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again ring
		hour := hourOf(start)
		if r.decode(hour, b) != nil {
			return
		}
		if err := again.decode(hour, r.encode(hour)); err != nil || again.windows(start) != r.windows(start) {
			t.Errorf("%x: %+v, %+v, %v", b, r, again, err)
		}
	})
}

func TestKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New(mem.Options{})
		defer store.Close()
		k := NewKnown(store)
		ann := mail.Address{Local: "Ann", Domain: "b.example"}
		first := func(k *Known, tenant mail.TenantID, a mail.Address) bool {
			t.Helper()
			yes, err := k.FirstTime(t.Context(), tenant, a)
			if err != nil {
				t.Fatal(err)
			}
			return yes
		}
		learn := func(fail error) {
			t.Helper()
			err := store.Update(t.Context(), func(w kv.Writer) error {
				if err := k.Learn(w, 7, ann); err != nil {
					return err
				}
				return fail
			})
			if err != fail {
				t.Fatal(err)
			}
		}
		if !first(k, 7, ann) {
			t.Error("known before any mail")
		}
		learn(context.Canceled)
		if !first(k, 7, ann) {
			t.Error("known although the transaction failed")
		}
		learn(nil)
		if first(k, 7, ann) || first(k, 7, mail.Address{Local: "ann", Domain: "b.example"}) || first(NewKnown(store), 7, ann) {
			t.Error("not known after mail")
		}
		if !first(k, 8, ann) || !first(k, 7, mail.Address{Local: "bob", Domain: "b.example"}) {
			t.Error("another tenant or address is known")
		}
		time.Sleep(80 * 24 * time.Hour)
		learn(nil)
		time.Sleep(80 * 24 * time.Hour)
		if first(k, 7, ann) || first(NewKnown(store), 7, ann) {
			t.Error("forgotten 80 days after the last mail")
		}
		time.Sleep(11 * 24 * time.Hour)
		if !first(k, 7, ann) {
			t.Error("known 91 days after the last mail")
		}
	})
}

func BenchmarkUsage(b *testing.B) {
	store := mem.New(mem.Options{})
	defer store.Close()
	u := NewUsage(store, UsageOptions{})
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		t := mail.TenantID(i % 100)
		u.Add(context.Background(), t, "app", now, one)
		u.Get(context.Background(), t, "app", now)
	}
}
