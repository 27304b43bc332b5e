package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"behalf/internal/kv"
	"behalf/limit"
	"behalf/limit/habit"
	"behalf/mail"
	"behalf/mail/scan"
	"behalf/policy"
	"behalf/policy/journal"
	"behalf/spool"
	"behalf/tenant"
	"behalf/tenant/suppress"
)

// Parts are what an Intake stands on; all are needed.
type Parts struct {
	Directory *tenant.Directory
	Policy    *policy.Engine
	Limits    *limit.Limiter
	Usage     *limit.Usage
	Known     *limit.Known
	Habits    *habit.Habits
	Bulk      *limit.Bulk
	Lists     *suppress.Lists
	Store     kv.Store
	Spool     *spool.Spool
	Planner   *Planner
	Offer     func(*spool.Stored)   // hands an accepted message to the dispatcher; must not block
	Wait      func(context.Context) // slows those who bring the work down a little while delivery has too much ready
}

// Options of an Intake.
type Options struct {
	Hostname      string
	MaxSize       int64         // octets of a message; default 35 MiB
	MaxRecipients int           // of one transaction; default 1000
	MaxAge        time.Duration // life of a message; default 96 hours
	Log           *slog.Logger  // default: nowhere
	Metrics       *Metrics
	Journal       *journal.Journal     // where questions to the policy are recorded; nil: nowhere
	Shed          func() *mail.Failure // why no more can be taken now; nil: all is well
	Now           func() time.Time     // the clock; default [time.Now]
}

// Intake is the way from a door to the spool.
type Intake struct {
	Parts
	o Options

	board    *board // of the limits that tenants met
	arrivals *arrivals
	scanners scan.Pool // of messages on their way in

	transactions transactions

	administrator tenant.Credential // stands for the admin key; may act for every tenant
}

