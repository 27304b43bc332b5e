package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "behalf.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const minimal = "hostname: relay.platform.example\nlisten: { http: 127.0.0.1:0 }\n"

func TestLoadFillsDefaults(t *testing.T) {
	path := write(t, minimal+"retention: { bodies: 3d }\nsubmission: { max_size: 10MiB }\n")
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	for _, v := range []struct{ what, got, want string }{
		{"platform_domain", c.PlatformDomain, "platform.example"},
		{"sending_domain", c.SendingDomain, "send.platform.example"},
		{"data", c.Data, filepath.Join(dir, "data")},
		{"admin.key_file", c.Admin.KeyFile, filepath.Join(dir, "data", "admin.key")},
		{"secrets.key_file", c.Secrets.KeyFile, filepath.Join(dir, "data", "master.key")},
		{"platform.notify", c.Platform.Notify, "postmaster@platform.example"},
		{"listen.metrics", c.Listen.Metrics[0], "127.0.0.1:0"},
		{"retention.bodies", c.Retention.Bodies.D().String(), (72 * time.Hour).String()},
		{"public_url", c.PublicURL, "http://127.0.0.1:0"},
	} {
		if v.got != v.want {
			t.Errorf("%s = %q, want %q", v.what, v.got, v.want)
		}
	}
	if c.Submission.MaxSize != 10<<20 {
		t.Errorf("max_size = %d", c.Submission.MaxSize)
	}
}

func TestEnvironmentOverridesEveryKey(t *testing.T) {
	path := write(t, minimal)
	c, err := Load(path, []string{
		"BEHALF_LISTEN_SUBMISSION=127.0.0.1:2587", "BEHALF_DELIVERY_MAX_AGE=2h", "BEHALF_MX_PORT=2525",
		"BEHALF_EGRESS_ALLOW=[127.0.0.0/8]", "BEHALF_LISTEN_HTTP=[127.0.0.1:1, '127.0.0.1:2']", "BEHALF_UPSTREAM_PLATFORM_HOST=smtp.example",
		"BEHALF_HOSTNAME=other.example", "UNRELATED=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen.Submission[0] != "127.0.0.1:2587" || c.Delivery.MaxAge.D() != 2*time.Hour || c.MX.Port != 2525 ||
		len(c.Egress.Allow) != 1 || len(c.Listen.HTTP) != 2 || c.Upstream.Platform.Port != 587 || c.Hostname != "other.example" {
		t.Errorf("%+v", c)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, v := range map[string]struct {
		text, env string
		want      []string
	}{
		"unknown key":       {text: minimal + "delivery:\n  max_aeg: 1h\n", want: []string{"behalf.yaml:4", `unknown key "delivery.max_aeg"`, `"max_age"`}},
		"unknown top key":   {text: minimal + "hostnam: x\n", want: []string{"behalf.yaml:3", `"hostname"`}},
		"wrong type":        {text: minimal + "mx:\n  port: many\n", want: []string{"behalf.yaml:4", "mx.port"}},
		"bad duration":      {text: minimal + "delivery: { max_age: soon }\n", want: []string{"behalf.yaml:3", "delivery.max_age"}},
		"bad address":       {text: "hostname: a.example\nlisten:\n  http: 8025\n", want: []string{"behalf.yaml:3", "listen.http"}},
		"bad list item":     {text: minimal + "egress:\n  allow:\n    - 10.0.0.0/8\n    - ten\n", want: []string{"behalf.yaml:6", "egress.allow.1"}},
		"no YAML":           {text: "hostname: [", want: []string{"behalf.yaml:1"}},
		"same key twice":    {text: minimal + "hostname: b.example\n", want: []string{"behalf.yaml:3", "hostname"}},
		"one address twice": {text: "hostname: a.example\nlisten:\n  http: 127.0.0.1:8025\n  submission: 127.0.0.1:8025\n", want: []string{"behalf.yaml:3", "listen.http", "listen.submission"}},
		"variable misspelt": {text: minimal, env: "BEHALF_LISTEN_SUBMISION=127.0.0.1:1", want: []string{"BEHALF_LISTEN_SUBMISION", "did you mean BEHALF_LISTEN_SUBMISSION"}},
		"no door":           {text: "hostname: a.example\n", want: []string{"no door is open"}},
		"bad variable":      {text: minimal, env: "BEHALF_MX_PORT=many", want: []string{"environment variable BEHALF_MX_PORT"}},
		"missing cert":      {text: minimal + "tls: { cert: c.pem, key: k.pem }\n", want: []string{"behalf.yaml:3", "no such file"}},
		"half a cert":       {text: minimal + "tls: { cert: c.pem }\n", want: []string{"behalf.yaml:3", "key"}},
		"password in clear": {text: minimal + "upstream: { platform: { host: smtp.example, security: none, password: p } }\n", want: []string{"behalf.yaml:3", "never travels without TLS"}},
		"retention":         {text: minimal + "retention: { bodies: 9d, events: 1d }\n", want: []string{"behalf.yaml:3", "retention.events"}},
		"bundle and folder": {text: minimal + "policy:\n  path: p\n  services: {s: {url: https://s.example}}\n  bundles: {b: {service: s}}\n", want: []string{"behalf.yaml:4", "policy.path", "leave out"}},
		"no such service":   {text: minimal + "policy:\n  bundles: {b: {service: t}}\n", want: []string{"behalf.yaml:4", `no service "t"`}},
		"no such key":       {text: minimal + "policy:\n  services: {s: {url: https://s.example}}\n  bundles: {b: {service: s, signing: {keyid: k}}}\n", want: []string{"behalf.yaml:5", `no key "k"`}},
		"key of a bundle":   {text: minimal + "policy:\n  services: {s: {url: https://s.example}}\n  bundles: {b: {service: s, persits: true}}\n", want: []string{"behalf.yaml:5", "persits", `did you mean "persist"`}},
		"unseen gate":       {text: minimal + "policy: {gate: true}\nretention:\n  policy_inputs: 0s\n", want: []string{"behalf.yaml:3", "policy.gate", "retention.policy_inputs"}},
		"draft in force":    {text: minimal + "policy: {path: p, shadow: p}\n", want: []string{"behalf.yaml:3", "policy.shadow"}},
		"same domain":       {text: minimal + "platform_domain: a.example\nsending_domain: a.example\n", want: []string{"behalf.yaml:4"}},
	} {
		t.Run(name, func(t *testing.T) {
			var env []string
			if v.env != "" {
				env = []string{v.env}
			}
			_, err := Load(write(t, v.text), env)
			if err == nil {
				t.Fatal("loaded")
			}
			for _, w := range v.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
		})
	}
}

func TestFlowStyleAddresses(t *testing.T) {
	c, err := Load(write(t, minimal+"resolver: { servers: [127.0.0.1:53, '[::1]:53'], timeout: 5s }\n"), nil)
	if err != nil || len(c.Resolver.Servers) != 2 || c.Resolver.Servers[0] != "127.0.0.1:53" {
		t.Fatalf("%v %v", c, err)
	}
}

func TestDevelopmentMode(t *testing.T) {
	t.Chdir(t.TempDir())
	c, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Capture || c.Listen.Submission[0] != "127.0.0.1:2587" || filepath.Base(c.Data) != "data" {
		t.Errorf("%+v", c)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(minimal)
	f.Add("listen: {submission: [a, b]}\ndelivery: {retry: [5m]}")
	f.Fuzz(func(t *testing.T, text string) {
		src := &source{name: "fuzz", text: []byte(text)}
		_, _ = src.document(nil) // must neither panic nor hang
	})
}
