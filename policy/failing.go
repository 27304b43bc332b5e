package policy

import (
	"sync"
	"time"

	"behalf/mail"
)

// Failing is a stage whose evaluations failed in the last minute. Each of them
// was answered 451: a set that fails lets nothing through.
type Failing struct {
	Package string `json:"package"`
	Count   int    `json:"count"` // in the last minute
	Asked   int    `json:"asked"` // in the last minute, those that failed included
	// OneTenant tells that others were asked about too, and theirs did not fail.
	OneTenant bool      `json:"one_tenant,omitempty"`
	Kind      string    `json:"kind"` // of the last error; it quotes nothing
	Last      string    `json:"last"` // the last error
	At        time.Time `json:"at"`   // when it was
}

// failures counts failed evaluations by stage, for a minute.
type failures struct {
	mu     sync.Mutex
	stages [stageCount]failure
}

// failure is one stage's, in a ring of seconds.
type failure struct {
	seconds    [60]second
	kind, last string
	at         time.Time
}

// second is what was asked in one second, and what failed of it.
type second struct {
	at           int64 // Unix time
	asked, n     int
	tenants, hit few // who was asked about, and whose questions failed
}

// few are the first two of some tenants: enough to tell one from several.
type few struct {
	ids [2]mail.TenantID
	n   int
}

func (f *few) add(t mail.TenantID) {
	if f.n < len(f.ids) && (f.n == 0 || f.ids[0] != t) {
		f.ids[f.n] = t
		f.n++
	}
}

func (f *few) join(o few) {
	for _, t := range o.ids[:o.n] {
		f.add(t)
	}
}

// in is the second that now is in.
func (f *failure) in(now time.Time) *second {
	s := &f.seconds[now.Unix()%60]
	if s.at != now.Unix() {
		*s = second{at: now.Unix()}
	}
	return s
}

// fewest is how many failures in a minute say something of the set.
const fewest = 10

// Serious tells whether so many questions fail, more than one in ten and of more
// than one tenant if others are asked about at all, that it is the set's fault and
// not that of a tenant or of single messages.
func (f Failing) Serious() bool {
	return f.Count >= fewest && 10*f.Count > f.Asked && !f.OneTenant
}

// maxFailure bounds the text of an error that is kept, in bytes.
const maxFailure = 500

// asked counts a question that was answered.
func (f *failures) asked(stage int, t mail.TenantID) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stages[stage].in(now)
	s.asked++
	s.tenants.add(t)
}

// add counts one that was not.
func (f *failures) add(stage int, t mail.TenantID, err error) {
	text := err.Error()
	if len(text) > maxFailure {
		text = text[:maxFailure] + "…"
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	one := &f.stages[stage]
	one.kind, one.last, one.at = kindOf(err), text, now
	s := one.in(now)
	s.asked++
	s.n++
	s.tenants.add(t)
	s.hit.add(t)
}

// forget begins anew, for another set.
func (f *failures) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.stages[:])
}

// recent tells what failed in the last minute, by stage.
func (f *failures) recent() []Failing {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Failing
	oldest := time.Now().Unix() - 60
	for i, s := range stages() {
		one := &f.stages[i]
		found := Failing{Package: s.name, Kind: one.kind, Last: one.last, At: one.at}
		var tenants, hit few
		for _, second := range one.seconds {
			if second.at > oldest {
				found.Count += second.n
				found.Asked += second.asked
				tenants.join(second.tenants)
				hit.join(second.hit)
			}
		}
		found.OneTenant = hit.n == 1 && tenants.n > 1
		if found.Count > 0 {
			list = append(list, found)
		}
	}
	return list
}