// NewIntake makes an Intake. It starts nothing.
func NewIntake(p Parts, o Options) *Intake {
	if o.MaxSize <= 0 {
		o.MaxSize = 35 << 20
	}
	if o.MaxRecipients <= 0 {
		o.MaxRecipients = 1000
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 96 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Shed == nil {
		o.Shed = func() *mail.Failure { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Intake{Parts: p, o: o, board: newBoard(), arrivals: newArrivals(), administrator: tenant.Credential{Username: "admin", Scope: tenant.ScopePlatform, Tenants: []string{"*"}}}
}

// refusedLogin is what every failed log-in is told, whatever failed.
func refusedLogin(err error) *mail.Failure {
	return &mail.Failure{Code: 535, Enhanced: mail.Enhanced{5, 7, 8}, Scope: mail.OfRoute, Reason: mail.ReasonAuth, Err: err,
		Text: "authentication failed; check the username (tenant/name) and the secret"}
}

// Login checks what a client showed and says who it is.
func (in *Intake) Login(ctx context.Context, c Client, l Login) (*Principal, error) {
	var cred *tenant.Credential
	var err error
	name, named := tenant.SplitUsername(l.Username)
	if l.Username == "" {
		cred, err = in.Directory.AuthenticateBearer(ctx, l.Secret)
	} else {
		cred, err = in.Directory.Authenticate(ctx, name, l.Secret)
	}
	return in.principal(ctx, c, cred, err, named, l.Authzid)
}

// Scram gives what is needed to check a SCRAM-SHA-256 proof. A username that
// does not exist gets a verifier that nothing fits.
func (in *Intake) Scram(ctx context.Context, c Client, username string) (ScramVerifier, error) {
	name, _ := tenant.SplitUsername(username)
	v, err := in.Directory.Scram(ctx, name)
	if err != nil {
		return ScramVerifier{}, err
	}
	return ScramVerifier(v), nil
}

// LoginVerified says who a client is that proved its secret by SCRAM.
func (in *Intake) LoginVerified(ctx context.Context, c Client, username, authzid string) (*Principal, error) {
	name, named := tenant.SplitUsername(username)
	cred, err := in.Directory.Authenticated(ctx, name)
	return in.principal(ctx, c, cred, err, named, authzid)
}

// principal checks where the credential is used from and for whom. A platform
// credential names its tenant in its username, by authzid, or later with the
// message; a tenant's credential may name only itself.
func (in *Intake) principal(ctx context.Context, c Client, cred *tenant.Credential, err error, named, authzid string) (*Principal, error) {
	if errors.Is(err, tenant.ErrAuth) {
		return nil, refusedLogin(err)
	}
	if err != nil {
		return nil, err
	}
	if !cred.Allows(c.Addr.Addr()) {
		return nil, refusedLogin(errors.New("used from outside the credential's networks"))
	}
	p := &Principal{Username: cred.Username, credential: cred}
	if user, t := tenant.SplitUsername(authzid); user == cred.Username {
		authzid = t // a bearer's own name, perhaps with its tenant
	}
	if named != "" && authzid != "" && named != authzid {
		return nil, notYours(cred, authzid)
	}
	if named == "" {
		named = authzid
	}
	if cred.Scope != tenant.ScopePlatform {
		if named != "" && named != cred.Tenant {
			return nil, notYours(cred, named)
		}
		named = cred.Tenant
	}
	if named != "" {
		if p.view, err = in.actFor(ctx, c, cred, named); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// notYours is the answer to anybody who names a tenant it may not act for,
// whether that tenant exists or not.
func notYours(c *tenant.Credential, name string) *mail.Failure {
	return mail.Fail(550, mail.Enhanced{5, 7, 1}, mail.OfMessage, mail.ReasonPolicy, "credential %s may not act for tenant %q", c.Username, name)
}

// actFor opens the tenant that a client's credential acts for, as both are now.
func (in *Intake) actFor(ctx context.Context, c Client, cred *tenant.Credential, name string) (*tenant.View, error) {
	var v *tenant.View
	var err error
	if cred == &in.administrator {
		v, err = in.Directory.ViewByName(ctx, name)
	} else {
		v, err = in.Directory.ViewFor(ctx, cred, name, c.Addr.Addr())
	}
	switch {
	case errors.Is(err, tenant.ErrNotFound):
		return nil, notYours(cred, name)
	case errors.Is(err, tenant.ErrAuth):
		return nil, &mail.Failure{Code: 550, Enhanced: mail.Enhanced{5, 7, 1}, Scope: mail.OfMessage, Reason: mail.ReasonAuth, Err: err,
			Text: "credential " + cred.Username + " has changed or expired since log-in, or may not be used from here any more; log in again"}
	}
	return v, err
}

// Begin opens a transaction: it asks the sender stage, if the tenant is known
// by now, and reserves nothing but memory.
func (in *Intake) Begin(ctx context.Context, p *Principal, c Client, e mail.Envelope, size int64) (Transaction, error) {
	t, err := in.begin(ctx, p, c, e, size, Hints{})
	if err != nil {
		return nil, err
	}
	return &handle{t}, nil
}

func (in *Intake) begin(ctx context.Context, p *Principal, c Client, e mail.Envelope, size int64, h Hints) (*transaction, error) {
	t, err := in.open(ctx, p, c, e, size, h)
	if err != nil {
		return nil, err
	}
	begun := false
	defer func() {
		if !begun { // be it by a panic
			t.Abort()
		}
	}()
	if t.view != nil {
		if err := t.askSender(ctx); err != nil {
			return nil, err
		}
	}
	begun = true
	return t, nil
}

// open makes a transaction that has asked and reserved nothing.
func (in *Intake) open(ctx context.Context, p *Principal, c Client, e mail.Envelope, size int64, h Hints) (*transaction, error) {
	if size > in.o.MaxSize {
		return nil, tooLarge(in.o.MaxSize)
	}
	view, err := in.freshView(ctx, p, c)
	if err != nil {
		return nil, err
	}
	now := in.o.Now()
	t := in.transactions.get()
	t.in, t.p, t.client, t.view, t.envelope, t.from = in, p, c, view, e, e.From.String()
	t.declared, t.hints, t.policy, t.now, t.began = size, h, in.Policy.Pin(), now.UTC(), now
	if h.Tenant != "" {
		if err := t.nameTenant(ctx, h.Tenant); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// freshView sees the principal's tenant as it is now, not as it was at log-in:
// a tenant may have been suspended since, and a credential been taken away.
func (in *Intake) freshView(ctx context.Context, p *Principal, c Client) (*tenant.View, error) {
	if p.view == nil {
		return nil, nil
	}
	return in.actFor(ctx, c, p.credential, p.view.Tenant.Name)
}

func tooLarge(limit int64) *mail.Failure {
	return mail.Fail(552, mail.Enhanced{5, 3, 4}, mail.OfMessage, mail.ReasonTooLarge, "the message is larger than the limit of %d octets", limit)
}
