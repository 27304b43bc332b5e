package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"behalf/internal/blob"
	"behalf/internal/blob/files"
	"behalf/internal/config"
	"behalf/internal/diskspace"
	"behalf/internal/dnsx"
	"behalf/internal/keyring"
	"behalf/internal/kv"
	"behalf/internal/kv/badger"
	"behalf/internal/obs"
	"behalf/internal/throttle"
	"behalf/limit"
	"behalf/limit/habit"
	"behalf/mail"
	"behalf/mail/sign/aside"
	"behalf/policies"
	"behalf/policy"
	"behalf/policy/journal"
	"behalf/relay"
	"behalf/relay/dispatch"
	"behalf/relay/outcome"
	"behalf/relay/smtpd"
	"behalf/spool"
	"behalf/spool/follow"
	"behalf/tenant"
	"behalf/tenant/dnscheck"
	"behalf/tenant/suppress"
	"behalf/upstream"
)

// server is a relay with everything wired: the only place that knows all parts.
type server struct {
	c   *config.Config
	log *slog.Logger
	reg *prometheus.Registry

	disk      *diskspace.Watch
	store     kv.Store
	bodies    blob.Store
	spool     *spool.Spool
	keys      *keyring.Keyring
	resolver  *dnsx.Client
	directory *tenant.Directory
	checker   *dnscheck.Checker
	policy    *policy.Engine
	journal   *journal.Journal // nil: questions to the policy are not recorded
	limits    *limit.Limiter
	usage     *limit.Usage
	habits    *habit.Habits
	bulk      *limit.Bulk
	lists     *suppress.Lists
	book      *upstream.Book
	sessions  map[string]func() int // open sessions by kind of upstream
	metrics   *relay.Metrics
	planner   *relay.Planner
	dispatch  *dispatch.Dispatcher
	intake    *relay.Intake
	notices   *follow.Follower
	reporter  *outcome.Reporter
	adminKey  string
	throttle  *throttle.Throttle // of failed logins, for all doors
	rsa       *aside.Helper

	smtp  []door
	http  []*httpDoor
	close []func() error // what was opened, in order
}

// door is an SMTP server with its listeners.
type door struct {
	server    *smtpd.Server
	listeners []net.Listener
}

// httpDoor is an HTTP server with its listener.
type httpDoor struct {
	server   *http.Server
	listener net.Listener
}

// newServer opens the data, wires the parts bottom-up and binds the doors.
// Nothing runs yet.
func newServer(ctx context.Context, c *config.Config, log *slog.Logger) (*server, error) {
	s := &server{c: c, log: log, reg: obs.Registry(), throttle: throttle.New(), rsa: rsaHelper(log)}
	for _, step := range []func(context.Context) error{s.openData, s.openDirectory, s.openPolicy, s.openWays, s.openIntake, s.openSMTP, s.openHTTP} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, s.closeAll())
		}
	}
	s.gauges()
	return s, nil
}

func (s *server) closeAll() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	s.close = nil
	return errors.Join(errs...)
}

