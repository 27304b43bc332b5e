package relaytest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"behalf/internal/dnsx"
	"behalf/upstream"
)

// DNS is a dnsx.Resolver over records that a test sets.
type DNS struct {
	mu    sync.Mutex
	txt   map[string][]string
	mx    map[string][]dnsx.MX
	fails map[string]bool
	asked int
}

// NewDNS makes one without records.
func NewDNS() *DNS {
	return &DNS{txt: map[string][]string{}, mx: map[string][]dnsx.MX{}, fails: map[string]bool{}}
}

// TXTRecord sets the TXT records of a name; none removes them.
func (d *DNS) TXTRecord(name string, values ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.txt[name] = values
}

// MXRecord sets the MX of a name; none removes it.
func (d *DNS) MXRecord(name string, hosts ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mx[name] = nil
	for _, h := range hosts {
		d.mx[name] = append(d.mx[name], dnsx.MX{Pref: 10, Host: h})
	}
}

// Fail makes every question for name fail, or work again.
func (d *DNS) Fail(name string, yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails[name] = yes
}

// Asked counts the questions so far.
func (d *DNS) Asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// answer begins every answer.
func (d *DNS) answer(name string) (dnsx.Answer, error) {
	d.asked++
	if d.fails[name] {
		return dnsx.Answer{}, fmt.Errorf("%s: %w", name, dnsx.ErrTemporary)
	}
	none := len(d.txt[name]) == 0 && len(d.mx[name]) == 0
	return dnsx.Answer{NXDomain: none, TTL: time.Hour}, nil
}

// TXT implements dnsx.Resolver.
func (d *DNS) TXT(_ context.Context, name string) ([]string, dnsx.Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, err := d.answer(name)
	if err != nil {
		return nil, a, err
	}
	return d.txt[name], a, nil
}

// MX implements dnsx.Resolver.
func (d *DNS) MX(_ context.Context, name string) ([]dnsx.MX, dnsx.Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, err := d.answer(name)
	if err != nil {
		return nil, a, err
	}
	return d.mx[name], a, nil
}

// Addrs implements dnsx.Resolver.
func (d *DNS) Addrs(_ context.Context, name string) ([]netip.Addr, dnsx.Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, err := d.answer(name)
	return nil, a, err
}

// CNAME implements dnsx.Resolver.
func (d *DNS) CNAME(_ context.Context, name string) (string, dnsx.Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, err := d.answer(name)
	return "", a, err
}

// PTR implements dnsx.Resolver.
func (d *DNS) PTR(context.Context, netip.Addr) ([]string, dnsx.Answer, error) {
	return nil, dnsx.Answer{NXDomain: true, TTL: time.Hour}, nil
}

// Nowhere is a way out that nothing is sent through.
type Nowhere struct{}

// Deliver implements upstream.Upstream.
func (Nowhere) Deliver(_ context.Context, j *upstream.Job) []upstream.Result {
	panic(errors.New("relaytest: nothing is delivered here"))
}

// Traits implements upstream.Upstream.
func (Nowhere) Traits() upstream.Traits { return upstream.Traits{} }

// Site is the domain itself.
func (Nowhere) Site(_ context.Context, domain string) (string, error) { return domain, nil }
