package main

import (
	"fmt"
	"time"

	"behalf/internal/config"
	"behalf/policy"
)

// bundlesOf is where policies come from in place of a folder, its secrets read.
func bundlesOf(c *config.Policy) (policy.Bundles, error) {
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	b := policy.Bundles{Services: map[string]policy.Service{}, Bundles: map[string]policy.Bundle{}, Keys: map[string]policy.Key{}}
	for name, s := range c.Services {
		token, err := secret(s.Credentials.Bearer.Token)
		if err != nil {
			return b, fmt.Errorf("policy.services.%s.credentials.bearer.token: %w", name, err)
		}
		b.Services[name] = policy.Service{URL: s.URL, Headers: s.Headers, Token: token, TokenPath: s.Credentials.Bearer.TokenPath,
			HeaderTimeout: seconds(s.HeaderTimeout), CACert: s.TLS.CACert}
	}
	for name, o := range c.Bundles {
		b.Bundles[name] = policy.Bundle{Service: o.Service, Resource: o.Resource, Persist: o.Persist,
			MinDelay: seconds(o.Polling.MinDelay), MaxDelay: seconds(o.Polling.MaxDelay), LongPoll: seconds(o.Polling.LongPoll),
			KeyID: o.Signing.KeyID, Scope: o.Signing.Scope, Exclude: o.Signing.Exclude, SizeLimit: o.SizeLimit}
	}
	for id, k := range c.Keys {
		key, err := secret(k.Key)
		if err != nil {
			return b, fmt.Errorf("policy.keys.%s.key: %w", id, err)
		}
		b.Keys[id] = policy.Key{Algorithm: k.Algorithm, Key: key, Scope: k.Scope}
	}
	return b, nil
}
