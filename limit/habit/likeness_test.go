package habit

import (
	"fmt"
	"strings"
	"testing"
)

const (
	invoice = "Dear %s, thank you for your order. Your invoice %d over EUR %d.99 is attached as a PDF file. Please pay within fourteen days to the account named there. If you have questions about this invoice, just answer to this mail and our team will help you. Kind regards, your Acme shop team"
	ticket  = "Hello %s, here is your ticket for the concert on Friday evening in the town hall. Doors open at seven. Show the code %d at the entrance, printed or on your phone. You can hand the ticket on to somebody else until noon in your account at https://tickets.example/my/%d. We wish you a nice evening"
	phish   = "Dear customer %s, your mailbox is over its quota and will be closed in 24 hours. To keep your account, sign in at http://mail-upgrade.example/login?u=%d and confirm your password now. If you do not confirm, all of your messages and contacts will be removed for good (case %d). Mail administration"
)

func TestLikeness(t *testing.T) {
	fill := func(text, name string, n int) []byte { return fmt.Appendf(nil, text, name, n, n+7) }
	html := func(s string) []byte {
		return []byte(`<html><body style="margin: 0"><p class=x>` + strings.ReplaceAll(s, ". ", ".</p>\r\n<p>") + `</p></body></html>`)
	}
	for _, c := range []struct {
		name   string
		as, bs string
		a, b   []byte
		alike  bool
	}{
		{"another name and number", "Invoice 4711", "Invoice 4712", fill(invoice, "Ann", 4711), fill(invoice, "Bartholomew Miller", 4712), true},
		{"a ticket for another", "Your ticket", "Your ticket", fill(ticket, "Ann", 1), fill(ticket, "Bob", 99), true},
		{"case and line ends", "Invoice", "INVOICE", fill(invoice, "Ann", 1), []byte(strings.ReplaceAll(strings.ToUpper(string(fill(invoice, "Ann", 1))), " ", "\r\n")), true},
		{"HTML of the same", "Invoice", "Invoice", fill(invoice, "Ann", 1), html(string(fill(invoice, "Bob", 2))), true},
		{"another text", "Your ticket", "Invoice 4711", fill(ticket, "Ann", 1), fill(invoice, "Ann", 1), false},
		{"an attack", "Invoice", "Your mailbox", fill(invoice, "Ann", 1), fill(phish, "Ann", 1), false},
		{"short and equal", "Hi", "Hi", []byte("Code 1234"), []byte("Code 9876"), true},
		{"short and another", "Hi", "Hi", []byte("see you at noon"), []byte("thanks a lot"), false},
		{"nothing", "", "", nil, []byte("123 456"), true},
	} {
		a, b := TextOf(c.as, true, c.a).Like, TextOf(c.bs, true, c.b).Like
		if a.Alike(b) != c.alike || a.Head == 0 || b.Rest == 0 {
			t.Errorf("%s: %x and %x alike: %v", c.name, a, b, a.Alike(b))
		}
	}
}

// TestLikenessOfManyTexts: texts made of the same few words in another order
// and choice are not alike.
func TestLikenessOfManyTexts(t *testing.T) {
	var all []Likeness
	for i := range 300 {
		all = append(all, TextOf("About it", true, []byte(answer(i))).Like)
	}
	pairs := 0
	for i := range all {
		for k := range i {
			if all[i].Alike(all[k]) {
				pairs++
			}
		}
	}
	if pairs > 50 { // of 44,850
		t.Errorf("%d pairs are alike", pairs)
	}
}

var words = strings.Fields("the order came late but we have it now please send another one with blue cover to our office in town because customers ask for more of them every week and nobody knows when your truck arrives at this side street near station where parking costs money since april if possible call before noon or write again thank you for quick help about broken parts of last delivery we found two boxes open and wet")

// answer is a text that a person may have written, another for each i.
func answer(i int) string {
	var b strings.Builder
	r := uint64(i)*0x9e3779b97f4a7c15 + 1
	for range 50 {
		r ^= r << 13
		r ^= r >> 7
		r ^= r << 17
		b.WriteString(words[r%uint64(len(words))])
		b.WriteByte(' ')
	}
	return b.String()
}

func FuzzLikeness(f *testing.F) {
	f.Add("Subject", []byte("text <a href=http://a.example/x>link</a> http://b.example"))
	f.Add("", []byte("<<<a://>"))
	f.Add("a://", []byte("://"))
	f.Fuzz(func(t *testing.T, subject string, text []byte) {
		if x := TextOf(subject, true, text, text); x.Like.Head == 0 || x.Like.Rest == 0 || x != TextOf(subject, true, text, text) {
			t.Errorf("%+v", x)
		}
	})
}

func BenchmarkLikeness(b *testing.B) {
	text := []byte(strings.Repeat(fmt.Sprintf(invoice, "Ann", 1, 2), 8))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		TextOf("Invoice", true, text)
	}
}
