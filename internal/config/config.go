// Package config turns one YAML file and the environment into a typed, checked
// Config. The JSON schema beside it is the single list of keys: it refuses what
// it does not know with file and line, it is what "behalf config schema" prints,
// and it names the environment variables.
package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config is the whole configuration with its defaults filled in and relative
// paths made absolute.
type Config struct {
	Hostname       string     `json:"hostname"`
	PlatformDomain string     `json:"platform_domain"`
	SendingDomain  string     `json:"sending_domain"`
	PublicURL      string     `json:"public_url"`
	Data           string     `json:"data"`
	Capture        bool       `json:"capture"`
	Listen         Listen     `json:"listen"`
	TLS            TLS        `json:"tls"`
	Admin          KeyFile    `json:"admin"`
	Secrets        KeyFile    `json:"secrets"`
	Resolver       Resolver   `json:"resolver"`
	Egress         Egress     `json:"egress"`
	Store          Store      `json:"store"`
	Policy         Policy     `json:"policy"`
	Platform       Platform   `json:"platform"`
	Submission     Submission `json:"submission"`
	Delivery       Delivery   `json:"delivery"`
	MX             MX         `json:"mx"`
	Inbound        Inbound    `json:"inbound"`
	Upstream       Upstreams  `json:"upstream"`
	Retention      Retention  `json:"retention"`
	Log            Log        `json:"log"`
}

// Listen is where the doors are; an empty list is a door that stays shut.
type Listen struct {
	Submission  Addrs `json:"submission"`
	Submissions Addrs `json:"submissions"`
	HTTP        Addrs `json:"http"`
	Metrics     Addrs `json:"metrics"`
}

// TLS names the certificate; both empty means a self-signed one.
type TLS struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// KeyFile names a key that is made at first start.
type KeyFile struct {
	KeyFile string `json:"key_file"`
}

// Resolver says whom to ask in the DNS.
type Resolver struct {
	Servers []string `json:"servers"`
	Timeout Duration `json:"timeout"`
	TrustAD bool     `json:"trust_ad"`
}

// Egress opens networks besides the public ones.
type Egress struct {
	Allow []netip.Prefix `json:"allow"`
}

// Store names the engine.
type Store struct {
	Engine string `json:"engine"`
}

// Policy says where the admin's rules are; an empty Path means the built-in ones.
type Policy struct {
	Path   string `json:"path"`
	Watch  *bool  `json:"watch"`
	Gate   bool   `json:"gate"`
	Shadow string `json:"shadow"`

	Services map[string]Service   `json:"services"`
	Bundles  map[string]Bundle    `json:"bundles"`
	Keys     map[string]BundleKey `json:"keys"`
}

// Service is a server that bundles come from, with the keys of OPA's own
// configuration.
type Service struct {
	URL         string            `json:"url"`
	Headers     map[string]string `json:"headers"`
	Credentials struct {
		Bearer struct {
			Token     string `json:"token"`
			TokenPath string `json:"token_path"`
		} `json:"bearer"`
	} `json:"credentials"`
	HeaderTimeout int `json:"response_header_timeout_seconds"`
	TLS           struct {
		CACert string `json:"ca_cert"`
	} `json:"tls"`
}

// Bundle is a policy bundle of a service, likewise.
type Bundle struct {
	Service  string `json:"service"`
	Resource string `json:"resource"`
	Persist  bool   `json:"persist"`
	Polling  struct {
		MinDelay int `json:"min_delay_seconds"`
		MaxDelay int `json:"max_delay_seconds"`
		LongPoll int `json:"long_polling_timeout_seconds"`
	} `json:"polling"`
	Signing struct {
		KeyID   string   `json:"keyid"`
		Scope   string   `json:"scope"`
		Exclude []string `json:"exclude_files"`
	} `json:"signing"`
	SizeLimit int64 `json:"size_limit_bytes"`
}

// BundleKey verifies bundles, likewise.
type BundleKey struct {
	Algorithm string `json:"algorithm"`
	Key       string `json:"key"`
	Scope     string `json:"scope"`
}

// Platform is what belongs to the platform itself.
type Platform struct {
	Name       string `json:"name"`
	Notify     string `json:"notify"`
	ReturnPath string `json:"return_path"`
	DKIM       []DKIM `json:"dkim"`
}

// DKIM is one signing key of the sending domain.
type DKIM struct {
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
	Key       string `json:"key"`
}

