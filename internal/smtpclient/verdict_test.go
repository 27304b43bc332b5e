package smtpclient

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"behalf/mail"
)

var points = map[string]point{"greeting": atGreeting, "hello": atHello, "auth": atAuth, "mail": atMail, "rcpt": atRcpt, "data": atData, "final": atFinal}

// hostile is a transaction whose addresses speak like a server.
var hostile = &Transaction{
	From: mail.Address{Local: "account suspended, wait 3 hours", Domain: "a.example"},
	To: []Rcpt{
		{To: mail.Address{Local: "login required", Domain: "b.example"}},
		{To: mail.Address{Local: "x> daily limit, retry in 2 hours <", Domain: "b.example"}},
	},
}

// TestVerdicts reads testdata/verdicts.txt; a new case needs no Go. Its replies
// are about the transaction hostile.
func TestVerdicts(t *testing.T) {
	b, err := os.ReadFile("testdata/verdicts.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		part := strings.Split(line, " | ")
		if len(part) != 3 {
			t.Fatalf("line %d: %q", i+1, line)
		}
		where := strings.Fields(part[0])
		s := situation{Host: "host.test", At: points[where[1]], Single: len(where) < 3, About: hostile}
		if where[0] == "smart" {
			s.Peer = SmartHost
		}
		code, _ := strconv.Atoi(part[1][:3])
		f := verdict(s, Reply{Code: code, Raw: part[1]})
		got := fmt.Sprintf("%d %s %s %s", f.Code, f.Enhanced, f.Scope, f.Reason)
		if f.RetryAfter > 0 {
			got += fmt.Sprintf(" %gm", f.RetryAfter.Minutes())
		}
		if got != part[2] {
			t.Errorf("line %d: %s: %s: got %q, want %q", i+1, part[0], part[1], got, part[2])
		}
	}
}

func TestWithoutPaths(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", "<a@b>: no": ": no", "x <a@b> y <c> z": "x  y  z", "a < b": "a < b", `<"a>b"@c> d`: " d", `<"a\">b"@c> d`: " d",
		"<": "<", "<>": "", `<"`: `<"`, `<"\`: `<"\`, `<a"b> c`: " c", "a > b <c": "a > b <c",
	} {
		if got := withoutPaths(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"try again in 5 minutes":                5 * time.Minute,
		"Please retry after 300 seconds.":       5 * time.Minute,
		"greylisted, wait (60s)":                time.Minute,
		"come back in 00:05:00":                 5 * time.Minute,
		"in 2 hours":                            2 * time.Hour,
		"at least 10 min.":                      10 * time.Minute,
		"retry=120 sec":                         2 * time.Minute,
		"in 999999 hours":                       24 * time.Hour,
		"in 99999999999999999999 seconds":       0,
		"code 5 in file 7":                      0,
		"see http://x/in 3":                     0,
		"more than 5 messages in 3 of your day": 0,
		"":                                      0,
		"in":                                    0,
	} {
		if got := retryAfter(text); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", text, got, want)
		}
	}
}

// FuzzVerdict: every reply has a whole and sane verdict.
func FuzzVerdict(f *testing.F) {
	f.Add(550, "5.1.1 no such user", uint8(4), true, true)
	f.Add(421, "4.7.0 in 5 minutes", uint8(0), false, false)
	f.Add(250, "", uint8(6), true, false)
	f.Fuzz(func(t *testing.T, code int, text string, at uint8, smart, single bool) {
		if code < 200 || code > 599 {
			return
		}
		s := situation{Host: "h", At: point(1) << (at % 7), Single: single}
		if smart {
			s.Peer = SmartHost
		}
		r := Reply{Code: code, Raw: strconv.Itoa(code) + " " + text}
		v := verdict(s, r)
		switch {
		case v.Code < 400 || v.Code > 599, v.Enhanced[0] != v.Code/100, v.Text == "", v.Reason == "", v.RetryAfter < 0, v.RetryAfter > maxWait:
			t.Errorf("%+v", v)
		case v.Scope == mail.OfUs:
			t.Errorf("a peer's words became our fault: %+v", v)
		case code < 500 && v.Code >= 500:
			t.Errorf("%d became permanent: %+v", code, v)
		case s.At == atFinal && !single && v.Scope == mail.OfRecipient:
			t.Errorf("a word on the message condemns each recipient: %+v", v)
		}
	})
}
