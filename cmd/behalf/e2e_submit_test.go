package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"behalf/internal/testkit/lab"
)

const acmeFrom = "support@acme.test"

// smtpClient submits a message with a subject through STARTTLS or TLS, and
// gives what it printed.
type smtpClient struct {
	name string
	send func(t *testing.T, r *lab.Relay, how, subject string) (string, error)
}

func door(r *lab.Relay, how string) (host, port string) {
	addr := r.Submission
	if how == "tls" {
		addr = r.Submissions
	}
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}

func option(how string, starttls, tls string) string {
	if how == "tls" {
		return tls
	}
	return starttls
}

var smtpClients = []smtpClient{
	{"swaks", func(t *testing.T, r *lab.Relay, how, subject string) (string, error) {
		host, port := door(r, how)
		return lab.Run(t, "", lab.Program(t, "swaks"), "--server", host, "--port", port, option(how, "--tls", "--tls-on-connect"), "--tls-verify", "--tls-ca-path", r.CAFile,
			"--auth", "LOGIN", "--auth-user", lab.AcmeUser, "--auth-password", lab.AcmeSecret,
			"--from", acmeFrom, "--to", "you@sink.test", "--header", "Subject: "+subject, "--body", "Good day")
	}},
	{"msmtp", func(t *testing.T, r *lab.Relay, how, subject string) (string, error) {
		host, port := door(r, how)
		return lab.Run(t, message(acmeFrom, "you@sink.test", subject), lab.Program(t, "msmtp"), "--debug", "--file=/dev/null", "--host="+host, "--port="+port,
			"--tls=on", "--tls-starttls="+option(how, "on", "off"), "--tls-trust-file="+r.CAFile, "--auth=plain", "--user="+lab.AcmeUser, "--passwordeval=printf %s "+lab.AcmeSecret,
			"--from="+acmeFrom, "you@sink.test")
	}},
	{"curl", func(t *testing.T, r *lab.Relay, how, subject string) (string, error) {
		host, port := door(r, how)
		return lab.Run(t, message(acmeFrom, "you@sink.test", subject), lab.Program(t, "curl"), "-sS", "-v", "--max-time", "20", option(how, "smtp", "smtps")+"://"+net.JoinHostPort(host, port),
			"--ssl-reqd", "--cacert", r.CAFile, "--user", lab.AcmeUser+":"+lab.AcmeSecret, "--mail-from", acmeFrom, "--mail-rcpt", "you@sink.test", "--upload-file", "-")
	}},
	{"nodemailer", func(t *testing.T, r *lab.Relay, how, subject string) (string, error) {
		host, port := door(r, how)
		return lab.Node(t, "", "nodemailer_send.js", how, host, port, r.CAFile, lab.AcmeUser, lab.AcmeSecret, "Acme Support <"+acmeFrom+">", "you@sink.test", subject)
	}},
	{"smtplib", func(t *testing.T, r *lab.Relay, how, subject string) (string, error) {
		host, port := door(r, how)
		return lab.Python(t, message(acmeFrom, "you@sink.test", subject), "smtplib_send.py", how, host, port, r.CAFile, lab.AcmeUser, lab.AcmeSecret, acmeFrom, "you@sink.test")
	}},
}

// Every client is answered with the message's id, and its message is delivered,
// signed.
func TestE2ESubmitBySMTP(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	r := start(t, w, "")
	t.Run("by", func(t *testing.T) {
		for _, c := range smtpClients {
			for _, how := range []string{"starttls", "tls"} {
				t.Run(c.name+" "+how, func(t *testing.T) {
					t.Parallel()
					subject := "sent by " + c.name + " over " + how
					out, err := c.send(t, r, how, subject)
					if err != nil {
						t.Fatal(err)
					}
					arrivesSigned(t, w, r, idIn(t, out), subject)
				})
			}
		}
	})
}