// Submission bounds what clients may submit.
type Submission struct {
	MaxSize          Size           `json:"max_size"`
	MaxRecipients    int            `json:"max_recipients"`
	MaxSessions      int            `json:"max_sessions"`
	MaxSessionsPerIP int            `json:"max_sessions_per_ip"`
	Proxies          []netip.Prefix `json:"proxies"`
}

// Delivery says how long and how often to try.
type Delivery struct {
	Retry         []Duration `json:"retry"`
	RetryConnect  []Duration `json:"retry_connect"`
	MaxAge        Duration   `json:"max_age"`
	FailoverAfter Duration   `json:"failover_after"`
}

// MX is direct delivery.
type MX struct {
	Port            int          `json:"port"`
	SourceAddresses []netip.Addr `json:"source_addresses"`
	SPF             string       `json:"spf"`
}

// Inbound names the host that takes bounces.
type Inbound struct {
	Host string `json:"host"`
}

// Upstreams are the platform's own ways out.
type Upstreams struct {
	Platform *SMTP `json:"platform"`
}

// SMTP is a submission server, with the keys that a connection has.
type SMTP struct {
	Host          string `json:"host"`
	Port          int    `json:"port"`
	Security      string `json:"security"`
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	CAFile        string `json:"ca_file"`
	AllowInsecure bool   `json:"allow_insecure"`
	Signs         string `json:"signs"`
}

// Retention says how long to keep what is done with.
type Retention struct {
	Bodies           Duration  `json:"bodies"`
	Events           Duration  `json:"events"`
	PolicyInputs     *Duration `json:"policy_inputs"` // 0: nothing is recorded
	PolicyInputsSize Size      `json:"policy_inputs_size"`
}

// Log says what to log and how.
type Log struct {
	Level  string `json:"level"`
	Format string `json:"format"`
}

// Addrs is one host:port or a list of them.
type Addrs []string

// UnmarshalJSON takes a string or a list.
func (a *Addrs) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		err := json.Unmarshal(b, &s)
		*a = Addrs{s}
		return err
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// Duration is a time span such as 90s, 4h or 7d.
type Duration time.Duration

// D is the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// MarshalText writes hours and below.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's form of a duration, or whole days (7d) or weeks (2w).
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := parseDuration(string(b))
	*d = Duration(v)
	return err
}

func parseDuration(s string) (time.Duration, error) {
	day := 24 * time.Hour
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			v, err := strconv.ParseUint(n, 10, 16)
			if err != nil {
				return 0, fmt.Errorf("%q is not a duration such as 90s, 4h or 7d", s)
			}
			return time.Duration(v) * unit, nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 4h or 7d", s)
	}
	return v, nil
}

// Size is a number of octets, written as 36700160 or 35MiB.
type Size int64

// UnmarshalJSON takes a number or a string with a unit.
func (s *Size) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	number := strings.TrimRight(text, "KMGiB ")
	n, err := strconv.ParseInt(number, 10, 62)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 35MiB", text)
	}
	shift, known := map[string]uint{"": 0, "B": 0, "KB": 10, "KiB": 10, "MB": 20, "MiB": 20, "GB": 30, "GiB": 30}[strings.TrimSpace(text[len(number):])]
	if !known || n > 1<<40>>shift {
		return fmt.Errorf("%q is not a size such as 35MiB", text)
	}
	*s = Size(n << shift)
	return nil
}

// Load reads the file and the environment, as os.Environ gives it. With an
// empty path the file is left out and development mode begins: loopback ports,
// ./data, and every message captured.
func Load(path string, environ []string) (*Config, error) {
	src := &source{name: path}
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the working folder: %w", err)
	}
	if path == "" {
		src.name = "the development defaults"
		src.text = []byte(development)
	} else {
		if src.text, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("finding the folder of %s: %w", path, err)
		}
		dir = filepath.Dir(abs)
	}
	doc, err := src.document(environ)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.name, err)
	}
	c := &Config{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("%s: %w", src.name, err)
	}
	c.defaults(dir)
	if err := c.check(src); err != nil {
		return nil, err
	}
	return c, nil
}

// development is the configuration of a relay that was given none.
const development = `
hostname: localhost
platform_domain: platform.test
data: ./data
capture: true
listen:
  submission: 127.0.0.1:2587
  submissions: 127.0.0.1:2465
  http: 127.0.0.1:8025
  metrics: 127.0.0.1:9025
`
