package policy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// bundles fetches bundles and makes one set of them. Each has a goroutine that
// polls; what they found is joined under the lock.
type bundles struct {
	o    Bundles
	keep string // folder of those that persist
	list []*polled

	mu   sync.Mutex // held while a set is made and comes into force; guards good
	good map[string]*content

	telling sync.Mutex // guards status and problem of each; nobody waits long for it
}

// polled is one bundle.
type polled struct {
	name   string
	o      Bundle
	s      Service
	url    string
	client *http.Client

	etag    string // of the last answer; start and then the own goroutine alone use it
	status  BundleStatus
	problem error // that of the status
}

// BundleStatus tells how a bundle is kept up to date.
type BundleStatus struct {
	Name     string    `json:"name"`
	URL      string    `json:"url"`
	Revision string    `json:"revision,omitempty"` // what its manifest calls it
	Changed  time.Time `json:"changed,omitzero"`   // when the one in use was taken
	Polled   time.Time `json:"polled,omitzero"`    // when the server answered last
	Error    string    `json:"error,omitempty"`    // why the last poll gave nothing
	Refused  bool      `json:"refused,omitempty"`  // it was fetched, and must not be used
	Since    time.Time `json:"since,omitzero"`     // since when Error stands
}

// errRefused marks a bundle that was fetched and must not be used.
var errRefused = errors.New("refused")

func newBundles(o Bundles, keep string) (*bundles, error) {
	b := &bundles{o: o, good: map[string]*content{}}
	if keep != "" {
		b.keep = filepath.Join(keep, "bundles")
	}
	for _, name := range sortedKeys(o.Bundles) {
		p, err := newPolled(name, o.Bundles[name], o.Services)
		if err != nil {
			return nil, fmt.Errorf("bundle %s: %w", name, err)
		}
		b.list = append(b.list, p)
	}
	return b, nil
}

