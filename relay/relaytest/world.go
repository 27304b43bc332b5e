// Package relaytest is a relay in memory for tests: the real directory, policy,
// limits, DNS checker, planner, spool and intake, over stores in memory and
// records that a test sets. Nothing is delivered; what would be handed to the
// dispatcher is kept.
package relaytest

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"behalf/internal/blob"
	blobmem "behalf/internal/blob/mem"
	"behalf/internal/keyring"
	"behalf/internal/kv/mem"
	"behalf/limit"
	"behalf/limit/habit"
	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/sign"
	"behalf/policies"
	"behalf/policy"
	"behalf/relay"
	"behalf/spool"
	"behalf/tenant"
	"behalf/tenant/dnscheck"
	"behalf/tenant/suppress"
	"behalf/upstream"
)

// The names of the platform.
const (
	Hostname      = "relay.platform.example"
	Platform      = "platform.example"
	SendingDomain = "send.platform.example"
	Notify        = "postmaster@platform.example"
	PublicURL     = "https://relay.platform.example"
)

// Admin is the actor that applies a test's resources.
var Admin = tenant.Actor{Name: "admin", Admin: true}

// Options of a World; the zero value works.
type Options struct {
	// Rules are Rego files in force instead of the default policies.
	Rules map[string]string
	// Planner and Intake change the options of those parts.
	Planner func(*relay.PlannerOptions)
	Intake  func(*relay.Options)
}

// World is a relay in memory.
type World struct {
	T         testing.TB
	Store     *mem.Store
	Bodies    *blobmem.Store
	Keys      *keyring.Keyring
	DNS       *DNS
	Spool     *spool.Spool
	Directory *tenant.Directory
	Checker   *dnscheck.Checker
	Policy    *policy.Engine
	Limits    *limit.Limiter
	Usage     *limit.Usage
	Bulk      *limit.Bulk
	Habits    *habit.Habits
	Planner   *relay.Planner
	Intake    *relay.Intake

	o  Options
	mu sync.Mutex
	// offered is what was handed to the dispatcher, in order.
	offered []*spool.Stored
}

// New makes a relay whose sending domain is published, and which has no tenant.
func New(t testing.TB, o Options) *World {
	t.Helper()
	w := &World{T: t, Store: mem.New(mem.Options{}), Bodies: blobmem.New(), DNS: NewDNS(), o: o}
	var err error
	if w.Keys, err = keyring.New(); err != nil {
		t.Fatal(err)
	}
	w.Open()
	t.Cleanup(func() { w.Store.Close(); w.Bodies.Close() })
	w.PublishPlatform()
	return w
}

// Cut is a power cut: the parts are opened again over what the store had
// committed by now.
func (w *World) Cut() {
	w.T.Helper()
	w.Store = w.Store.Cut(false)
	w.T.Cleanup(func() { w.Store.Close() })
	w.Open()
}

