package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	blobmem "behalf/internal/blob/mem"
	"behalf/internal/dnsx"
	"behalf/internal/keyring"
	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/internal/throttle"
	"behalf/limit"
	"behalf/limit/habit"
	"behalf/mail"
	"behalf/policies"
	"behalf/policy"
	"behalf/relay"
	"behalf/relay/dispatch"
	"behalf/spool"
	"behalf/tenant"
	"behalf/tenant/dnscheck"
	"behalf/tenant/suppress"
	"behalf/upstream"
	"behalf/upstream/mailbox"
	"behalf/web"
	"behalf/web/api"
)

const (
	adminKey = "the-admin-key-of-the-tests-0123456789"
	maxSize  = 1 << 20
)

// rules are compiled once; they never change.
var rules = sync.OnceValues(func() (*policy.Engine, error) {
	return policy.New(context.Background(), policy.Options{Defaults: policies.FS})
})

// noDNS is a resolver in a world without names.
type noDNS struct{}

func (noDNS) TXT(context.Context, string) ([]string, dnsx.Answer, error) {
	return nil, dnsx.Answer{NXDomain: true}, nil
}
func (noDNS) MX(context.Context, string) ([]dnsx.MX, dnsx.Answer, error) {
	return nil, dnsx.Answer{NXDomain: true}, nil
}
func (noDNS) Addrs(context.Context, string) ([]netip.Addr, dnsx.Answer, error) {
	return nil, dnsx.Answer{NXDomain: true}, nil
}
func (noDNS) CNAME(context.Context, string) (string, dnsx.Answer, error) {
	return "", dnsx.Answer{NXDomain: true}, nil
}
func (noDNS) PTR(context.Context, netip.Addr) ([]string, dnsx.Answer, error) {
	return nil, dnsx.Answer{NXDomain: true}, nil
}

