package policy

import (
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// capabilities are OPA's builtins without those that reach outside, read the
// clock or draw random numbers: a policy must answer the same to the same input,
// or replay and tests prove nothing. The time of the question is input.time.
var capabilities = sync.OnceValue(func() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	impure := []string{
		"http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "uuid.rfc4122", "time.now_ns",
		"io.jwt.encode_sign", "io.jwt.encode_sign_raw", "io.jwt.decode_verify", // the clock, or random padding
		"crypto.x509.parse_and_verify_certificates", "crypto.x509.parse_and_verify_certificates_with_options",
		"providers.aws.sign_req", "trace",
	}
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		return b.Nondeterministic || slices.Contains(impure, b.Name)
	})
	c.AllowNet = []string{} // no remote schemas either; nil would allow every host
	return c
})
