package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"behalf/internal/testkit/cmd/bench/load"
)

// behalf is the relay under test.
type behalf struct {
	program, dir, data string
	policies           string // the default ones, as files
	submission, http   int
	mxPort             int
	dns                *zone
	client             *http.Client
	key                string
}

// setup is what the relay is told, beside its defaults.
type setup struct {
	resources string
	config    string
	rules     []string // Rego besides the default policies; nil: those as they are built in
}

// relay is a server under test that runs.
type relay struct {
	name     string
	addr     string
	accounts []load.Account
	pids     []int
	stop     func() error
	gone     func() bool                 // it has ended by itself
	flush    func(context.Context) error // try again what waits
	signs    bool
}

// aim sends a load to the relay.
func (r *relay) aim(l load.Load) load.Load {
	l.Addr = r.addr
	if l.Accounts == nil {
		l.Accounts = r.accounts
	}
	return l
}

// newBehalf makes a folder, and a DNS for what will run there.
func (b *bench) newBehalf(name string) (*behalf, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	r := &behalf{program: b.program, dir: dir, data: filepath.Join(dir, "data"), policies: b.policies, mxPort: b.sink.Port(),
		client: &http.Client{Timeout: 10 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	for _, p := range []*int{&r.submission, &r.http} {
		if *p, err = freePort(); err != nil {
			return nil, err
		}
	}
	r.dns, err = newZone()
	return r, err
}

// start starts a relay in a folder of its own; stop ends both.
func (b *bench) start(ctx context.Context, name string, s setup) (ours *behalf, r *relay, stop func() error, err error) {
	if ours, err = b.newBehalf(name); err != nil {
		return nil, nil, nil, err
	}
	if r, err = ours.run(ctx, s); err != nil {
		return nil, nil, nil, errors.Join(err, ours.close())
	}
	return ours, r, func() error { return errors.Join(r.stop(), ours.close()) }, nil
}

// close ends the DNS and removes what the relay left; it has been stopped.
func (b *behalf) close() error {
	b.client.CloseIdleConnections()
	return errors.Join(b.dns.close(), os.RemoveAll(b.dir))
}

// write writes the configuration.
func (b *behalf) write(s setup) error {
	config := fmt.Sprintf("hostname: relay.bench.test\nplatform_domain: bench.test\ndata: %s\nlisten: { submission: \"127.0.0.1:%d\", http: \"127.0.0.1:%d\" }\n"+
		"resolver: { servers: [\"%s\"] }\negress: { allow: [127.0.0.0/8] }\nmx: { port: %d }\n%s",
		b.data, b.submission, b.http, b.dns.addr, b.mxPort, s.config)
	if s.rules != nil {
		dir, err := b.rules(s.rules)
		if err != nil {
			return err
		}
		config += "policy: { path: " + dir + " }\n"
	}
	return errors.Join(
		os.WriteFile(filepath.Join(b.dir, "behalf.yaml"), []byte(config), 0o644),
		os.WriteFile(filepath.Join(b.dir, "tenants.yaml"), []byte(strings.TrimSuffix(s.resources, "---\n")), 0o644))
}

// rules copies the default policies and adds some. The plan enterprise gets
// what its operator would give a tenant that mails many new people.
func (b *behalf) rules(more []string) (dir string, err error) {
	dir = filepath.Join(b.dir, "policies")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(b.policies, "*.rego"))
	if err != nil || len(files) == 0 {
		return "", errors.Join(err, fmt.Errorf("there are no policies in %q: name their folder with -policies", b.policies))
	}
	for _, f := range append(files, filepath.Join(b.policies, "data.yaml")) {
		if strings.HasSuffix(f, "_test.rego") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		text = []byte(strings.Replace(string(text), "\n  enterprise:\n", "\n  enterprise:\n    usual_new_recipients_per_day: 100000000\n", 1))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), text, 0o644); err != nil {
			return "", err
		}
	}
	for i, text := range more {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("bench%d.rego", i)), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// run writes the configuration and starts the relay.
func (b *behalf) run(ctx context.Context, s setup) (*relay, error) {
	if err := b.write(s); err != nil {
		return nil, err
	}
	r, err := b.launch()
	if err != nil {
		return nil, err
	}
	return r, b.wait(ctx, r)
}

// wait waits until the relay is ready, and stops it if it does not get so.
func (b *behalf) wait(ctx context.Context, r *relay) error {
	err := b.ready(ctx, r, time.Minute)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(b.dir, filepath.Base(b.program)+".log")) // for the message
		return errors.Join(err, r.stop(), fmt.Errorf("its log: %s", log[max(0, len(log)-2000):]))
	}
	return nil
}

// launch starts the relay, on what it left when it ran before.
func (b *behalf) launch() (*relay, error) {
	p, err := spawn(b.dir, b.program, "serve", "--config", filepath.Join(b.dir, "behalf.yaml"), "--apply", filepath.Join(b.dir, "tenants.yaml"))
	if err != nil {
		return nil, err
	}
	return &relay{name: "Behalf", addr: "127.0.0.1:" + strconv.Itoa(b.submission), accounts: []load.Account{plainAccount("plain")},
		pids: []int{p.pid}, stop: p.stop, gone: p.gone, flush: b.retryAll}, nil
}
