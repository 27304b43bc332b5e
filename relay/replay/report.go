package replay

import (
	"cmp"
	"slices"
	"time"

	"behalf/mail"
	"behalf/policy"
	"behalf/policy/journal"
)

// Report is what a replay found. A decision is one question to one stage.
type Report struct {
	Digest string    `json:"digest" doc:"Of the set that was asked."`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`

	Transactions int `json:"transactions" doc:"Recorded transactions that were read."`
	Decisions    int `json:"decisions" doc:"Recorded decisions that were read; the sum of the next four."`
	Same         int `json:"same" doc:"Decided alike."`
	Differing    int `json:"differing" doc:"Decided differently."`
	NotReached   int `json:"not_reached" doc:"Not asked, because the transaction would have ended before."`
	Undecidable  int `json:"undecidable" doc:"Not asked, because the set reads facts that were not gathered then."`
	Errors       int `json:"errors" doc:"Of those that differ, how many the set could not decide."`

	MissingFacts []FactCount   `json:"missing_facts,omitempty" doc:"The facts that were not gathered."`
	Tenants      []TenantCount `json:"tenants,omitempty" doc:"Those with most differences first."`
	Rules        []RuleCount   `json:"rules,omitempty" doc:"Kinds of differences, the most frequent first."`
	Limits       []LimitCount  `json:"limits,omitempty" doc:"Limits that would have stopped more or fewer messages, as simulated."`
	Examples     []Example     `json:"examples,omitempty" doc:"Some decisions that differ, of every kind."`

	Unreadable int               `json:"unreadable" doc:"Stretches of the record that are damaged or of another version."`
	Skipped    []journal.Skipped `json:"skipped,omitempty" doc:"The first of them."`
	// Approximate is set when there were more limit keys than the simulation holds.
	Approximate bool `json:"limits_approximate,omitempty" doc:"There were more limit keys than the simulation holds."`
}

// Clean reports that nothing differs, as far as everything could be decided.
func (r *Report) Clean() bool { return r.Differing == 0 && r.Undecidable == 0 && len(r.Limits) == 0 }

// FactCount is a fact that the set reads and that was not gathered.
type FactCount struct {
	Fact      string `json:"fact"`
	Decisions int    `json:"decisions"`
}

// TenantCount is the part of one tenant.
type TenantCount struct {
	Tenant      string `json:"tenant"`
	Decisions   int    `json:"decisions"`
	Differing   int    `json:"differing"`
	Undecidable int    `json:"undecidable"`
}

// RuleCount is one kind of difference.
type RuleCount struct {
	Package   string `json:"package"`
	Was       string `json:"was" doc:"The action then."`
	WasRule   string `json:"was_rule,omitempty"`
	Would     string `json:"would" doc:"The action of the set; error: it could not decide."`
	WouldRule string `json:"would_rule,omitempty"`
	Decisions int    `json:"decisions"`
}

// LimitCount is how many messages of a tenant one limit would have stopped.
type LimitCount struct {
	Tenant string `json:"tenant"`
	Rule   string `json:"rule"`
	Was    Stops  `json:"was"`
	Would  Stops  `json:"would"`
}

// Stops counts messages, each once, of which a limit stopped all or a part.
type Stops struct {
	Deferred int `json:"deferred"`
	Paced    int `json:"paced"`
	Held     int `json:"held"`
}

// Example is one decision that differs.
type Example struct {
	Time       time.Time          `json:"time"`
	Package    string             `json:"package"`
	Tenant     string             `json:"tenant"`
	Credential string             `json:"credential"`
	Message    mail.ID            `json:"message,omitzero" doc:"The message, if it was accepted and its record is whole."`
	From       string             `json:"from,omitempty" doc:"MAIL FROM, at the message stage the header From."`
	Recipient  string             `json:"recipient,omitempty"`
	Subject    string             `json:"subject,omitempty"`
	Difference *policy.Difference `json:"difference"`
}

const (
	maxTenants = 10_000 // that are told apart
	maxKinds   = 500    // of differences that are told apart
	maxLimits  = 10_000 // of tenant and rule
	shownMost  = 100    // of each list in a report
	others     = "(others)"
)

// tally gathers a report in bounded memory.
type tally struct {
	Report
	most     int // examples
	facts    map[string]int
	tenants  map[string]*TenantCount
	kinds    map[RuleCount]*kind // by everything but the count
	limits   map[[2]string]*LimitCount
	examples int // kept in all kinds
}

type kind struct {
	n        int
	examples []Example
}

func newTally(most int) *tally {
	return &tally{most: most, facts: map[string]int{}, tenants: map[string]*TenantCount{}, kinds: map[RuleCount]*kind{}, limits: map[[2]string]*LimitCount{}}
}

func (t *tally) tenant(name string) *TenantCount {
	c := t.tenants[name]
	if c == nil && len(t.tenants) >= maxTenants {
		name = others
		c = t.tenants[name]
	}
	if c == nil {
		c = &TenantCount{Tenant: name}
		t.tenants[name] = c
	}
	return c
}

func (t *tally) limit(tenant, rule string) *LimitCount {
	key := [2]string{tenant, rule}
	c := t.limits[key]
	if c == nil && len(t.limits) >= maxLimits {
		key = [2]string{others, others}
		c = t.limits[key]
	}
	if c == nil {
		c = &LimitCount{Tenant: key[0], Rule: key[1]}
		t.limits[key] = c
	}
	return c
}

// differs notes one decision that differs.
func (t *tally) differs(of RuleCount, e Example) {
	k := t.kinds[of]
	if k == nil && len(t.kinds) >= maxKinds {
		of = RuleCount{Package: others, Was: others, Would: others}
		k = t.kinds[of]
	}
	if k == nil {
		k = &kind{}
		t.kinds[of] = k
	}
	k.n++
	// The first of each kind are kept, and of the kinds that come early no more
	// than leave room for others.
	if len(k.examples) < t.most && (t.examples < 4*t.most || len(k.examples) == 0) {
		k.examples = append(k.examples, e)
		t.examples++
	}
}

// report ends the tally.
func (t *tally) report() *Report {
	r := &t.Report
	for fact, n := range t.facts {
		r.MissingFacts = append(r.MissingFacts, FactCount{fact, n})
	}
	slices.SortFunc(r.MissingFacts, func(a, b FactCount) int { return cmp.Compare(a.Fact, b.Fact) })
	for _, c := range t.tenants {
		r.Tenants = append(r.Tenants, *c)
	}
	slices.SortFunc(r.Tenants, func(a, b TenantCount) int {
		return cmp.Or(b.Differing-a.Differing, b.Undecidable-a.Undecidable, b.Decisions-a.Decisions, cmp.Compare(a.Tenant, b.Tenant))
	})
	var kinds []*kind
	for of, k := range t.kinds {
		of.Decisions = k.n
		r.Rules = append(r.Rules, of)
	}
	slices.SortFunc(r.Rules, func(a, b RuleCount) int {
		return cmp.Or(b.Decisions-a.Decisions, cmp.Compare(a.Package, b.Package), cmp.Compare(a.Was+a.WasRule, b.Was+b.WasRule), cmp.Compare(a.Would+a.WouldRule, b.Would+b.WouldRule))
	})
	for _, of := range r.Rules {
		of.Decisions = 0
		kinds = append(kinds, t.kinds[of])
	}
	for _, c := range t.limits {
		if c.Was != c.Would {
			r.Limits = append(r.Limits, *c)
		}
	}
	slices.SortFunc(r.Limits, func(a, b LimitCount) int {
		more := func(c LimitCount) int { return c.Would.sum() - c.Was.sum() }
		return cmp.Or(more(b)-more(a), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Rule, b.Rule))
	})
	for round := 0; len(r.Examples) < t.most; round++ { // in turns, so that every kind is seen
		before := len(r.Examples)
		for _, k := range kinds {
			if round < len(k.examples) && len(r.Examples) < t.most {
				r.Examples = append(r.Examples, k.examples[round])
			}
		}
		if len(r.Examples) == before {
			break
		}
	}
	r.Tenants, r.Rules, r.Limits = r.Tenants[:min(len(r.Tenants), shownMost)], r.Rules[:min(len(r.Rules), shownMost)], r.Limits[:min(len(r.Limits), shownMost)]
	return r
}

func (s Stops) sum() int { return s.Deferred + s.Paced + s.Held }
