package mail

import "time"

// EventType names a fact, as webhooks and the timeline show it.
type EventType string

// The events of a message.
const (
	EventAccepted   EventType = "message.accepted"
	EventDelivered  EventType = "message.delivered"
	EventDeferred   EventType = "message.deferred"
	EventFailover   EventType = "message.failover" // deferred, and the next wish is tried
	EventFailed     EventType = "message.failed"
	EventExpired    EventType = "message.expired"
	EventHeld       EventType = "message.held"
	EventPaced      EventType = "message.paced" // policy or a limit delays it
	EventReleased   EventType = "message.released"
	EventRetried    EventType = "message.retried" // an operator asked for a try now
	EventCancelled  EventType = "message.cancelled"
	EventSuppressed EventType = "message.suppressed"
	EventDiscarded  EventType = "message.discarded"
	EventBounced    EventType = "message.bounced"
	EventDelayed    EventType = "message.delayed"  // late by the clock, whatever the cause
	EventReported   EventType = "message.reported" // a DSN or notice about it was sent

	EventUnsubscribed EventType = "message.unsubscribed" // the recipient said so, by one click
)

// The events of a tenant's limits. Their message is the one that reached the
// threshold; none where it was refused.
const (
	EventLimitWarning EventType = "limit.warning" // 75 or 90 percent are used
	EventLimitReached EventType = "limit.reached" // somebody was refused, delayed or held
)

// EventUnusual begins an episode of unusual mail; its message is the first that
// is held.
const EventUnusual EventType = "tenant.unusual"

// Event is an immutable fact about a message. One is written in the same
// transaction as what it tells of; followers read them in the order of Seq.
type Event struct {
	Seq     uint64    `json:"seq" cbor:"1,keyasint"`
	At      time.Time `json:"at" cbor:"2,keyasint"`
	Type    EventType `json:"type" cbor:"3,keyasint"`
	Message ID        `json:"message,omitzero" cbor:"4,keyasint"`
	// Recipients are the indices of those it concerns; none means all.
	Recipients []int       `json:"recipients,omitempty" cbor:"5,keyasint,omitempty"`
	Accepted   *Acceptance `json:"accepted,omitempty" cbor:"6,keyasint,omitempty"`
	Attempt    *Attempt    `json:"attempt,omitempty" cbor:"7,keyasint,omitempty"`
	Next       time.Time   `json:"next,omitzero" cbor:"8,keyasint,omitempty"`
	Reason     string      `json:"reason,omitempty" cbor:"9,keyasint,omitempty"`
	Actor      string      `json:"actor,omitempty" cbor:"10,keyasint,omitempty"`   // who did it, for operations
	Related    string      `json:"related,omitempty" cbor:"11,keyasint,omitempty"` // id of the DSN or notice
	// Success is set where a recipient asked to be told of delivery
	// (NOTIFY=SUCCESS), so that followers can pass over all other deliveries.
	Success bool `json:"-" cbor:"12,keyasint,omitempty"`
	// Tenant is whose it is, where there is no message to tell.
	Tenant TenantID    `json:"-" cbor:"13,keyasint,omitempty"`
	Limit  *LimitEvent `json:"limit,omitempty" cbor:"14,keyasint,omitempty"`
}

// Owner is whose event it is.
func (e *Event) Owner() TenantID {
	if e.Message.IsZero() {
		return e.Tenant
	}
	return e.Message.Tenant()
}

// LimitEvent is a limit of which much is used.
type LimitEvent struct {
	Rule    string    `json:"rule" cbor:"1,keyasint"` // file:rule
	Key     []string  `json:"key" cbor:"2,keyasint"`  // who or what is counted
	Count   string    `json:"count" cbor:"3,keyasint"`
	Rate    float64   `json:"rate" cbor:"4,keyasint"` // that many in Per
	Per     string    `json:"per" cbor:"5,keyasint"`
	Used    int64     `json:"used,omitempty" cbor:"6,keyasint"`
	Allowed int64     `json:"allowed" cbor:"7,keyasint"` // at once
	Percent int       `json:"percent" cbor:"8,keyasint"` // the threshold: 75, 90 or 100
	Reset   time.Time `json:"reset,omitzero" cbor:"9,keyasint,omitempty"`
	// Shared is set where others count in it too, see [Event.ToTenant].
	Shared bool `json:"shared,omitempty" cbor:"10,keyasint,omitempty"`
}

// ToTenant is the event as its tenant may see it; ok is false if it may not. Of
// a limit that it shares with others it hears that it reached it, but not how
// much others use.
func (e Event) ToTenant() (seen Event, ok bool) {
	if e.Limit == nil || !e.Limit.Shared {
		return e, true
	}
	if e.Type != EventLimitReached {
		return e, false
	}
	l := *e.Limit
	l.Used, l.Reset = 0, time.Time{}
	e.Limit = &l
	return e, true
}

// Acceptance is what was known and decided when a message was accepted.
type Acceptance struct {
	Client string `json:"client,omitempty" cbor:"1,keyasint,omitempty"` // address of the submitting client
	Helo   string `json:"helo,omitempty" cbor:"2,keyasint,omitempty"`
	TLS    string `json:"tls,omitempty" cbor:"3,keyasint,omitempty"`
	// Policy is what the stages decided, in order.
	Policy []Ruling `json:"policy,omitempty" cbor:"4,keyasint,omitempty"`
	// Choices are the methods considered, upstream by upstream, with the reason
	// for or against each.
	Choices   []Choice  `json:"choices,omitempty" cbor:"5,keyasint,omitempty"`
	Alignment Alignment `json:"alignment" cbor:"6,keyasint"`
}

// Ruling is the outcome of one policy stage.
type Ruling struct {
	Package  string   `json:"package" cbor:"1,keyasint"`
	Decision string   `json:"decision" cbor:"2,keyasint"` // accept, deny, defer, discard, hold, pace
	Rules    []string `json:"rules,omitempty" cbor:"3,keyasint,omitempty"`
	Detail   string   `json:"detail,omitempty" cbor:"4,keyasint,omitempty"`
	Digest   string   `json:"digest,omitempty" cbor:"5,keyasint,omitempty"` // of the policy set
	About    string   `json:"about,omitempty" cbor:"6,keyasint,omitempty"`  // the recipient that was asked about
	Tags     []string `json:"tags,omitempty" cbor:"7,keyasint,omitempty"`
	Warnings []string `json:"warnings,omitempty" cbor:"8,keyasint,omitempty"` // told to the client
	Rewrites []string `json:"rewrites,omitempty" cbor:"9,keyasint,omitempty"` // of the header
}

// Choice says whether a method holds at an upstream, and why.
type Choice struct {
	Upstream UpstreamID `json:"upstream" cbor:"1,keyasint"`
	Method   Method     `json:"method" cbor:"2,keyasint"`
	Holds    bool       `json:"holds" cbor:"3,keyasint"`
	Chosen   bool       `json:"chosen,omitempty" cbor:"4,keyasint,omitempty"`
	Why      string     `json:"why" cbor:"5,keyasint"`
}

// Alignment is what a receiver is expected to conclude about the first wish.
type Alignment struct {
	From  string `json:"from" cbor:"1,keyasint"` // domain of the visible From
	SPF   string `json:"spf" cbor:"2,keyasint"`
	DKIM  string `json:"dkim" cbor:"3,keyasint"`
	DMARC string `json:"dmarc" cbor:"4,keyasint"`
}
