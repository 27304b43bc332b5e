package relay_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
)

// BenchmarkAccept is a whole acceptance, from MAIL FROM to the spool, over
// stores in memory and with the default policies: what a message costs besides
// the wire and the disk.
func BenchmarkAccept(b *testing.B) {
	for _, c := range []struct{ size, recipients int }{{4 << 10, 1}, {4 << 10, 50}, {256 << 10, 1}} {
		b.Run(fmt.Sprintf("%dKiB-%drcpt", c.size>>10, c.recipients), func(b *testing.B) {
			w := acme(b, relaytest.Options{}, `"labels": {"plan": "enterprise"}`) // whose limits nothing meets
			app := w.App()
			ctx := context.Background()
			text := []byte(relaytest.CRLF(body) + strings.Repeat(strings.Repeat("x", 76)+"\r\n", c.size/78))
			var to []mail.Recipient
			for i := range c.recipients {
				to = append(to, mail.Recipient{Address: relaytest.Address(b, fmt.Sprintf("r%d@d%d.there.example", i, i%7))})
			}
			client, from := relaytest.Client(), mail.Envelope{From: relaytest.Address(b, "app@acme.example")}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				t, err := w.Intake.Begin(ctx, app, client, from, int64(len(text)))
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range to {
					if err := t.Recipient(ctx, r); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := t.Write(text); err != nil {
					b.Fatal(err)
				}
				if _, err := t.Commit(ctx); err != nil {
					b.Fatal(err)
				}
				for _, st := range w.Offered() {
					st.Release()
				}
			}
		})
	}
}

// reportCPU begins to count the processor's time, which other work on the machine
// changes less than the time by the clock; what it gives reports it.
func reportCPU(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkPlan is what an attempt costs before the first octet is sent.
func BenchmarkPlan(b *testing.B) {
	w := acme(b, relaytest.Options{}, "")
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		if _, err := w.Plan(st, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAcceptOfMany is acceptance for so many tenants in turn, each with its
// own credential, From and recipient.
func BenchmarkAcceptOfMany(b *testing.B) {
	for _, tenants := range []int{10, 1_000, 3_000} {
		b.Run(fmt.Sprint(tenants), func(b *testing.B) {
			w := relaytest.New(b, relaytest.Options{})
			apps, from, to := make([]*relay.Principal, tenants), make([]mail.Envelope, tenants), make([]mail.Recipient, tenants)
			texts := make([][]byte, tenants)
			for i := range apps {
				secret := fmt.Sprintf("bhf_secret-0123456789-0123456789-0123456789-%d", i)
				w.Apply(fmt.Sprintf(`{"kind":"tenant","name":"t%d","allow_from_change":true,"labels":{"plan":"enterprise"}}`, i),
					fmt.Sprintf(`{"kind":"credential","tenant":"t%d","name":"app","secret":%q}`, i, secret))
				apps[i] = w.Login(fmt.Sprintf("t%d/app", i), secret)
				from[i].From = relaytest.Address(b, fmt.Sprintf("app@t%d.example", i))
				to[i].Address = relaytest.Address(b, fmt.Sprintf("r%d@d%d.there.example", i, i))
				texts[i] = []byte(fmt.Sprintf("From: app@t%d.example\r\n\r\n", i) + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 50))
			}
			ctx, client := context.Background(), relaytest.Client()
			send := func(i int) {
				t, err := w.Intake.Begin(ctx, apps[i], client, from[i], int64(len(texts[i])))
				if err != nil {
					b.Fatal(err)
				}
				if err := t.Recipient(ctx, to[i]); err != nil {
					b.Fatal(err)
				}
				if _, err := t.Write(texts[i]); err != nil {
					b.Fatal(err)
				}
				if _, err := t.Commit(ctx); err != nil {
					b.Fatal(err)
				}
				for _, st := range w.Offered() {
					st.Release()
				}
			}
			for i := range apps {
				send(i)
			}
			b.ReportAllocs()
			defer reportCPU(b)()
			for i := 0; b.Loop(); i++ {
				send(i % tenants)
			}
		})
	}
}
