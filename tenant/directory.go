package tenant

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"behalf/internal/keyring"
	"behalf/internal/kv"
	"behalf/mail"
)

// Options of a Directory. The zero value works.
type Options struct {
	PlatformDomain  string          // no tenant can have it, nor anything below
	SendingDomain   string          // likewise; its keys are tenant 0's
	PlatformRoute   bool            // there is a platform smart host: it ends default routes
	DefaultUpstream mail.UpstreamID // begins default routes instead of mx
	Log             *slog.Logger
	// RSA gives another signer for an RSA key that was opened, which makes the
	// same signatures; nil: none. It is called once a key.
	RSA func(*rsa.PrivateKey) crypto.Signer
	// Connection is told of a connection that was made or changed, its password
	// included, once that is stored; nil: nobody. It must not wait.
	Connection func(t mail.TenantID, name string)
}

// Directory keeps tenants and all that belongs to them. Its methods may be
// called from many goroutines.
type Directory struct {
	store        kv.Store
	keys         *keyring.Keyring
	options      Options
	defaultRoute []Way
	views        *views
	whose        *whose
	used         *usage
	pepper       [32]byte // of MACs of secrets
	decoy        [32]byte // makes verifiers of users that do not exist
	log          *slog.Logger
	newID        func() mail.TenantID // at random
}

// Open reads the directory from st. It fails when kr is not the keyring that
// the store's secrets were sealed with, and first finishes what an earlier
// process left half deleted.
func Open(ctx context.Context, st kv.Store, kr *keyring.Keyring, o Options) (*Directory, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.PlatformDomain, o.SendingDomain = strings.ToLower(o.PlatformDomain), strings.ToLower(o.SendingDomain)
	first := o.DefaultUpstream
	if first == "" {
		first = mail.UpstreamMX
	}
	d := &Directory{
		store: st, keys: kr, options: o, log: o.Log, newID: newTenantID,
		defaultRoute: []Way{{Upstream: first}},
		views:        newViews(),
		whose:        newWhose(),
		used:         newUsage(),
		pepper:       kr.Derive("credential pepper"),
		decoy:        kr.Derive("credential decoy"),
	}
	if o.PlatformRoute && first != mail.UpstreamPlatform {
		d.defaultRoute = append(d.defaultRoute, Way{Upstream: mail.UpstreamPlatform})
	}
	if err := d.checkKeyring(ctx); err != nil {
		return nil, err
	}
	if err := d.resumeDeletes(ctx); err != nil {
		return nil, fmt.Errorf("removing what a deleted tenant left: %w", err)
	}
	return d, nil
}

// checkKeyring opens a value that was sealed at the first start.
func (d *Directory) checkKeyring(ctx context.Context) error {
	const field, text = "check", "behalf"
	key := resourceKey(0, "keyring", field)
	fresh, err := d.keys.Seal(0, "keyring", field, []byte(text))
	if err != nil {
		return err
	}
	var sealed []byte
	err = d.store.Update(ctx, func(w kv.Writer) error {
		v, err := w.Get(key)
		if errors.Is(err, kv.ErrNotFound) {
			sealed = fresh
			return w.Put(key, fresh)
		}
		sealed = append([]byte(nil), v...)
		return err
	})
	if err != nil {
		return fmt.Errorf("opening the directory: %w", err)
	}
	if _, err := d.keys.Open(0, "keyring", field, sealed); err != nil {
		return fmt.Errorf("this master key is not the one that the store's secrets were sealed with; put back the right key file (secrets.key_file): %w", err)
	}
	return nil
}

// Run writes down lazily when credentials were used, until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	tick := time.NewTicker(usedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return d.writeUsed(last)
		case <-tick.C:
			if err := d.writeUsed(ctx); err != nil && ctx.Err() == nil {
				d.log.Warn("the last use of credentials could not be written down", "error", err)
			}
		}
	}
}