// world is a relay without SMTP doors: everything behind the API is real, and
// mail ends in Maildirs.
type world struct {
	t         testing.TB
	server    *httptest.Server
	directory *tenant.Directory
	store     kv.Store
	spool     *spool.Spool
	intake    *relay.Intake
	dispatch  *dispatch.Dispatcher
	tokens    relay.Tokens
	router    chi.Router
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	w := &world{t: t, store: mem.New(mem.Options{})}
	keys, err := keyring.New()
	must(err)
	w.tokens = relay.NewTokens(keys.Derive("tokens"))
	w.spool, err = spool.Open(ctx, w.store, blobmem.New(), spool.Options{TempDir: t.TempDir(), Log: log})
	must(err)
	w.directory, err = tenant.Open(ctx, w.store, keys, tenant.Options{
		PlatformDomain: "platform.example", SendingDomain: "send.platform.example", DefaultUpstream: mail.UpstreamMailbox, Log: log,
	})
	must(err)
	must(w.directory.EnsurePlatform(ctx, "send.platform.example", nil))
	engine, err := rules()
	must(err)
	checker := dnscheck.New(dnscheck.Options{Resolver: noDNS{}, Store: w.store, Platform: dnscheck.Platform{Hostname: "relay.platform.example"}, Log: log})
	limits := limit.New(limit.Options{})
	book := upstream.NewBook(0)
	metrics := relay.NewMetrics(prometheus.NewRegistry())
	planner := relay.NewPlanner(w.directory, checker, book, limits, relay.PlannerOptions{
		SendingDomain: "send.platform.example", ReturnPath: "bounce", PlatformName: "Platform",
		Notify: "postmaster@platform.example", PublicURL: "https://relay.platform.example", Tokens: w.tokens,
		Capture: true, Mailbox: mailbox.New(t.TempDir()), Metrics: metrics,
	})
	w.dispatch = dispatch.New(w.spool, planner, dispatch.Options{Log: log,
		Released: func(ctx context.Context, who map[mail.TenantID][]mail.Address) { w.intake.LearnReleased(ctx, who) }})
	w.intake = relay.NewIntake(relay.Parts{
		Directory: w.directory, Policy: engine, Limits: limits, Usage: limit.NewUsage(w.store, limit.UsageOptions{}), Known: limit.NewKnown(w.store), Bulk: limit.NewBulk(w.store, limit.BulkOptions{}), Habits: habit.New(w.store, habit.Options{}),
		Lists: suppress.New(w.store), Store: w.store, Spool: w.spool, Planner: planner, Offer: w.dispatch.Offer, Wait: w.dispatch.Backpressure,
	}, relay.Options{
		Hostname: "relay.platform.example", MaxSize: maxSize, MaxRecipients: 100, MaxAge: 96 * time.Hour, Log: log,
		Metrics: metrics, Shed: func() *mail.Failure { return nil },
	})
	r := web.NewRouter(log)
	auth := &web.Auth{AdminKey: adminKey, Intake: w.intake, Throttle: throttle.New(), Log: log}
	api.Mount(r, api.Parts{
		Directory: w.directory, Checker: checker, Spool: w.spool, Store: w.store, Intake: w.intake, Dispatcher: w.dispatch, Policy: engine,
		Auth: auth, MaxSize: maxSize, Log: log,
	}, "test")
	web.Unsubscribe(r, w.intake, log)
	web.Profiles(r, auth, log)
	w.router = r
	w.server = httptest.NewUnstartedServer(r)
	w.server.Config.BaseContext = nil
	w.server.Start()
	done := make(chan error, 2)
	go func() { done <- w.dispatch.Run(ctx) }()
	go func() { done <- w.spool.Run(ctx) }()
	t.Cleanup(func() {
		w.server.CloseClientConnections()
		w.server.Close()
		cancel()
		for range 2 {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if err := errors.Join(book.Close(), w.store.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

var admin = tenant.Actor{Name: "admin", Admin: true}

// apply writes resources as the admin; it is how tests begin.
func (w *world) apply(resources ...any) {
	w.t.Helper()
	for _, r := range resources {
		if _, _, err := w.directory.ApplyResource(w.t.Context(), r, admin, 0); err != nil {
			w.t.Fatalf("%+v: %v", r, err)
		}
	}
}

// customer makes a tenant with a verified address at a domain of its own and a
// credential "app" whose secret is the tenant's name and "-secret".
func (w *world) customer(name string) {
	w.t.Helper()
	m := tenant.Meta{Tenant: name}
	w.apply(
		&tenant.Tenant{Name: name, DisplayName: strings.ToUpper(name), AllowFromChange: true},
		&tenant.Credential{Meta: m, Name: "app", Secret: name + "-secret"},
		&tenant.Domain{Meta: m, Name: name + ".example", Verified: true, DKIM: []tenant.DKIMKey{{Selector: "b2", Algorithm: "ed25519"}}},
		&tenant.Identity{Meta: m, Address: "support@" + name + ".example", Verified: true},
		&tenant.Connection{Meta: m, Name: "office", Provider: "smtp", Senders: []string{"support@" + name + ".example"},
			SMTP: &tenant.SMTP{Host: "smtp." + name + ".example", Username: "u", Password: "connection-password-of-" + name}},
	)
}

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// into decodes a JSON answer.
func into[T any](t testing.TB, a *answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return v
}

// request is one call of the API, made with do.
type request struct {
	key    string // Bearer
	basic  string // username:secret
	method string
	path   string
	body   any // string, []byte, io.Reader, or what becomes JSON
	header map[string]string
}

func (w *world) do(r request) *answer {
	w.t.Helper()
	var body io.Reader
	kind := "application/json"
	switch b := r.body.(type) {
	case nil:
		kind = ""
	case string:
		body = strings.NewReader(b)
	case []byte:
		body = bytes.NewReader(b)
	case io.Reader:
		body = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	if r.method == "" {
		r.method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(w.t.Context(), r.method, w.server.URL+r.path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if r.key != "" {
		req.Header.Set("Authorization", "Bearer "+r.key)
	}
	if user, secret, ok := strings.Cut(r.basic, ":"); ok {
		req.SetBasicAuth(user, secret)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := w.server.Client().Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	return &answer{resp.StatusCode, resp.Header, text}
}

func (w *world) get(key, path string) *answer {
	w.t.Helper()
	return w.do(request{key: key, path: path})
}
func (w *world) post(key, path string, body any) *answer {
	w.t.Helper()
	return w.do(request{key: key, method: http.MethodPost, path: path, body: body})
}

// want demands a status, and of every error that it is a problem document.
func (a *answer) want(t testing.TB, status int) *answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("want %d, got %s", status, a)
	}
	if status < 400 {
		return a
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("an error of type %q: %s", got, a)
	}
	p := into[web.Problem](t, a)
	if p.Status != status || p.Title == "" || p.Detail == "" {
		t.Fatalf("not a whole problem document: %s", a)
	}
	return a
}

// draft is a message that customer may send.
func draft(customer, to string) map[string]any {
	return map[string]any{"from": "support@" + customer + ".example", "to": to, "subject": "hello", "text": "hello\n"}
}

// send submits a message for later, so that it stays queued, and gives its id.
func (w *world) send(key, customer string, more map[string]any) mail.ID {
	w.t.Helper()
	d := draft(customer, "guest@elsewhere.example")
	d["send_at"] = time.Now().Add(time.Hour).UTC()
	for k, v := range more {
		d[k] = v
	}
	return into[api.Accepted](w.t, w.post(key, "/v1/messages", d).want(w.t, http.StatusAccepted)).ID
}

// state waits until the first recipient of a message has a state.
func (w *world) state(id mail.ID, want mail.State) {
	w.t.Helper()
	var got mail.State
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		m := into[api.Message](w.t, w.get(adminKey, "/v1/messages/"+id.String()).want(w.t, 200))
		if got = m.Recipients[0].State; got == want {
			return
		}
	}
	w.t.Fatalf("message %s is %s, want %s", id, got, want)
}
