package habit

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"behalf/internal/kv/mem"
	"behalf/mail"
)

// start is a Monday.
var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// sent is one message of a simulated sender.
type sent struct {
	at   time.Time
	new  int64
	text Text
}

// sender makes the messages of one day.
type sender func(r *rand.Rand, day int) []sent

// spread puts n messages into some hours of a day, most of them in the middle.
func spread(r *rand.Rand, day, n, from, to int, message func(i int) sent) []sent {
	var list []sent
	for i := range n {
		m := message(i)
		f := (r.Float64() + r.Float64()) / 2
		m.at = start.AddDate(0, 0, day).Add(time.Duration((float64(from) + f*float64(to-from)) * float64(time.Hour)))
		list = append(list, m)
	}
	return list
}

// about is n, give or take a share of it.
func about(r *rand.Rand, n, share float64) int {
	return int(n * math.Exp(share*r.NormFloat64()))
}

func weekend(day int) bool { return day%7 >= 5 }

func chance(r *rand.Rand, p float64) int64 {
	if r.Float64() < p {
		return 1
	}
	return 0
}

// filled is a template with somebody's name in it.
func filled(r *rand.Rand, subject, text string) Text {
	n := r.IntN(1_000_000)
	return TextOf(fmt.Sprintf("%s %d", subject, n), true, fmt.Appendf(nil, text, fmt.Sprintf("Name%c Family%c", 'a'+n%26, 'a'+n/26%26), n, n+1))
}

// normal are senders who do nothing wrong.
func normal() map[string]sender {
	return map[string]sender{
		"helpdesk": func(r *rand.Rand, day int) []sent { // answers, each another text
			n := about(r, 150, 0.2)
			if weekend(day) {
				n /= 5
			}
			return spread(r, day, n, 7, 18, func(i int) sent {
				return sent{new: chance(r, 0.15), text: TextOf("Re: order", true, []byte(answer(day*1000+i)))}
			})
		},
		"newsletter": func(r *rand.Rand, day int) []sent { // a new text to all each morning
			text := []byte(answer(day + 1_000_000))
			return spread(r, day, 2000, 6, 7, func(int) sent {
				return sent{new: chance(r, 0.01), text: TextOf("News of today", true, text)}
			})
		},
		"event tool": func(r *rand.Rand, day int) []sent { // everybody is new; another event every other day
			n := about(r, 1500, 0.25)
			return spread(r, day, n, 5, 22, func(i int) sent {
				if i%3 == 0 {
					return sent{new: 1, text: TextOf("Invitation", true, []byte(answer(day/2+2_000_000)))}
				}
				return sent{new: 1, text: filled(r, "Your ticket", ticket)}
			})
		},
		"start-up": func(r *rand.Rand, day int) []sent { // grows by 6 % a day
			return spread(r, day, about(r, 20*math.Pow(1.06, float64(day)), 0.15), 6, 20, func(int) sent {
				return sent{new: 1, text: filled(r, "Welcome", invoice)}
			})
		},
		"Monday peaks": func(r *rand.Rand, day int) []sent {
			n := 80.0
			if day%7 == 0 {
				n = 500
			}
			return spread(r, day, about(r, n, 0.2), 6, 18, func(i int) sent {
				if day%7 == 0 && i%4 == 0 { // the text of the week
					return sent{new: chance(r, 0.4), text: TextOf("Offer", true, []byte(answer(day+3_000_000)))}
				}
				return sent{new: chance(r, 0.6), text: filled(r, "Your invoice", invoice)}
			})
		},
		"Black Friday": func(r *rand.Rand, day int) []sent { // five times as much on one day
			n := 300.0
			if day == 39 {
				n *= 5
			}
			return spread(r, day, about(r, n, 0.15), 5, 23, func(int) sent {
				return sent{new: chance(r, 0.7), text: filled(r, "Your order", invoice)}
			})
		},
	}
}

const trained = 42 // days

// sim is one credential in virtual time.
type sim struct {
	t    *testing.T
	h    *Habits
	name string

	sent, held, releases int
	perHour              map[uint32]int // new recipients that a sender wanted to reach
}

func newSim(t *testing.T, name string) *sim {
	store := mem.New(mem.Options{})
	t.Cleanup(func() { store.Close() })
	return &sim{t: t, h: New(store, Options{}), name: name, perHour: map[uint32]int{}}
}

// send gives one message and reports how many new recipients it reached.
func (s *sim) send(m sent) (out int64) {
	tk, a, err := s.h.Ask(s.t.Context(), Question{Tenant: 7, Credential: s.name, Now: m.at, New: m.new, Text: m.text})
	if err != nil {
		s.t.Fatal(err)
	}
	s.sent++
	if m.new > 0 && a.Score >= Over {
		tk.Opens()
		tk.Done(mail.ID{}, 0, m.new)
		s.held++
		return 0
	}
	s.perHour[hourOf(m.at)] += int(m.new)
	tk.Done(mail.ID{}, m.new, 0)
	return m.new
}