// openData opens keys, store, bodies and spool below the data folder.
func (s *server) openData(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.c.Data, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if s.disk, err = diskspace.NewWatch(s.c.Data, 0); err != nil {
		return fmt.Errorf("measuring the disk: %w", err)
	}
	if s.disk.Full() {
		return fmt.Errorf("the disk of %s has %d MiB free, less than the reserve of %d MiB: make room and start again", s.c.Data, s.disk.Free()>>20, s.disk.Reserve()>>20)
	}
	made := false
	if s.adminKey, made, err = adminKey(s.c.Admin.KeyFile); err != nil {
		return err
	}
	if made {
		s.log.Info("made an admin key", "file", s.c.Admin.KeyFile)
	}
	store := filepath.Join(s.c.Data, "store")
	if exists(store) && !exists(s.c.Secrets.KeyFile) {
		return fmt.Errorf("the secrets in %s are sealed with a master key, and %s is missing: put the key file back", store, s.c.Secrets.KeyFile)
	}
	if s.keys, err = keyring.Open(s.c.Secrets.KeyFile); err != nil {
		return err
	}
	// The store asks the bodies at its start, and waits for them at its end.
	bodies, err := files.Open(filepath.Join(s.c.Data, "bodies"), files.Options{Log: s.log, Full: s.disk.Full})
	if err != nil {
		return err
	}
	s.bodies, s.close = bodies, append(s.close, bodies.Close)
	kvStore, err := badger.Open(store, badger.Options{Log: s.log, Whole: bodies.Whole, Full: s.disk.Full})
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	s.store, s.close = kvStore, append(s.close, kvStore.Close)
	temp := filepath.Join(s.c.Data, "incoming")
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return fmt.Errorf("making the folder for incoming messages: %w", err)
	}
	s.spool, err = spool.Open(ctx, s.store, s.bodies, spool.Options{
		KeepBodies: s.c.Retention.Bodies.D(), KeepEvents: s.c.Retention.Events.D(), TempDir: temp, Log: s.log,
	})
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// openDirectory opens tenants and what the DNS says of them.
func (s *server) openDirectory(ctx context.Context) (err error) {
	o := tenant.Options{PlatformDomain: s.c.PlatformDomain, SendingDomain: s.c.SendingDomain, PlatformRoute: s.c.Upstream.Platform != nil, Log: s.log, RSA: s.rsa.Key}
	o.Connection = func(t mail.TenantID, name string) { s.dispatch.Resume(t, mail.UpstreamID(mail.ConnectionPrefix+name)) }
	if s.c.Capture {
		o.DefaultUpstream = mail.UpstreamMailbox
	}
	if s.directory, err = tenant.Open(ctx, s.store, s.keys, o); err != nil {
		return fmt.Errorf("opening the directory: %w", err)
	}
	var keys []tenant.DKIMKey
	for _, k := range s.c.Platform.DKIM {
		text, err := secret(k.Key)
		if err != nil {
			return fmt.Errorf("platform.dkim %s: %w", k.Selector, err)
		}
		keys = append(keys, tenant.DKIMKey{Selector: k.Selector, Algorithm: k.Algorithm, Key: text})
	}
	if err := s.directory.EnsurePlatform(ctx, s.c.SendingDomain, keys); err != nil {
		return fmt.Errorf("preparing the keys of %s: %w", s.c.SendingDomain, err)
	}
	s.resolver, err = dnsx.New(dnsx.Options{Servers: s.c.Resolver.Servers, Timeout: s.c.Resolver.Timeout.D(), TrustAD: s.c.Resolver.TrustAD})
	if err != nil {
		return err
	}
	s.checker = dnscheck.New(dnscheck.Options{
		Resolver: s.resolver, Store: s.store, Log: s.log,
		Platform: dnscheck.Platform{Hostname: s.c.Hostname, InboundHost: s.c.Inbound.Host, SPF: s.c.MX.SPF, DMARCReport: ""},
	})
	return nil
}

// openPolicy compiles the rules and reads the limits back.
func (s *server) openPolicy(ctx context.Context) (err error) {
	bundles, err := bundlesOf(&s.c.Policy)
	if err != nil {
		return err
	}
	s.policy, err = policy.New(ctx, policy.Options{
		Bundles: bundles, Gate: s.c.Policy.Gate, Shadow: s.c.Policy.Shadow,
		Path: s.c.Policy.Path, Defaults: policies.FS, Watch: *s.c.Policy.Watch,
		Keep: filepath.Join(s.c.Data, "policy"), Log: s.log, Metrics: s.reg,
	})
	if err != nil {
		return fmt.Errorf("loading the policies: %w", err)
	}
	if s.journal, err = s.openJournal(); err != nil {
		return err
	}
	s.limits = limit.New(limit.Options{})
	if err := s.limits.Load(ctx, s.store); err != nil {
		return fmt.Errorf("reading the limits back: %w", err)
	}
	s.usage = limit.NewUsage(s.store, limit.UsageOptions{})
	s.habits = habit.New(s.store, habit.Options{})
	s.bulk = limit.NewBulk(s.store, limit.BulkOptions{})
	s.lists = suppress.New(s.store)
	return nil
}

// openJournal opens the record of what the policy is asked, unless it is turned
// off; then what there is of it goes. It gives way to mail while the disk still
// has half a reserve more than mail needs.
func (s *server) openJournal() (*journal.Journal, error) {
	dir, keep := filepath.Join(s.c.Data, "policy", "inputs"), s.c.Retention.PolicyInputs.D()
	if keep == 0 {
		return nil, journal.Remove(dir)
	}
	j, err := journal.Open(dir, s.keys, journal.Options{
		Keep: keep, Size: int64(s.c.Retention.PolicyInputsSize), Log: s.log, Metrics: s.reg,
		Full: func() bool { return s.disk.Free() < s.disk.Reserve()+s.disk.Reserve()/2 },
	})
	if err == nil {
		s.close = append(s.close, j.Close)
	}
	return j, err
}

// dispatching is how delivery is bound.
func (s *server) dispatching() dispatch.Options {
	return dispatch.Options{Schedule: s.schedule(), Log: s.log, Metrics: s.reg,
		Released: func(ctx context.Context, who map[mail.TenantID][]mail.Address) { s.intake.LearnReleased(ctx, who) }}
}