func newPolled(name string, o Bundle, services map[string]Service) (*polled, error) {
	s, ok := services[o.Service]
	if !ok {
		return nil, fmt.Errorf("there is no service %q", o.Service)
	}
	if o.Resource == "" {
		o.Resource = "bundles/" + name
	}
	if o.MinDelay <= 0 {
		o.MinDelay = 60 * time.Second
	}
	if o.MaxDelay <= 0 {
		o.MaxDelay = 120 * time.Second
	}
	o.MaxDelay = max(o.MaxDelay, o.MinDelay)
	if o.SizeLimit <= 0 {
		o.SizeLimit = maxPacked
	}
	if s.HeaderTimeout <= 0 {
		s.HeaderTimeout = 10 * time.Second
	}
	u, err := url.Parse(strings.TrimRight(s.URL, "/") + "/" + strings.TrimLeft(o.Resource, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no http or https URL", s.URL)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: s.HeaderTimeout + o.LongPoll, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true}
	if s.CACert != "" {
		pem, err := os.ReadFile(s.CACert)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", s.CACert)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &polled{name: name, o: o, s: s, url: u.String(), status: BundleStatus{Name: name, URL: u.Redacted()},
		client: &http.Client{Transport: transport, CheckRedirect: sameHost}}, nil
}

// sameHost follows a redirect only where the token may go.
func sameHost(r *http.Request, via []*http.Request) error {
	if first := via[0].URL; r.URL.Host != first.Host || r.URL.Scheme != first.Scheme {
		return fmt.Errorf("the server sends us to %s, another host", r.URL.Host)
	}
	if len(via) == 5 {
		return errors.New("the server sends us around in circles")
	}
	return nil
}

// answer is what a server said; raw is nil when nothing changed.
type answer struct {
	raw  []byte
	etag string
	long bool // it waits for news itself
}

// fetch asks the server for the bundle, unless it is still the one with etag.
func (p *polled) fetch(ctx context.Context, etag string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.s.HeaderTimeout+p.o.LongPoll+time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return answer{}, err
	}
	for k, v := range p.s.Headers {
		r.Header.Set(k, v)
	}
	token := p.s.Token
	if p.s.TokenPath != "" {
		b, err := readFile(p.s.TokenPath, 64<<10)
		if err != nil {
			return answer{}, fmt.Errorf("reading the token: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	prefer := "modes=snapshot"
	if p.o.LongPoll > 0 {
		prefer += ";wait=" + strconv.Itoa(int(p.o.LongPoll.Seconds()))
	}
	r.Header.Set("Prefer", prefer)
	resp, err := p.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{etag: resp.Header.Get("ETag"), long: p.o.LongPoll > 0 && resp.Header.Get("Content-Type") == "application/vnd.openpolicyagent.bundles"}
	switch {
	case resp.StatusCode == http.StatusNotModified:
		a.etag = etag
		return a, nil
	case resp.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("the server answered %s", resp.Status)
	case resp.ContentLength > p.o.SizeLimit:
		return answer{}, fmt.Errorf("%w: the bundle has %d bytes; the bound is %d", errRefused, resp.ContentLength, p.o.SizeLimit)
	}
	a.raw, err = io.ReadAll(io.LimitReader(resp.Body, p.o.SizeLimit+1))
	if err == nil && int64(len(a.raw)) > p.o.SizeLimit {
		err = fmt.Errorf("%w: the bundle has more than %d bytes", errRefused, p.o.SizeLimit)
	}
	return a, err
}

func (b *bundles) file(name string) string { return filepath.Join(b.keep, name+".tar.gz") }

// first is the set to begin with: of bundles that persist the one that was kept,
// of the others what the server has.
func (b *bundles) first(ctx context.Context) (*source, error) {
	for _, p := range b.list {
		c, etag, err := b.begin(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("bundle %s from %s: %w", p.name, p.status.URL, err)
		}
		b.mu.Lock()
		b.good[p.name], p.etag = c, etag
		b.mu.Unlock()
		b.took(p, c)
	}
	return join(b.good)
}

func (b *bundles) begin(ctx context.Context, p *polled) (*content, string, error) {
	if p.o.Persist && b.keep != "" {
		if raw, err := readFile(b.file(p.name), p.o.SizeLimit); err == nil {
			if c, err := readBundle(raw, p.o, b.o.Keys); err == nil {
				return c, "", nil // without an ETag the first poll asks for it anew
			}
		}
	}
	a, err := p.fetch(ctx, "")
	if err != nil {
		return nil, "", err
	}
	c, err := readBundle(a.raw, p.o, b.o.Keys)
	if err == nil {
		err = b.persist(p, a.raw)
	}
	return c, a.etag, err
}

// persist keeps a bundle that was taken.
func (b *bundles) persist(p *polled, raw []byte) error {
	if !p.o.Persist || b.keep == "" {
		return nil
	}
	if err := os.MkdirAll(b.keep, 0o700); err != nil {
		return err
	}
	return writeWhole(b.file(p.name), raw)
}

// took notes a bundle in use.
func (b *bundles) took(p *polled, c *content) {
	b.telling.Lock()
	defer b.telling.Unlock()
	p.status.Revision, p.status.Changed = c.revision, time.Now()
}

// run polls all bundles until ctx ends.
func (b *bundles) run(ctx context.Context, e *Engine) {
	var parts sync.WaitGroup
	for _, p := range b.list {
		parts.Go(func() { b.follow(ctx, e, p) })
	}
	parts.Wait()
}

// follow polls one bundle: at random between the two delays, more and more seldom
// while that fails, and at once where the server itself waits for news.
func (b *bundles) follow(ctx context.Context, e *Engine, p *polled) {
	defer p.client.CloseIdleConnections()
	delay, failed := time.Duration(0), 0
	if p.etag != "" {
		delay = between(p.o.MinDelay, p.o.MaxDelay)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		long, err := b.poll(ctx, e, p)
		if ctx.Err() != nil {
			return
		}
		b.report(e, p, err)
		switch {
		case err != nil:
			longest := min(p.o.MaxDelay, time.Second<<min(failed, 10))
			delay, failed = between(longest/2, longest), failed+1
		case long:
			delay, failed = 0, 0
		default:
			delay, failed = between(p.o.MinDelay, p.o.MaxDelay), 0
		}
	}
}

// between is a time from a to b.
func between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + rand.N(b-a)
}

// poll fetches a bundle and offers the set that it makes with the others.
func (b *bundles) poll(ctx context.Context, e *Engine, p *polled) (long bool, err error) {
	a, err := p.fetch(ctx, p.etag)
	if err != nil {
		return false, err
	}
	if a.raw == nil {
		return a.long, nil
	}
	c, err := readBundle(a.raw, p.o, b.o.Keys)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errRefused, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]*content{}
	for name, c := range b.good {
		all[name] = c
	}
	all[p.name] = c
	if len(all) < len(b.list) {
		b.good, p.etag = all, a.etag
		return a.long, nil // a start from what was accepted, and the others are not there yet
	}
	src, err := join(all)
	if err == nil {
		err = e.offer(src)
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errRefused, err)
	}
	b.good, p.etag = all, a.etag
	b.took(p, c)
	if err := b.persist(p, a.raw); err != nil {
		e.log.Error("a policy bundle could not be kept; a start without its server will use an older one", "bundle", p.name, "error", err)
	}
	return a.long, nil
}

// report notes how a poll went. A server that cannot be reached leaves the last
// good bundle in use, which is no reason for alarm; one that gives what must not
// be used is.
func (b *bundles) report(e *Engine, p *polled, err error) {
	b.telling.Lock()
	now := time.Now()
	st := &p.status
	p.problem = err
	if err == nil {
		st.Error, st.Refused, st.Since, st.Polled = "", false, time.Time{}, now
	} else {
		if st.Error == "" {
			st.Since = now
		}
		st.Error, st.Refused = err.Error(), errors.Is(err, errRefused)
		if st.Refused {
			st.Polled = now
		}
	}
	var refused []error
	for _, one := range b.list {
		if one.status.Refused {
			refused = append(refused, fmt.Errorf("bundle %s: %w", one.name, one.problem))
		}
	}
	b.telling.Unlock()
	e.metrics.polled(p.name, err)
	if err != nil && !errors.Is(err, errRefused) {
		e.log.Warn("a policy bundle could not be fetched, the last good one stays in use", "bundle", p.name, "error", err)
	}
	if problem := errors.Join(refused...); problem != nil || e.Status().Err != nil {
		e.note(problem)
	}
}

// states are how all bundles are.
func (b *bundles) states() []BundleStatus {
	if b == nil {
		return nil
	}
	b.telling.Lock()
	defer b.telling.Unlock()
	list := make([]BundleStatus, len(b.list))
	for i, p := range b.list {
		list[i] = p.status
	}
	return list
}