// live sends the mail of some days. Each night the administrator releases what
// was held; the number of days with any is counted.
func (s *sim) live(who sender, from, to int) {
	r := rand.New(rand.NewPCG(1, 2))
	for day := range to {
		list := who(r, day)
		if day < from {
			continue
		}
		slices.SortFunc(list, func(a, b sent) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
		before := s.held
		for _, m := range list {
			s.send(m)
		}
		if s.held > before {
			s.releases++
			if err := s.h.Close(s.t.Context(), 7, "", true); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// TestNormalSenders: six senders over six weeks, the last four of which count:
// who began with more than the floor has had its habits released by then.
func TestNormalSenders(t *testing.T) {
	for name, who := range normal() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSim(t, name)
			s.live(who, 0, 14)
			first, firstHeld := s.releases, s.held
			s.sent, s.held, s.releases = 0, 0, 0
			s.live(who, 14, trained)
			t.Logf("first two weeks: %d held, on %d days; four weeks after: %d of %d held", firstHeld, first, s.held, s.sent)
			if s.held > 0 || first > 3 {
				t.Errorf("false holds")
			}
		})
	}
}

// attacks are what a thief of a credential does, from an hour after the last
// honest mail on.
func attacks() map[string]func(r *rand.Rand) []sent {
	begin := start.AddDate(0, 0, trained)
	text := func(r *rand.Rand) Text { return filled(r, "Your mailbox", phish) }
	flood := func(n int, hour int, every time.Duration, message func(r *rand.Rand, i int) sent) func(r *rand.Rand) []sent {
		return func(r *rand.Rand) []sent {
			var list []sent
			for i := range n {
				m := message(r, i)
				m.at = begin.Add(time.Duration(hour)*time.Hour + time.Duration(i)*every)
				list = append(list, m)
			}
			return list
		}
	}
	same := func(r *rand.Rand, _ int) sent { return sent{new: 1, text: text(r)} }
	return map[string]func(r *rand.Rand) []sent{
		"sudden":         flood(10_000, 10, 100*time.Millisecond, same),
		"at night":       flood(10_000, 2, 100*time.Millisecond, same),
		"over ten hours": flood(10_000, 8, 7100*time.Millisecond, same),
		"many texts": flood(10_000, 10, 100*time.Millisecond, func(_ *rand.Rand, i int) sent {
			return sent{new: 1, text: TextOf("Hi", true, []byte(answer(i+9_000_000)))}
		}),
		"1,000 at a time": flood(50, 10, 10*time.Second, func(r *rand.Rand, _ int) sent { return sent{new: 1000, text: text(r)} }),
		"a week of drip":  flood(10_000, 0, time.Minute, same),
		"a known text":    flood(10_000, 10, 100*time.Millisecond, func(r *rand.Rand, _ int) sent { return sent{new: 1, text: filled(r, "Your invoice", invoice)} }),
	}
}

// TestAttacks compares how many new recipients a thief reaches through each
// sender's credential in a day, or as long as he goes on, with what a plain hourly
// cap lets through that stops no honest mail either, as he comes again each hour:
// one cap for all, and one made to measure for each.
func TestAttacks(t *testing.T) {
	type habits struct {
		stored, tenant []byte
		peak           int
	}
	all, worst := map[string]habits{}, 0
	for name, who := range normal() {
		s := newSim(t, name)
		s.live(who, 0, trained)
		h := habits{}
		for _, n := range s.perHour {
			h.peak = max(h.peak, n)
		}
		own := owner{7, name}
		h.stored, _ = s.h.profiles[own].p.encode()
		h.tenant, _ = s.h.profiles[own.ofTenant()].p.encode()
		all[name], worst = h, max(worst, h.peak)
	}
	t.Logf("%-15s %-13s %8s %13s %12s", "attack", "through", "reached", "cap for each", "cap for all")
	for name, attack := range attacks() {
		list := attack(rand.New(rand.NewPCG(3, 4)))
		hours := max(24, int(list[len(list)-1].at.Sub(list[0].at).Hours()))
		var wanted int
		for _, m := range list {
			wanted += int(m.new)
		}
		for through, h := range all {
			s := newSim(t, through)
			for who, stored := range map[owner][]byte{{7, through}: h.stored, {tenant: 7}: h.tenant} {
				e := s.h.entry(who)
				s.h.decode(stored, &e.p)
				e.loaded = true
			}
			var out int64
			for _, m := range list {
				out += s.send(m)
			}
			forEach, forAll := min(wanted, hours*h.peak), min(wanted, hours*worst)
			t.Logf("%-15s %-13s %8d %13d %12d", name, through, out, forEach, forAll)
			if most := 300 + 2*24*h.peak; out > int64(min(most, forAll)) {
				t.Errorf("%s through %s: %d reached", name, through, out)
			}
		}
	}
}
