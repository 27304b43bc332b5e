package relay_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"behalf/mail"
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

// BenchmarkPlan is what an attempt costs before the first octet is sent.
func BenchmarkPlan(b *testing.B) {
	w := acme(b, relaytest.Options{}, "")
	st := w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Plan(st, 0); err != nil {
			b.Fatal(err)
		}
	}
}