// openIntake wires dispatch and intake.
func (s *server) openIntake(ctx context.Context) error {
	s.dispatch = dispatch.New(s.spool, s.planner, s.dispatching())
	s.intake = relay.NewIntake(relay.Parts{
		Directory: s.directory, Policy: s.policy, Limits: s.limits, Usage: s.usage, Known: limit.NewKnown(s.store), Habits: s.habits, Bulk: s.bulk,
		Lists: s.lists, Store: s.store, Spool: s.spool, Planner: s.planner, Offer: s.dispatch.Offer, Wait: s.dispatch.Backpressure,
	}, relay.Options{
		Hostname: s.c.Hostname, MaxSize: int64(s.c.Submission.MaxSize), MaxRecipients: s.c.Submission.MaxRecipients,
		MaxAge: s.c.Delivery.MaxAge.D(), Log: s.log, Metrics: s.metrics, Shed: s.shed, Journal: s.journal,
	})
	s.notices = follow.New(s.spool, s.store, "notice", outcome.Handle, follow.Options{Choice: outcome.Choice(), Linger: 10 * time.Millisecond, Log: s.log})
	if err := s.notices.Prepare(ctx); err != nil {
		return fmt.Errorf("preparing the notices: %w", err)
	}
	s.reporter = &outcome.Reporter{
		Store: s.store, Spool: s.spool, Directory: s.directory, Intake: s.intake,
		Hostname: s.c.Hostname, Domain: s.c.PlatformDomain, Notify: s.c.Platform.Notify, Log: s.log,
	}
	return nil
}

func (s *server) schedule() mail.Schedule {
	sc := mail.DefaultSchedule()
	sc.FailoverAfter = s.c.Delivery.FailoverAfter.D()
	spans := func(to *[]time.Duration, from []config.Duration) {
		if len(from) > 0 {
			*to = nil
		}
		for _, d := range from {
			*to = append(*to, d.D())
		}
	}
	spans(&sc.Retry, s.c.Delivery.Retry)
	spans(&sc.RetryConnect, s.c.Delivery.RetryConnect)
	return sc
}

// shed says whether the doors must turn work away.
func (s *server) shed() *mail.Failure {
	if s.disk.Full() {
		return mail.Fail(452, mail.Enhanced{4, 3, 1}, mail.OfUs, mail.ReasonInternal, "the relay is short of disk space; try again later")
	}
	return nil
}

// run serves until ctx ends or something breaks that cannot go on, then stops
// top-down: doors, dispatcher, followers, store.
func (s *server) run(ctx context.Context) error {
	broken, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() { // ends with broken
		select {
		case <-s.store.Failed():
			fail(errors.New("the store failed; restart to recover what was committed"))
		case <-broken.Done():
		}
	}()
	var layers []*layer
	for _, parts := range [][]func(context.Context) error{
		{s.limitsRun, s.journalRun, s.usage.Run, s.habits.Run, s.bulk.Run, s.lists.Run, s.directory.Run, s.rsa.Run, s.spool.Run},
		{s.notices.Run, s.reporter.Run, s.policy.Run},
		{s.dispatch.Run},
		s.doors(),
	} {
		l := startLayer(parts, fail)
		layers = append(layers, l)
	}
	<-broken.Done()
	s.log.Info("stopping")
	var errs []error
	for i := len(layers) - 1; i >= 0; i-- {
		errs = append(errs, layers[i].stop())
	}
	errs = append(errs, s.closeAll())
	if cause := context.Cause(broken); ctx.Err() == nil && cause != nil {
		errs = append(errs, cause)
	}
	return errors.Join(errs...)
}

func (s *server) journalRun(ctx context.Context) error {
	if s.journal == nil {
		return nil
	}
	return s.journal.Run(ctx)
}

func (s *server) limitsRun(ctx context.Context) error { return s.limits.Run(ctx, s.store) }

func (s *server) doors() []func(context.Context) error {
	var parts []func(context.Context) error
	for _, d := range s.smtp {
		parts = append(parts, func(ctx context.Context) error { return d.server.Run(ctx, d.listeners...) })
	}
	for _, d := range s.http {
		parts = append(parts, d.run)
	}
	return parts
}

// layer is parts that start and stop together.
type layer struct {
	cancel context.CancelFunc
	group  *errgroup.Group
}

// startLayer runs parts apart from any parent context, so that each layer
// stops in its turn. A part that ends by itself with an error stops everything.
func startLayer(parts []func(context.Context) error, fail context.CancelCauseFunc) *layer {
	ctx, cancel := context.WithCancel(context.Background())
	l := &layer{cancel, &errgroup.Group{}}
	for _, part := range parts {
		l.group.Go(func() error {
			err := part(ctx)
			if err != nil && ctx.Err() == nil {
				fail(err)
				return nil // told as the cause
			}
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		})
	}
	return l
}

func (l *layer) stop() error {
	l.cancel()
	return l.group.Wait()
}
