package policy

import (
	"fmt"
	"slices"
	"time"

	"behalf/mail"
)

// Action is what shall become of what was asked about. Greater beats smaller.
type Action uint8

// The actions.
const (
	Accept  Action = iota
	Pace           // accept, and send not before Until
	Hold           // accept, and keep until released
	Discard        // accept, and drop
	Defer          // refuse for now
	Deny           // refuse for good
)

var actionNames = [...]string{"accept", "pace", "hold", "discard", "defer", "deny"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action %d", a)
}

// MarshalText is String, for JSON.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Action) UnmarshalText(b []byte) error {
	i := slices.Index(actionNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("action %q is not known", b)
	}
	*a = Action(i)
	return nil
}

// Decision is what a stage's rules said, taken together.
type Decision struct {
	Action   Action        `json:"action"`
	Code     int           `json:"code,omitempty"` // of Deny and Defer: 5xx, 4xx
	Enhanced mail.Enhanced `json:"enhanced,omitzero"`
	// Reason is for the client, one line of printable text; Detail for the log.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Rules are all that fired, as file:rule, sorted; the one that decided
	// first.
	Rules []string `json:"rules,omitempty"`
	// Until is when a paced message may go: the latest of all that paced it.
	Until   time.Time `json:"until,omitzero"`
	UntilBy string    `json:"until_by,omitempty"` // the rule of that, as file:rule
	// ReleaseAt is when a held message goes by itself: the latest of all that
	// held it, zero when one of them named no time.
	ReleaseAt time.Time `json:"release_at,omitzero"`
	// OnlyNew: the hold concerns only recipients that the tenant has not mailed
	// of late; the others of the message go.
	OnlyNew  bool              `json:"only_new,omitempty"`
	Limits   []Limit           `json:"limits,omitempty"`
	Route    []mail.UpstreamID `json:"route,omitempty"`   // upstreams asked for, best first; not yet checked against the tenant
	Methods  []mail.Method     `json:"methods,omitempty"` // likewise
	Tags     []string          `json:"tags,omitempty"`
	Edits    []mail.Edit       `json:"edits,omitempty"` // never of From or of what makes the message itself
	Warnings []string          `json:"warnings,omitempty"`
	Score    float64           `json:"score,omitempty"`  // sum of Points; of mail that arrives
	Points   []ScorePoints     `json:"points,omitempty"` // by name
	Digest   string            `json:"digest"`           // of the policy set
}

// ScorePoints are what one rule adds to the score of a message that arrives.
type ScorePoints struct {
	Rule   string  `json:"rule"` // file:rule
	Name   string  `json:"name"`
	Points float64 `json:"points"` // less than zero speaks for the message
}

// Over says what happens to what is over a limit.
type Over string

// The values of Over.
const (
	OverDefer Over = "defer" // refused for now
	OverPace  Over = "pace"  // sent when the limit allows it
	OverHold  Over = "hold"  // held until the limit allows it
)

// Count says what a limit counts.
type Count string

// The values of Count.
const (
	CountMessages   Count = "messages"
	CountRecipients Count = "recipients"
	CountBytes      Count = "bytes"
)

// Limit is an obligation: the caller reserves it before it accepts.
type Limit struct {
	Rule  string        `json:"rule"` // file:rule
	Key   []string      `json:"key"`  // who or what is counted
	Count Count         `json:"count"`
	Rate  float64       `json:"rate"` // that many in Per, over zero
	Per   time.Duration `json:"per"`
	Burst int64         `json:"burst"` // that many at once, at least 1
	Over  Over          `json:"over"`
	// MaxWait bounds the wait of OverPace and OverHold; who would wait longer is
	// deferred. Zero: no bound.
	MaxWait time.Duration `json:"max_wait,omitempty"`
}

// Failure is the refusal to tell the client; nil unless the decision is Deny or
// Defer.
func (d *Decision) Failure() *mail.Failure {
	if d.Action != Deny && d.Action != Defer {
		return nil
	}
	return &mail.Failure{Code: d.Code, Enhanced: d.Enhanced, Text: d.Reason, Scope: mail.OfMessage, Reason: mail.ReasonPolicy}
}

// Ruling is the decision as the timeline of a message keeps it.
func (d *Decision) Ruling(pkg string) mail.Ruling {
	r := mail.Ruling{Package: pkg, Decision: d.Action.String(), Rules: d.Rules, Detail: d.Detail, Digest: d.Digest, Tags: d.Tags, Warnings: d.Warnings}
	for _, e := range d.Edits {
		r.Rewrites = append(r.Rewrites, editText(e))
	}
	return r
}
