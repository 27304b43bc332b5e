package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"

	"behalf/internal/testkit/need"
)

// client runs a program that sends one message, with a time limit and nothing
// on its standard input but stdin.
func client(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		need.Missing(t, name+" is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// doors starts both kinds of door before one intake.
func doors(t *testing.T) (in *fakeIntake, submission, submissions string) {
	in = &fakeIntake{}
	o := testOptions()
	submission = serve(t, in, o)
	o.Implicit = true
	return in, submission, serve(t, in, o)
}

// wantOne checks that the one message came in whole.
func (in *fakeIntake) wantOne(t *testing.T, mechanism string) taken {
	t.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.messages) != 1 {
		t.Fatalf("%d messages", len(in.messages))
	}
	m := in.messages[0]
	in.messages = nil
	if !bytes.Contains(m.body, []byte("\r\n.\r\n..dots\r\n")) || !bytes.Contains(m.body, []byte("interop")) {
		t.Errorf("body %q", m.body)
	}
	if m.env.From.String() != "a@acme.example" || len(m.rcpts) == 0 || m.rcpts[0].Address.String() != "b@example.org" {
		t.Errorf("envelope %+v %+v", m.env, m.rcpts)
	}
	if m.login.Mechanism != mechanism {
		t.Errorf("mechanism %s, want %s", m.login.Mechanism, mechanism)
	}
	return m
}

const (
	interopText = "From: a@acme.example\nTo: b@example.org\nSubject: interop\n\n.\n..dots\nend\n"
	interopCRLF = "From: a@acme.example\r\nTo: b@example.org\r\nSubject: interop\r\n\r\n.\r\n..dots\r\nend\r\n"
)

func TestSwaks(t *testing.T) {
	in, submission, submissions := doors(t)
	for _, mech := range []string{"PLAIN", "LOGIN"} {
		for _, by := range [][]string{{"-s", submission, "-tls"}, {"-s", submissions, "-tlsc"}, {"-s", submission, "-tls", "--pipeline"}} {
			client(t, "", "swaks", append(by, "--protocol", "ESMTP", "--auth", mech, "--au", testUser, "--ap", testSecret,
				"-f", "a@acme.example", "-t", "b@example.org", "--data", interopText, "--ehlo", "app.example")...)
			in.wantOne(t, mech)
		}
	}
}

func TestMsmtp(t *testing.T) {
	in, submission, submissions := doors(t)
	ca := certFile(t)
	for _, mech := range []string{"plain", "login", "scram-sha-256"} {
		for addr, starttls := range map[string]string{submission: "on", submissions: "off"} {
			host, port, _ := net.SplitHostPort(addr)
			client(t, interopText, "msmtp", "--host="+host, "--port="+port, "--tls=on", "--tls-starttls="+starttls,
				"--tls-trust-file="+ca, "--auth="+mech, "--user="+testUser, "--passwordeval=echo "+testSecret,
				"--from=a@acme.example", "b@example.org")
			in.wantOne(t, strings.ToUpper(mech))
		}
	}
}

func TestCurl(t *testing.T) {
	in, submission, submissions := doors(t)
	file := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(file, []byte(interopCRLF), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"smtp://" + submission, "smtps://" + submissions} {
		common := []string{"-sS", "-k", "--ssl-reqd", "--url", u + "/app.example", "--mail-from", "a@acme.example",
			"--mail-rcpt", "b@example.org", "-T", file, "--max-time", "20"}
		client(t, "", "curl", append(common, "-u", testUser+":"+testSecret, "--login-options", "AUTH=PLAIN")...)
		in.wantOne(t, "PLAIN")
		client(t, "", "curl", append(common, "-u", testUser, "--oauth2-bearer", testSecret)...)
		if m := in.wantOne(t, "OAUTHBEARER"); m.login.Authzid != testUser || m.login.Username != "" {
			t.Errorf("login %+v", m.login)
		}
	}
}

func TestPython(t *testing.T) {
	in, submission, submissions := doors(t)
	const script = `
import smtplib, ssl, sys
host, port = sys.argv[1].split(":")
c = ssl.create_default_context(cafile=sys.argv[3])
if sys.argv[2] == "starttls":
    s = smtplib.SMTP(host, int(port), timeout=20); s.starttls(context=c)
else:
    s = smtplib.SMTP_SSL(host, int(port), timeout=20, context=c)
s.login("` + testUser + `", "` + testSecret + `")
refused = s.sendmail("a@acme.example", ["b@example.org", "refused@example.org"], sys.stdin.read(),
    mail_options=["BODY=8BITMIME", "ENVID=abc"], rcpt_options=["NOTIFY=FAILURE"])
assert list(refused) == ["refused@example.org"] and refused["refused@example.org"][0] == 550, refused
try:
    s.sendmail("stranger@acme.example", ["b@example.org"], "x")
    assert False
except smtplib.SMTPSenderRefused as e:
    assert e.smtp_code == 550, e
s.quit()`
	ca := certFile(t)
	for addr, how := range map[string]string{submission: "starttls", submissions: "tls"} {
		client(t, interopText, "/usr/bin/python3", "-c", script, addr, how, ca)
		if m := in.wantOne(t, "PLAIN"); !m.env.EightBit || m.env.EnvID != "abc" || m.rcpts[0].Notify == 0 {
			t.Errorf("%+v %+v", m.env, m.rcpts)
		}
	}
}

func TestGoSMTPClient(t *testing.T) {
	in, submission, _ := doors(t)
	c, err := smtp.DialStartTLS(submission, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", testUser, testSecret)); err != nil {
		t.Fatal(err)
	}
	if n, ok := c.MaxMessageSize(); !ok || n != 35<<20 {
		t.Errorf("SIZE %d %t", n, ok)
	}
	if err := c.Mail("a@acme.example", &smtp.MailOptions{RequireTLS: true, UTF8: true, Return: smtp.DSNReturnHeaders, EnvelopeID: "x y+z"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt("b@example.org", &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyDelayed},
		OriginalRecipientType: smtp.DSNAddressTypeUTF8, OriginalRecipient: "jürgen@example.org"}); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, interopCRLF)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m := in.wantOne(t, "PLAIN")
	if m.env.EnvID != "x y+z" || !m.env.RequireTLS || !m.env.UTF8 || m.env.Ret != "HDRS" || m.rcpts[0].ORcpt != "utf-8;jürgen@example.org" {
		t.Errorf("%+v %+v", m.env, m.rcpts)
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func unb64(t *testing.T, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestScram checks both proofs, and that a name that does not exist cannot be
// told from a wrong secret before the end.
func TestScram(t *testing.T) {
	in, _, submissions := doors(t)
	login := func(user, secret string) (salt, verdict string) {
		conn, err := tls.Dial("tcp", submissions, clientTLS())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		p := &peer{t: t, conn: conn}
		p.expect("220 ")
		p.do("EHLO app.example", "250")
		c, err := scram.SHA256.NewClient(user, secret, "globex")
		if err != nil {
			t.Fatal(err)
		}
		conv := c.NewConversation()
		step := func(challenge string) string {
			m, err := conv.Step(challenge)
			if err != nil {
				t.Fatal(err)
			}
			return b64([]byte(m))
		}
		first := unb64(t, p.do("AUTH SCRAM-SHA-256 "+step(""), "334 ")[4:])
		p.send(step(first) + "\r\n")
		final := p.reply()
		if strings.HasPrefix(final, "334 ") {
			p.do(step(unb64(t, final[4:])), "235 2.7.0")
			final = "235 2.7.0"
			if !conv.Valid() {
				t.Error("the server did not prove that it knows the secret")
			}
		}
		_, salt, _ = strings.Cut(first, ",s=")
		return salt, final
	}
	if _, v := login(testUser, testSecret); v != "235 2.7.0" {
		t.Error(v)
	}
	if in.last.Username != testUser || in.last.Authzid != "globex" {
		t.Errorf("%+v", in.last)
	}
	_, wrong := login(testUser, "wrong")
	salt, nobody := login("acme/nobody", testSecret)
	if !strings.HasPrefix(wrong, "535 5.7.8 ") || wrong != nobody {
		t.Errorf("a wrong secret gives %q, a wrong name %q", wrong, nobody)
	}
	if again, _ := login("acme/nobody", "x"); again != salt || !strings.HasSuffix(salt, ",i=4096") {
		t.Errorf("the decoy's salt is %q, then %q", salt, again)
	}
}
