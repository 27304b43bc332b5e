package tenant

// DMARC is the policy that governs a From domain, as found in the DNS by the
// tree walk of RFC 9989.
type DMARC struct {
	Domain string // where the record stands; empty if there is none
	Org    string // the organizational domain of the From domain
	Policy Policy // effective, with sp and np applied
	ADKIM  Mode
	ASPF   Mode
	Record string // as found
}

// Policy is what a domain asks for mail that fails DMARC.
type Policy string

// The policies. PolicyUnknown says that the DNS could not tell.
const (
	PolicyUnknown    Policy = ""
	PolicyAbsent     Policy = "absent"
	PolicyNone       Policy = "none"
	PolicyQuarantine Policy = "quarantine"
	PolicyReject     Policy = "reject"
)

// Enforced reports whether failing mail is to be quarantined or rejected.
func (p Policy) Enforced() bool { return p == PolicyQuarantine || p == PolicyReject }

// Mode is how exactly an identifier must match the From domain.
type Mode string

// The modes; the zero Mode counts as relaxed.
const (
	Relaxed Mode = "relaxed"
	Strict  Mode = "strict"
)
