package limit

import (
	"context"
	"fmt"
	"testing"

	"behalf/internal/kv"
	"behalf/internal/kv/badger"
	"behalf/mail"
)

// BenchmarkFirstTime is what one recipient costs at RCPT, with 200,000 known in
// the store on disk: one that was never mailed, one that was long ago, and one
// that is in memory.
func BenchmarkFirstTime(b *testing.B) {
	const known = 200_000
	store, err := badger.Open(b.TempDir(), badger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	ctx := context.Background()
	address := func(i int) mail.Address { return mail.Address{Local: fmt.Sprintf("u%d", i), Domain: "there.example"} }
	k := NewKnown(store)
	for i := 0; i < known; i += 1000 {
		err := store.Update(ctx, func(w kv.Writer) error {
			for j := range 1000 {
				if err := k.Learn(w, 7, address(i+j)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for name, of := range map[string]func(i int) int{
		"never":  func(i int) int { return known + i },
		"stored": func(i int) int { return i * 7919 % known },
		"memory": func(int) int { return 1 },
	} {
		b.Run(name, func(b *testing.B) {
			k := NewKnown(store)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				first, err := k.FirstTime(ctx, 7, address(of(i)))
				if err != nil || first != (name == "never") {
					b.Fatal(first, err)
				}
			}
		})
	}
}