// arrivesSigned checks that a message came from acme.test with its signatures.
func arrivesSigned(t *testing.T, w *lab.World, r *lab.Relay, id, subject string) {
	t.Helper()
	r.Reaches(t, id, "delivered", soon)
	got := lab.Arrived(t, w.Sink, "Subject: "+subject)
	for _, want := range []string{"d=acme.test; s=b1;", "d=acme.test; s=b2;"} {
		if !strings.Contains(got.Data, want) {
			t.Errorf("no signature with %s in\n%s", want, got.Data)
		}
	}
	if trace := r.MustCLI(t, "message", "trace", id); !strings.Contains(trace, lab.AcmeUser) {
		t.Errorf("the trace does not name the credential:\n%s", trace)
	}
}

// A mail server of the tenant's relays through us, with SASL and TLS that it
// checks.
func TestE2ESubmitByPostfix(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"starttls", "tls"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := lab.NewWorld(t, nil, nil)
			r := start(t, w, "")
			host, port := door(r, how)
			s := lab.StartPostfix(t, 0, lab.ServerOptions{Hostname: "office.acme.test", Next: net.JoinHostPort(host, port),
				NextAuth: [2]string{lab.AcmeUser, lab.AcmeSecret}, NextCA: r.CAFile, NextImplied: how == "tls"})
			subject := "relayed by Postfix over " + how
			lab.MustRun(t, "", lab.Program(t, "swaks"), "--server", s.Host, "--port", fmt.Sprint(s.Port), "--from", acmeFrom, "--to", "you@sink.test", "--header", "Subject: "+subject)
			got := lab.Arrived(t, w.Sink, "Subject: "+subject)
			if !strings.Contains(got.Data, "d=acme.test; s=b2;") {
				t.Errorf("not signed:\n%s", got.Data)
			}
		})
	}
}

// The HTTP door takes parts or a finished message, by any HTTP client and by
// our own commands.
func TestE2ESubmitByHTTP(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	r := start(t, w, "")
	curl := func(t *testing.T, input, query, contentType string) string {
		t.Helper()
		out := lab.MustRun(t, input, lab.Program(t, "curl"), "-sS", "--fail-with-body", "--max-time", "20", "-H", "Authorization: Bearer "+lab.AcmeSecret, "-H", "Content-Type: "+contentType,
			"--data-binary", "@-", r.HTTP+"/v1/messages"+query)
		var got struct{ ID string }
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.ID == "" {
			t.Fatalf("%v in %s", err, out)
		}
		return got.ID
	}
	own := func(t *testing.T, input string, args ...string) string {
		t.Helper()
		out, err := r.CLIAs(t, lab.AcmeSecret, input, binary(t), args...)
		if err != nil {
			t.Fatal(err)
		}
		return idIn(t, out)
	}
	for _, v := range []struct {
		name string
		send func(t *testing.T, subject string) string
	}{
		{"curl JSON", func(t *testing.T, subject string) string {
			return curl(t, `{"from":"Acme Support <support@acme.test>","to":["you@sink.test"],"subject":"`+subject+`","text":"Grüße","html":"<p>Grüße</p>","attachments":[{"filename":"a.txt","content_type":"text/plain","content":"YXR0YWNoZWQK"}]}`, "", "application/json")
		}},
		{"curl rfc822", func(t *testing.T, subject string) string {
			return curl(t, message(acmeFrom, "you@sink.test", subject), "?from=support@acme.test&to=you@sink.test", "message/rfc822")
		}},
		{"behalf send", func(t *testing.T, subject string) string {
			return own(t, "Good day\n", "send", "--from", acmeFrom, "--to", "you@sink.test", "--subject", subject)
		}},
		{"sendmail", func(t *testing.T, subject string) string {
			return sendmail(t, r, strings.ReplaceAll(message(acmeFrom, "you@sink.test", subject), "\r\n", "\n"), "-t", "-i", "-f", acmeFrom)
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			subject := "sent by " + v.name
			arrivesSigned(t, w, r, v.send(t, subject), subject)
		})
	}
}

// sendmail submits by the name that programs expect. Like other programs of
// that name it says nothing when all is well, so the newest message is taken.
func sendmail(t *testing.T, r *lab.Relay, message string, args ...string) string {
	t.Helper()
	out, err := r.CLIAs(t, lab.AcmeSecret, message, filepath.Join(filepath.Dir(binary(t)), "sendmail"), args...)
	if err != nil || out != "" {
		t.Fatalf("sendmail said %q, %v", out, err)
	}
	return r.Find(t, "--limit", "1")[0].ID
}
