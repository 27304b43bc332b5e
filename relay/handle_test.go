package relay_test

import (
	"context"
	"testing"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
)

// TestEndedTransaction: what a door still does with a transaction that has ended
// changes nothing of the ones that came after, which may have its memory.
func TestEndedTransaction(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	ctx, app, text := context.Background(), w.App(), []byte(relaytest.CRLF(body))
	to := func(name string) mail.Recipient {
		return mail.Recipient{Address: relaytest.Address(t, name+"@there.example")}
	}
	begin := func() relay.Transaction {
		tx, err := w.Intake.Begin(ctx, app, relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	old := begin()
	if err := old.Recipient(ctx, to("eve")); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Write([]byte("X-Old: yes\r\n")); err != nil {
		t.Fatal(err)
	}
	old.Abort()

	tx := begin()
	if err := tx.Recipient(ctx, to("bob")); err != nil {
		t.Fatal(err)
	}
	if err := old.Recipient(ctx, to("eve")); err == nil {
		t.Error("a recipient was added to a transaction that has ended")
	}
	if _, err := old.Write([]byte("X-Old: yes\r\n")); err == nil {
		t.Error("a transaction that has ended was written to")
	}
	old.Abort()
	if _, err := tx.Write(text); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	tx.Abort()
	if _, err := tx.Commit(ctx); err == nil {
		t.Error("a message was committed twice")
	}
	all := w.Offered()
	if len(all) != 1 || len(all[0].Recipients) != 1 || all[0].Recipients[0].Address.Local != "bob" || all[0].Message.Size != int64(len(text)) {
		t.Errorf("accepted %+v", all)
	}
	for _, st := range all {
		st.Release()
	}
}
