package habit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"behalf/mail"
)

// settled is the habits of a shop that has sent its invoice to 500 new recipients
// a day for six weeks.
func settled(t *testing.T) *sim {
	s := newSim(t, "shop")
	for day := range trained {
		s.shop(day)
	}
	if s.held > 0 && s.releases == 0 {
		s.t.Fatalf("%d held", s.held)
	}
	s.sent, s.held = 0, 0
	return s
}

// shop sends the mail of one day and gives how much of it passed.
func (s *sim) shop(day int) (out int64) {
	r := rand.New(rand.NewPCG(5, uint64(day)))
	before := s.held
	for _, m := range spread(r, day, 500, 6, 20, func(int) sent { return sent{new: 1, text: filled(r, "Your invoice", invoice)} }) {
		out += s.send(m)
	}
	if day < 5 && s.held > before { // the first days are released
		s.releases++
		if err := s.h.Close(s.t.Context(), 7, "", true); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

// flood sends n messages to a new recipient each, and gives how many passed.
func (s *sim) flood(at time.Time, n int, text func(i int) Text) (out int64) {
	for i := range n {
		out += s.send(sent{at: at.Add(time.Duration(i) * 10 * time.Millisecond), new: 1, text: text(i)})
	}
	return out
}

func html(text string) []byte {
	return []byte("<html><body><p>" + strings.ReplaceAll(text, ". ", ".</p><p>") + "</p></body></html>")
}

// TestCopiedTemplate: a thief who hides another text beside or behind the
// template that the credential sends each day has no more than the floor, and
// the honest mail of the day goes on.
func TestCopiedTemplate(t *testing.T) {
	const subject = "Your invoice"
	template := func(i int) []byte { return fmt.Appendf(nil, invoice, fmt.Sprintf("Name%d", i), i, i) }
	spam := func(i int) []byte { return fmt.Appendf(nil, phish, fmt.Sprintf("Name%d", i), i, i) }
	for name, text := range map[string]func(i int) Text{
		"as HTML beside it": func(i int) Text { return TextOf(subject, true, template(i), html(string(spam(i)))) },
		"behind 4 KiB of it": func(i int) Text {
			return TextOf(subject, true, append(bytes.Repeat(append(template(i), ' '), 4<<10/len(invoice)), bytes.Repeat(spam(i), 4)...))
		},
		"with a link of its own": func(i int) Text {
			return TextOf(subject, true, append(template(i), " http://mail-upgrade.example/login"...))
		},
		"a link without a scheme": func(i int) Text {
			return TextOf(subject, true, append(html(string(template(i))), `<a href="//mail-upgrade.example/login">Pay</a>`...))
		},
		"more than was looked at": func(i int) Text { return TextOf(subject, false, template(i)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := settled(t)
			if out := s.flood(start.AddDate(0, 0, trained).Add(5*time.Hour), 5000, text); out > 300 {
				t.Errorf("%d reached", out)
			}
			if out := s.shop(trained); out < 500 {
				t.Errorf("of the honest mail %d passed", out)
			}
		})
	}
}

// The same in HTML beside it is the same text.
func TestHTMLBesideText(t *testing.T) {
	plain := fmt.Sprintf(ticket, "Ann", 1, 2)
	if a, b := TextOf("Your ticket", true, []byte(plain)), TextOf("Your ticket", true, []byte(plain), html(plain)); !a.Like.Alike(b.Like) || a.Hosts != b.Hosts {
		t.Errorf("%+v, %+v", a, b)
	}
}

// TestTaughtText: three messages a day for three days do not buy the room that
// other texts have.
func TestTaughtText(t *testing.T) {
	s := settled(t)
	spam := func(i int) Text { return TextOf("Your mailbox", true, fmt.Appendf(nil, phish, "Ann", i, i)) }
	for day := trained; day < trained+knownAfter; day++ {
		s.flood(start.AddDate(0, 0, day).Add(5*time.Hour), 3, spam)
		s.shop(day)
	}
	day := trained + knownAfter
	if out := s.flood(start.AddDate(0, 0, day).Add(5*time.Hour), 10_000, spam); out > 300 {
		t.Errorf("%d of the taught text reached", out)
	}
	if out := s.shop(day); out < 500 {
		t.Errorf("of the honest mail %d passed", out)
	}
}

// TestDrip: who begins with nothing and sends one text to as many as he can each
// day gets from one day to the next no more than a day's growth.
func TestDrip(t *testing.T) {
	s := newSim(t, "drip")
	most := float64(300)
	for day := range 21 {
		text := func(i int) Text { return TextOf("Your mailbox", true, fmt.Appendf(nil, phish, "Ann", i, i)) }
		out := s.flood(start.Add(time.Duration(day)*25*time.Hour), 8000, text) // the hours that count are 25
		t.Logf("day %d: %d", day+1, out)
		if float64(out) > most {
			t.Errorf("day %d: %d reached, more than %.0f", day+1, out, most)
		}
		most = max(300, float64(out)) * 1.18
		if err := s.h.Close(t.Context(), 7, "", false); err != nil { // and deletes the evidence
			t.Fatal(err)
		}
		for _, e := range s.h.profiles { // nor is he blamed
			for i := range e.p.Texts.Recent {
				e.p.Texts.Recent[i].Held = 0
			}
		}
	}
}

// reach floods through credentials of tenants in turn and gives how many passed.
func reach(t *testing.T, h *Habits, everywhere bool, tenants, credentials, each int) (out int) {
	for i := range tenants * credentials * each {
		q := Question{Tenant: mail.TenantID(1 + i%tenants), Credential: fmt.Sprint("c", i/tenants%credentials), Everywhere: everywhere, Now: start, New: 1,
			Text: TextOf("Your mailbox", true, fmt.Appendf(nil, phish, "Ann", i, i))}
		if _, ok := ask(t, h, q); ok {
			out++
		}
	}
	return out
}

// TestManyTenants: a platform's credential that was stolen does not have the
// floor again in each of a thousand tenants.
func TestManyTenants(t *testing.T) {
	h := New(open(t), Options{})
	if out := reach(t, h, true, 1000, 1, 20); out > 2700 || out < 2000 {
		t.Errorf("%d reached", out)
	}
	// What others send is not told to a tenant.
	eps, err := h.Episodes(t.Context(), 1)
	if err != nil || len(eps) != 1 || strings.ContainsAny(eps[0].Reasons[0].Detail, "0123456789") {
		t.Errorf("%+v, %v", eps, err)
	}
	// A release in one tenant is one of what was held there.
	if err := h.Close(t.Context(), 1, "", true); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[mail.TenantID]bool{1: true, 2: false} {
		q := Question{Tenant: id, Credential: "c0", Everywhere: true, Now: start, New: 1000, Text: TextOf("Hi", true, []byte(answer(1)))}
		if id == 1 {
			q.New, q.Text = 1, TextOf("Your mailbox", true, fmt.Appendf(nil, phish, "Ann", 1, 1))
		}
		if a, ok := ask(t, h, q); ok != want {
			t.Errorf("tenant %d after the release: %+v", id, a)
		}
	}
}

// TestManyCredentials: the credentials of a tenant have a floor together, half
// as much again as that of one, and the neighbour has its own.
func TestManyCredentials(t *testing.T) {
	h := New(open(t), Options{})
	if out := reach(t, h, false, 1, 2, 1000); out > 410 || out < 300 {
		t.Errorf("%d reached through two credentials", out)
	}
	if out := reach(t, New(open(t), Options{}), false, 1, 20, 100); out > 410 || out < 300 {
		t.Errorf("%d reached through twenty", out)
	}
	h = New(open(t), Options{})
	reach(t, h, false, 1, 1, 1000)
	if _, ok := ask(t, h, Question{Tenant: 1, Credential: "honest", Now: start, New: 20, Text: TextOf("Re: order", true, []byte(answer(1)))}); !ok {
		t.Error("the answers of another credential are held")
	}
	if a, ok := ask(t, h, Question{Tenant: 2, Credential: "c0", Now: start, New: 1, Text: like(1)}); !ok || a.Score > 0 {
		t.Errorf("another tenant: %+v", a)
	}
}
