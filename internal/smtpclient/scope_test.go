package smtpclient

import (
	"fmt"
	"testing"

	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
)

// TestWhoseFaultAnEndIs: a session that ends before MAIL was answered speaks of
// the account's server, one that ends later of what the server was asked. It
// was not asked about the other transactions of the job.
func TestWhoseFaultAnEndIs(t *testing.T) {
	say := func(s string) smtppeer.Action { return smtppeer.Action{Reply: s, Close: true} }
	gone := smtppeer.Action{Close: true}
	for _, c := range []struct {
		verb string
		do   smtppeer.Action
		// of a smart host: the first transaction, the second; of an exchanger: both
		first, second, exchanger mail.Scope
	}{
		{"MAIL", say("421 4.3.2 shutting down"), mail.OfRoute, mail.OfRoute, mail.OfDestination},
		{"MAIL", say("451 4.3.0 not now"), mail.OfRoute, mail.OfRoute, mail.OfDestination},
		{"MAIL", gone, mail.OfRoute, mail.OfRoute, mail.OfDestination},
		{"RCPT", say("421 4.7.0 <\"relay denied\"@b.test> later"), mail.OfDestination, mail.OfRoute, mail.OfDestination},
		{"RCPT", say("421 4.2.2 full"), mail.OfDestination, mail.OfRoute, mail.OfDestination},
		{"RCPT", gone, mail.OfDestination, mail.OfRoute, mail.OfDestination},
		{"DATA", say("421 4.3.2 shutting down"), mail.OfRoute, mail.OfRoute, mail.OfDestination},
		{"DATA", gone, mail.OfDestination, mail.OfRoute, mail.OfDestination},
		{"DOT", say("421 4.3.2 shutting down"), mail.OfDestination, mail.OfRoute, mail.OfDestination},
	} {
		for _, ext := range [][]string{{"PIPELINING"}, {"8BITMIME"}} {
			for _, peer := range []Peer{SmartHost, Exchanger} {
				t.Run(fmt.Sprintf("%s %s %v %d", c.verb, c.do.Reply, ext, peer), func(t *testing.T) {
					p := smtppeer.Start(t, smtppeer.Options{Ext: ext, On: func(s smtppeer.Step) smtppeer.Action {
						if s.Verb == c.verb {
							return c.do
						}
						return smtppeer.Action{}
					}})
					cl, err := open(t, p.AddrPort, func(cfg *Config) { cfg.Peer = peer })
					txns := []Transaction{txn("a@a.test", "1@b.test"), txn("b@a.test", "2@b.test")}
					must(t, cl, err).Send(t.Context(), Envelope{}, hello, txns)
					want := []mail.Scope{c.first, c.second}
					if peer == Exchanger {
						want = []mail.Scope{c.exchanger, c.exchanger}
					}
					for i := range txns {
						if f := txns[i].Answers[0].Failure; f == nil || f.Scope != want[i] || !f.Temporary() || f.Reason == mail.ReasonMailboxFull {
							t.Errorf("transaction %d: %+v, want scope %s", i+1, f, want[i])
						}
					}
				})
			}
		}
	}
}
