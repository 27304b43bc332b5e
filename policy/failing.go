package policy

import (
	"sync"
	"time"
)

// Failing is a stage whose evaluations failed in the last minute. Each of them
// was answered 451: a set that fails lets nothing through.
type Failing struct {
	Package string    `json:"package"`
	Count   int       `json:"count"` // in the last minute
	Asked   int       `json:"asked"` // in the last minute, those that failed included
	Last    string    `json:"last"`  // the last error
	At      time.Time `json:"at"`    // when it was
}

// failures counts failed evaluations by stage, for a minute.
type failures struct {
	mu     sync.Mutex
	stages [stageCount]failure
}

// failure is one stage's, in a ring of seconds.
type failure struct {
	seconds [60]second
	last    string
	at      time.Time
}

// second is what was asked in one second, and what failed of it.
type second struct {
	at       int64 // Unix time
	asked, n int
}

// in is the second that now is in.
func (f *failure) in(now time.Time) *second {
	s := &f.seconds[now.Unix()%60]
	if s.at != now.Unix() {
		*s = second{at: now.Unix()}
	}
	return s
}

// Serious tells whether so many questions fail, more than one in ten, that it is
// the set's fault and not that of a single tenant or message.
func (f Failing) Serious() bool { return 10*f.Count > f.Asked }

// maxFailure bounds the text of an error that is kept, in bytes.
const maxFailure = 500

// asked counts a question that was answered.
func (f *failures) asked(stage int) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stages[stage].in(now).asked++
}

// add counts one that was not.
func (f *failures) add(stage int, err error) {
	text := err.Error()
	if len(text) > maxFailure {
		text = text[:maxFailure] + "…"
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	one := &f.stages[stage]
	one.last, one.at = text, now
	s := one.in(now)
	s.asked++
	s.n++
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
		found := Failing{Package: s.name, Last: one.last, At: one.at}
		for _, second := range one.seconds {
			if second.at > oldest {
				found.Count += second.n
				found.Asked += second.asked
			}
		}
		if found.Count > 0 {
			list = append(list, found)
		}
	}
	return list
}
