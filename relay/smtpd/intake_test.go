package smtpd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/xdg-go/scram"

	"behalf/mail"
	"behalf/relay"
)

const (
	testUser   = "acme/app"
	testSecret = "k3y-of-the-app"
)

// taken is a message that the fake intake accepted.
type taken struct {
	login relay.Login
	who   string
	c     relay.Client
	env   mail.Envelope
	size  int64
	rcpts []mail.Recipient
	body  []byte
}

// fakeIntake keeps messages in memory. It decides by the addresses' local
// parts, and by words in the message.
type fakeIntake struct {
	mu       sync.Mutex
	messages []taken
	begun    int
	aborted  int
	logins   int
	last     relay.Login
	hold     chan struct{} // Commit waits for it, if set
	held     chan struct{} // and says here that it does
	discard  bool          // keep no bodies
}

func (in *fakeIntake) Login(_ context.Context, _ relay.Client, l relay.Login) (*relay.Principal, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.logins++
	in.last = l
	if l.Username == "acme/broken" {
		return nil, errors.New("store: disk on fire")
	}
	if l.Secret != testSecret || l.Username != testUser && l.Username != "" {
		return nil, mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "the user name or secret is wrong")
	}
	return &relay.Principal{Username: testUser}, nil
}

func (in *fakeIntake) Scram(_ context.Context, _ relay.Client, username string) (relay.ScramVerifier, error) {
	if username != testUser {
		return relay.ScramVerifier{}, mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "no such credential")
	}
	c, _ := scram.SHA256.NewClient(testUser, testSecret, "")
	s, err := c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt-of-the-app!", Iters: 4096})
	if err != nil {
		return relay.ScramVerifier{}, err
	}
	return relay.ScramVerifier{Salt: []byte(s.Salt), Iterations: s.Iters, StoredKey: s.StoredKey, ServerKey: s.ServerKey}, nil
}

func (in *fakeIntake) LoginVerified(_ context.Context, _ relay.Client, username, authzid string) (*relay.Principal, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.last = relay.Login{Mechanism: "SCRAM-SHA-256", Username: username, Authzid: authzid}
	return &relay.Principal{Username: username}, nil
}

func (in *fakeIntake) Begin(_ context.Context, p *relay.Principal, c relay.Client, e mail.Envelope, size int64) (relay.Transaction, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if e.From.Local == "stranger" {
		return nil, mail.Fail(550, mail.Enhanced{5, 7, 1}, mail.OfMessage, mail.ReasonPolicy, "acme may not send as %s", e.From)
	}
	in.begun++
	return &fakeTx{in: in, m: taken{login: in.last, who: p.Username, c: c, env: e, size: size}}, nil
}

type fakeTx struct {
	in    *fakeIntake
	m     taken
	ended bool
}

func (tx *fakeTx) Recipient(_ context.Context, r mail.Recipient) error {
	no := mail.Fail(550, mail.Enhanced{5, 1, 1}, mail.OfRecipient, mail.ReasonNoMailbox, "there is no mailbox %s", r.Address)
	switch r.Address.Local {
	case "refused":
		return no
	case "later":
		return mail.Fail(452, mail.Enhanced{4, 2, 2}, mail.OfRecipient, mail.ReasonMailboxFull, "the mailbox is full")
	case "wrapped":
		return fmt.Errorf("look up recipient in secret table: %w", no)
	case "bug":
		return errors.New("nil map in table_of_secrets")
	case "odd":
		return &mail.Failure{Code: 299, Text: "not a refusal"}
	case "lines":
		return &mail.Failure{Code: 550, Text: "first\r\n250 2.0.0 second\nthird\x00 grüß"}
	}
	tx.m.rcpts = append(tx.m.rcpts, r)
	return nil
}

func (tx *fakeTx) Write(p []byte) (int, error) {
	if tx.ended {
		panic("write to an ended transaction")
	}
	if bytes.Contains(p, []byte("X-Break: write")) {
		return 0, mail.Fail(452, mail.Enhanced{4, 3, 1}, mail.OfUs, mail.ReasonInternal, "the disk is full; try again later")
	}
	if tx.in.discard {
		return len(p), nil
	}
	tx.m.body = append(tx.m.body, p...)
	return len(p), nil
}

func (tx *fakeTx) end() {
	if tx.ended {
		panic("transaction ended twice")
	}
	tx.ended = true
}

func (tx *fakeTx) Commit(ctx context.Context) (relay.Receipt, error) {
	tx.end()
	if tx.in.hold != nil {
		tx.in.held <- struct{}{}
		select {
		case <-tx.in.hold:
		case <-ctx.Done():
			return relay.Receipt{}, ctx.Err()
		}
	}
	tx.in.mu.Lock()
	defer tx.in.mu.Unlock()
	if bytes.Contains(tx.m.body, []byte("X-Break: commit")) {
		return relay.Receipt{}, errors.New("sync /secret/path: input/output error")
	}
	if !tx.in.discard {
		tx.in.messages = append(tx.in.messages, tx.m)
	}
	r := relay.Receipt{}
	sum := sha256.Sum256(tx.m.body)
	copy(r.ID[:], sum[:])
	if bytes.Contains(tx.m.body, []byte("X-Warn")) {
		r.Warnings = []string{"the return path of acme.example is not set up yet"}
	}
	r.Repeated = bytes.Contains(tx.m.body, []byte("X-Again"))
	return r, nil
}

func (tx *fakeTx) Abort() {
	tx.end()
	tx.in.mu.Lock()
	defer tx.in.mu.Unlock()
	tx.in.aborted++
}

// state tells what the intake holds, as the dialogs' lines of "=" do.
func (in *fakeIntake) state() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	out := []string{fmt.Sprintf("messages %d", len(in.messages)), fmt.Sprintf("begun %d", in.begun),
		fmt.Sprintf("aborted %d", in.aborted), fmt.Sprintf("logins %d", in.logins),
		fmt.Sprintf("last mechanism=%s authzid=%q username=%q", in.last.Mechanism, in.last.Authzid, in.last.Username)}
	if n := len(in.messages); n > 0 {
		m := in.messages[n-1]
		out = append(out, fmt.Sprintf("body %q", m.body), fmt.Sprintf("from %q", m.env.From),
			fmt.Sprintf("envid %q", m.env.EnvID), fmt.Sprintf("ret %q", m.env.Ret), fmt.Sprintf("size %d", m.size),
			fmt.Sprintf("flags utf8=%t eightbit=%t binary=%t requiretls=%t", m.env.UTF8, m.env.EightBit, m.env.Binary, m.env.RequireTLS),
			fmt.Sprintf("client helo=%s door=%s tls=%s", m.c.Helo, m.c.Door, strings.Fields(m.c.TLS + " -")[0]))
		for i, r := range m.rcpts {
			out = append(out, fmt.Sprintf("rcpt%d %q notify=%d orcpt=%q", i, r.Address, r.Notify, r.ORcpt))
		}
	}
	return out
}