// Open makes all parts anew over the stores as they are; the DNS is asked
// again, and nothing that was counted in memory is known.
func (w *World) Open() {
	w.T.Helper()
	ctx := context.Background()
	must := func(err error) {
		w.T.Helper()
		if err != nil {
			w.T.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("RELAY_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	var err error
	w.Spool, err = spool.Open(ctx, w.Store, w.Bodies, spool.Options{})
	must(err)
	w.Directory, err = tenant.Open(ctx, w.Store, w.Keys, tenant.Options{PlatformDomain: Platform, SendingDomain: SendingDomain, PlatformRoute: true})
	must(err)
	must(w.Directory.EnsurePlatform(ctx, SendingDomain, keyPair()))
	// What the DNS showed is remembered apart, so that a test can change it.
	sightings := mem.New(mem.Options{})
	w.T.Cleanup(func() { sightings.Close() })
	w.Checker = dnscheck.New(dnscheck.Options{Resolver: w.DNS, Store: sightings, Log: log,
		Platform: dnscheck.Platform{Hostname: Hostname, InboundHost: "mx.platform.example", SPF: "ip4:192.0.2.1"}})
	w.Policy, err = policy.New(ctx, policy.Options{Defaults: w.rules(), Log: log, Deadline: 5 * time.Second})
	must(err)
	w.Limits, w.Usage = limit.New(limit.Options{}), limit.NewUsage(w.Store, limit.UsageOptions{})
	w.Habits = habit.New(w.Store, habit.Options{})
	w.Bulk = limit.NewBulk(w.Store, limit.BulkOptions{})
	po := relay.PlannerOptions{
		SendingDomain: SendingDomain, ReturnPath: "bounce", PlatformName: "Platform", Notify: Notify, PublicURL: PublicURL,
		Tokens: relay.NewTokens(w.Keys.Derive("tokens")), MX: Nowhere{}, Platform: Nowhere{},
		Connection: func(*tenant.View, *tenant.Connection) (upstream.Upstream, error) { return Nowhere{}, nil },
	}
	if w.o.Planner != nil {
		w.o.Planner(&po)
	}
	book := upstream.NewBook(0)
	w.T.Cleanup(func() { book.Close() })
	w.Planner = relay.NewPlanner(w.Directory, w.Checker, book, w.Limits, po)
	io := relay.Options{Hostname: Hostname, Log: log}
	if w.o.Intake != nil {
		w.o.Intake(&io)
	}
	lists := suppress.New(w.Store)
	must(lists.Run(ctx))
	w.Intake = relay.NewIntake(relay.Parts{
		Directory: w.Directory, Policy: w.Policy, Limits: w.Limits, Usage: w.Usage, Known: limit.NewKnown(w.Store), Habits: w.Habits, Bulk: w.Bulk,
		Lists: lists, Store: w.Store, Spool: w.Spool, Planner: w.Planner,
		Offer: w.offer, Wait: func(context.Context) {},
	}, io)
}

func (w *World) rules() fs.FS {
	if w.o.Rules == nil {
		return policies.FS
	}
	files := fstest.MapFS{}
	for name, text := range w.o.Rules {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func (w *World) offer(st *spool.Stored) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offered = append(w.offered, st)
}

// Offered takes what was handed to the dispatcher since the last call.
func (w *World) Offered() []*spool.Stored {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.offered
	w.offered = nil
	return all
}

// Apply makes resources in JSON be there, as an admin, and gives the last.
func (w *World) Apply(resources ...string) any {
	w.T.Helper()
	var out any
	for _, r := range resources {
		var err error
		if out, _, err = w.Directory.Apply(context.Background(), json.RawMessage(r), Admin, 0); err != nil {
			w.T.Fatalf("apply %s: %v", r, err)
		}
	}
	return out
}

// Acme makes the tenant acme with the domain acme.example, all of whose
// addresses are identities, and the credential acme/app. Nothing of it is in
// the DNS yet.
func (w *World) Acme(fields string) {
	w.T.Helper()
	if fields != "" {
		fields = ", " + fields
	}
	w.Apply(`{"kind":"tenant","name":"acme"`+fields+`}`,
		`{"kind":"credential","tenant":"acme","name":"app","secret":"bhf_acme-secret-0123456789-0123456789-0123456789"}`,
		`{"kind":"domain","tenant":"acme","name":"acme.example","return_path":"bounce","dkim":`+keyPairJSON()+`}`,
		`{"kind":"identity","tenant":"acme","address":"*@acme.example","display_name":"Acme Support"}`)
}

// keyPair is a pair of DKIM keys, made once, because RSA keys take long to make.
var keyPair = sync.OnceValue(func() []tenant.DKIMKey {
	var keys []tenant.DKIMKey
	for algorithm, generate := range map[string]func() (crypto.Signer, error){
		"rsa-2048": func() (crypto.Signer, error) { return sign.GenerateRSA(2048) }, "ed25519": sign.GenerateEd25519,
	} {
		k, err := generate()
		if err != nil {
			panic(err)
		}
		text, err := sign.MarshalPrivate(k)
		if err != nil {
			panic(err)
		}
		keys = append(keys, tenant.DKIMKey{Selector: algorithm[:3], Algorithm: algorithm, Key: string(text)})
	}
	slices.SortFunc(keys, func(a, b tenant.DKIMKey) int { return strings.Compare(b.Selector, a.Selector) })
	return keys
})

func keyPairJSON() string {
	b, err := json.Marshal(keyPair())
	if err != nil {
		panic(err)
	}
	return string(b)
}

// PublishPlatform publishes keys and return path of the sending domain.
func (w *World) PublishPlatform() {
	w.T.Helper()
	keys, err := w.Directory.PlatformKeys(context.Background())
	if err != nil {
		w.T.Fatal(err)
	}
	w.publish(SendingDomain, "bounce", keys)
}

// Publish puts what a tenant's domain asks for into the DNS.
func (w *World) Publish(tenantName, domain string) {
	w.T.Helper()
	v, err := w.Directory.ViewByName(context.Background(), tenantName)
	if err != nil {
		w.T.Fatal(err)
	}
	d, ok := v.Domain(domain)
	if !ok {
		w.T.Fatalf("tenant %s has no domain %s", tenantName, domain)
	}
	w.publish(domain, d.ReturnPath, d.DKIM)
}

func (w *World) publish(domain, path string, keys []tenant.DKIMKey) {
	for _, k := range keys {
		w.DNS.TXTRecord(k.Selector+"._domainkey."+domain, k.Record())
	}
	w.DNS.MXRecord(path+"."+domain, "mx.platform.example")
	w.DNS.TXTRecord(path+"."+domain, "v=spf1 ip4:192.0.2.1 ~all")
}

// Client is a client of the SMTP door, over TLS.
func Client() relay.Client {
	return relay.Client{Addr: netip.MustParseAddrPort("198.51.100.7:40000"), Helo: "app.internal.acme.example", TLS: "TLS 1.3 TLS_AES_128_GCM_SHA256", Door: mail.DoorSMTP}
}

// Login is the principal of a credential, by PLAIN, which must work.
func (w *World) Login(username, secret string) *relay.Principal {
	w.T.Helper()
	p, err := w.Intake.Login(context.Background(), Client(), relay.Login{Mechanism: "PLAIN", Username: username, Secret: secret})
	if err != nil {
		w.T.Fatalf("log in as %s: %v", username, err)
	}
	return p
}

// App is the principal of acme/app.
func (w *World) App() *relay.Principal {
	w.T.Helper()
	return w.Login("acme/app", "bhf_acme-secret-0123456789-0123456789-0123456789")
}

// Send submits text, whose line ends may be LF, over SMTP.
func (w *World) Send(p *relay.Principal, from, text string, to ...string) (relay.Receipt, error) {
	w.T.Helper()
	return w.SendEnvelope(p, mail.Envelope{From: Address(w.T, from)}, text, to...)
}

// SendEnvelope is Send with more to say than the sender. A recipient that is
// refused ends it.
func (w *World) SendEnvelope(p *relay.Principal, e mail.Envelope, text string, to ...string) (relay.Receipt, error) {
	w.T.Helper()
	ctx := context.Background()
	t, err := w.Intake.Begin(ctx, p, Client(), e, 0)
	if err != nil {
		return relay.Receipt{}, err
	}
	for _, a := range to {
		if err := t.Recipient(ctx, mail.Recipient{Address: Address(w.T, a)}); err != nil {
			t.Abort()
			return relay.Receipt{}, err
		}
	}
	if _, err := t.Write([]byte(CRLF(text))); err != nil {
		t.Abort()
		return relay.Receipt{}, err
	}
	return t.Commit(ctx)
}

// Accepted is Send that must work; it gives the message as the dispatcher got
// it.
func (w *World) Accepted(p *relay.Principal, from, text string, to ...string) *spool.Stored {
	w.T.Helper()
	w.Offered()
	if _, err := w.Send(p, from, text, to...); err != nil {
		w.T.Fatalf("not accepted: %v", err)
	}
	all := w.Offered()
	if len(all) != 1 {
		w.T.Fatalf("%d messages were handed on, want 1", len(all))
	}
	return all[0]
}

// Rendered is a message as it leaves by one wish, with its hop.
type Rendered struct {
	Hop    *mail.Hop
	Text   string
	Signed []string
	From   string // envelope sender
	Header header.Header
}

// Plan resolves one wish, as dispatch does at an attempt.
func (w *World) Plan(st *spool.Stored, wish int) (*mail.Hop, error) {
	hop, _, err := w.Planner.Plan(context.Background(), st.Message, wish)
	return hop, err
}

// Render gives what one recipient is sent by a wish, to a hop with 8BITMIME
// and SMTPUTF8.
func (w *World) Render(st *spool.Stored, wish, index int) Rendered {
	w.T.Helper()
	ctx := context.Background()
	hop, err := w.Plan(st, wish)
	if err != nil {
		w.T.Fatalf("plan: %v", err)
	}
	open := func(ctx context.Context) (blob.Body, error) {
		b, err := w.Spool.OpenBody(ctx, st)
		if err == nil {
			w.T.Cleanup(func() { b.Close() })
		}
		return b, err
	}
	r, err := w.Planner.Render(st, hop, index, open)(ctx, upstream.Caps{EightBitMIME: true, SMTPUTF8: true})
	if err != nil {
		w.T.Fatalf("render: %v", err)
	}
	if err := r.Prepare(ctx); err != nil {
		w.T.Fatalf("sign: %v", err)
	}
	var b bytes.Buffer
	if n, err := r.WriteTo(&b); err != nil || n != r.Size() {
		w.T.Fatalf("wrote %d of %d octets: %v", n, r.Size(), err)
	}
	head, _, _ := strings.Cut(b.String(), "\r\n\r\n")
	h, err := header.Parse([]byte(head + "\r\n\r\n"))
	if err != nil {
		w.T.Fatalf("what is sent has a bad header: %v", err)
	}
	return Rendered{Hop: hop, Text: b.String(), Signed: r.Signed(), From: w.Planner.Sender(st.Message, hop, index).String(), Header: h}
}

// Address parses an address; "" and "<>" are the null path.
func Address(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" || s == "<>" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// CRLF gives text the line ends of SMTP.
func CRLF(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
}
