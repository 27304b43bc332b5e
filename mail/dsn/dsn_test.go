package dsn

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"

	"behalf/mail"
	"behalf/mail/header"
)

var update = flag.Bool("update", false, "rewrite the .want files")

var at = time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)

func addr(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

const original = "From: Acme <a@acme.example>\r\nTo: b@dest.example\r\nSubject: Hello\r\n\r\n"

func base() Report {
	return Report{From: addr("MAILER-DAEMON@platform.example"), To: addr("a@acme.example"), MessageID: "<r1@platform.example>", Date: at.Add(time.Hour),
		ReportingMTA: "relay.platform.example", EnvID: "QQ314+159", Arrival: at, Subject: "Hello", OriginalID: "<1@acme.example>",
		OriginalFrom: addr("a@acme.example"), Header: []byte(original),
		Recipients: []Recipient{{Address: addr("b@dest.example"), ORcpt: "rfc822;b@dest.example", Action: Failed, Remote: "mx.dest.example", LastAttempt: at.Add(time.Hour),
			Failure: &mail.Failure{Code: 550, Enhanced: mail.Enhanced{5, 1, 1}, Text: "the mailbox does not exist", Scope: mail.OfRecipient, Reason: mail.ReasonNoMailbox,
				Reply: "550-5.1.1 No such user\n550 5.1.1 see https://dest.example/help"}}}}
}

func TestFiles(t *testing.T) {
	expired := &mail.Failure{Code: 451, Enhanced: mail.Enhanced{4, 4, 1}, Text: "no answer", Scope: mail.OfDestination, Reason: mail.ReasonUnreachable}
	cases := map[string]func(*Report){
		"01-failed": func(r *Report) {},
		"02-full":   func(r *Report) { r.Original = strings.NewReader(original + "Grüße\r\n") },
		"03-delayed": func(r *Report) {
			r.Recipients[0] = Recipient{Address: addr("b@dest.example"), Action: Delayed, Failure: expired, WillRetryUntil: at.Add(96 * time.Hour)}
		},
		"04-delivered": func(r *Report) {
			r.Recipients = []Recipient{{Address: addr("b@dest.example"), Action: Delivered, Remote: "192.0.2.1"}, {Address: addr("c@dest.example"), Action: Relayed}}
		},
		"05-mixed": func(r *Report) {
			r.Recipients = append(r.Recipients, Recipient{Address: addr("c@dest.example"), Action: Failed, Failure: expired, Advice: "Call them."})
			r.EnvID, r.Subject, r.Header = "", "", nil
		},
		"06-utf8": func(r *Report) {
			r.UTF8, r.Subject = true, "Grüße"
			r.To = addr("jürgen@acme.example")
			r.Recipients[0].Address, r.Recipients[0].ORcpt = addr("bücher@dest.example"), "utf-8;bücher@dest.example"
			r.Header = []byte("From: Jürgen <jürgen@acme.example>\r\nSubject: Grüße\r\n\r\n")
		},
		"07-utf8-in-ascii": func(r *Report) {
			r.Subject = "Grüße"
			r.Recipients[0].Address = addr("bücher@dest.example")
			r.Recipients[0].Failure.Reply = "550 kein Empfänger"
			r.Header = []byte("From: Jürgen <jürgen@acme.example>\r\nSubject: Grüße\r\n\r\n")
		},
		"08-hostile": func(r *Report) {
			r.EnvID = "a\r\nAction: delivered"
			r.Subject = "x\r\nBcc: evil@x"
			r.Recipients[0].ORcpt = "rfc822;a\r\nStatus: 2.0.0"
			r.Recipients[0].Remote = "mx\r\nAction: delivered"
			r.Recipients[0].Diagnostic = "550 no\r\nAction: delivered\r\n\r\n--=_boundary\x00 " + strings.Repeat("long ", 500)
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			r := base()
			change(&r)
			var b bytes.Buffer
			n, err := r.WriteTo(&b)
			if err != nil || n != int64(b.Len()) {
				t.Fatalf("%d of %d octets, %v", n, b.Len(), err)
			}
			check(t, &r, b.String())
			got := strings.ReplaceAll(b.String(), "\r\n", "\n")
			want := filepath.Join("testdata", name+".want")
			if *update {
				os.MkdirAll("testdata", 0o755)
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			w, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(w) {
				t.Errorf("got\n%s\nwant\n%s", got, w)
			}
		})
	}
}

// check reads a report with another library: three parts of the right kinds, one
// group of fields for each recipient, and nothing smuggled in.
func check(t testing.TB, r *Report, msg string) {
	t.Helper()
	if strings.Count(msg, "\n") != strings.Count(msg, "\r\n") || strings.ContainsRune(msg, 0) {
		t.Error("lone line ends or NUL")
	}
	if !r.UTF8 && r.Original == nil && header.NeedsUTF8([]byte(msg)) {
		t.Error("not ASCII")
	}
	h, err := header.Parse([]byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	if h.Has("Bcc") || h.Get("Auto-Submitted") != "auto-replied" || h.Count("From") != 1 {
		t.Errorf("header %q", msg[:h.Size()])
	}
	e, err := message.Read(strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	mr := e.MultipartReader()
	if mr == nil {
		t.Fatal("no multipart")
	}
	var kinds []string
	var status []byte
	for {
		p, err := mr.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := p.Header.ContentType()
		kinds = append(kinds, kind)
		b, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(kind, "delivery-status") {
			status = b
		}
	}
	want := []string{"text/plain", "message/delivery-status"}
	if r.UTF8 {
		want[1] = "message/global-delivery-status"
	}
	if len(kinds) < 2 || kinds[0] != want[0] || kinds[1] != want[1] || len(kinds) > 3 || (len(kinds) == 3) != (r.Header != nil || r.Original != nil) {
		t.Errorf("parts %q", kinds)
	}
	groups := strings.Split(strings.TrimRight(string(status), "\r\n"), "\r\n\r\n")
	if len(groups) != 1+len(r.Recipients) {
		t.Fatalf("%d groups of fields for %d recipients:\n%s", len(groups), len(r.Recipients), status)
	}
	for i, c := range r.Recipients {
		g, err := header.Parse([]byte(groups[i+1] + "\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		if g.Count("Action") != 1 || g.Get("Action") != string(c.Action) || g.Count("Status") != 1 || g.Count("Final-Recipient") != 1 {
			t.Errorf("group %q", groups[i+1])
		}
	}
}

func TestStatusFitsTheAction(t *testing.T) {
	temporary := &mail.Failure{Enhanced: mail.Enhanced{4, 2, 2}}
	permanent := &mail.Failure{Enhanced: mail.Enhanced{5, 1, 1}}
	for _, c := range []struct {
		r    Recipient
		want string
	}{
		{Recipient{Action: Failed, Failure: permanent}, "5.1.1"},
		{Recipient{Action: Failed, Failure: temporary}, "4.2.2"},
		{Recipient{Action: Failed}, "5.0.0"},
		{Recipient{Action: Delayed, Failure: temporary}, "4.2.2"},
		{Recipient{Action: Delayed, Failure: permanent}, "4.1.1"},
		{Recipient{Action: Delivered}, "2.0.0"},
		{Recipient{Action: Delivered, Status: mail.Enhanced{2, 1, 5}}, "2.1.5"},
		{Recipient{Action: Relayed}, "2.0.0"},
	} {
		if got := c.r.status().String(); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.r.Action, c.r.Failure, got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	seen := map[string]mail.Reason{}
	for _, r := range []mail.Reason{mail.ReasonInternal, mail.ReasonNoMailbox, mail.ReasonMailboxFull, mail.ReasonNoDomain, mail.ReasonTooLarge, mail.ReasonContent,
		mail.ReasonCannotCarry, mail.ReasonAuth, mail.ReasonSenderRefused, mail.ReasonRate, mail.ReasonBlocked, mail.ReasonTLS, mail.ReasonUnreachable, mail.ReasonDNS,
		mail.ReasonProtocol, mail.ReasonUnresolved, mail.ReasonRejected, mail.ReasonPolicy, mail.ReasonUnauthentic, mail.ReasonExpired, mail.ReasonSuppressed,
		mail.ReasonLoop, mail.ReasonTemporary, mail.ReasonForbiddenHost, mail.ReasonUpstreamAbsent} {
		s := Explain(&mail.Failure{Reason: r})
		if s == "" || !strings.HasSuffix(s, ".") || seen[s] != "" {
			t.Errorf("%s: %q, as for %s", r, s, seen[s])
		}
		seen[s] = r
	}
	if Explain(nil) != "" || Explain(&mail.Failure{Reason: "new"}) == "" {
		t.Error("nil or an unknown reason")
	}
}

func FuzzReport(f *testing.F) {
	f.Add("env+2B", "rfc822;b+40x", "mx.x", "550 no\r\nAction: x", "Hello", "advice", false, []byte(original))
	f.Add("+", ";", "::1", strings.Repeat("ü", 1000), "\xff\n", "", true, []byte("A: ü\r\n\r\n"))
	f.Fuzz(func(t *testing.T, env, orcpt, remote, diag, subject, advice string, utf8 bool, head []byte) {
		r := base()
		r.EnvID, r.Subject, r.UTF8 = env, subject, utf8
		c := &r.Recipients[0]
		c.ORcpt, c.Remote, c.Diagnostic, c.Advice = orcpt, remote, diag, advice
		h, err := header.Parse(head)
		if err != nil || bytes.Contains(head, []byte("--=_")) {
			return
		}
		r.Header = head[:h.Size()]
		var b bytes.Buffer
		if _, err := r.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		check(t, &r, b.String())
	})
}
