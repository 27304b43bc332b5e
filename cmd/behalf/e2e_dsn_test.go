package main_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/smtppeer"
)

// report is what Python's email package reads in a bounce.
type report struct {
	Type, Report, From, To, Subject, Auto, Text string
	Signed                                      bool
	Parts, Defects                              []string
	Message                                     map[string]string
	Recipients                                  []map[string]string
	Returned                                    struct{ Type, Subject string }
}

func readReport(t *testing.T, data string) report {
	t.Helper()
	out, err := lab.Python(t, data, "parse_dsn.py")
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r
}

// choosy refuses recipients whose name begins with nobody.
func choosy(s smtppeer.Step) smtppeer.Action {
	if s.Verb == "RCPT" && strings.Contains(s.Line, "<nobody") {
		return smtppeer.Action{Reply: "550 5.1.1 <nobody@sink.test>: no such mailbox"}
	}
	return smtppeer.Action{}
}

// reports are the notifications that came to the sender.
func reports(w *lab.World) []smtppeer.Message {
	return slices.DeleteFunc(w.Sink.Messages(), func(m smtppeer.Message) bool {
		return !slices.ContainsFunc(m.To, func(to string) bool { return strings.HasSuffix(to, "@acme.test") })
	})
}

// swaks submits with DSN parameters, which it can give as raw arguments.
func swaksDSN(t *testing.T, r *lab.Relay, from, rcptArgs, to, subject string) string {
	t.Helper()
	script := "import smtplib,ssl,sys\nh,p,ca,u,w,f,ra,to,s=sys.argv[1:]\n" +
		"c=smtplib.SMTP(h,int(p),timeout=20);c.starttls(context=ssl.create_default_context(cafile=ca));c.login(u,w)\n" +
		"assert c.docmd('MAIL FROM:<%s> RET=HDRS ENVID=QQ314159'%f)[0]==250\nr=c.docmd('RCPT TO:<%s> %s'%(to,ra));assert r[0]==250,r\n" +
		"code,reply=c.data(('From: support@acme.test\\r\\nTo: %s\\r\\nSubject: %s\\r\\n\\r\\nGood day\\r\\n'%(to,s)).encode());assert code==250,reply\nprint(reply.decode())\n"
	host, port := door(r, "starttls")
	return idIn(t, lab.MustRun(t, script, "/usr/bin/python3", "-", host, port, r.CAFile, lab.AcmeUser, lab.AcmeSecret, from, rcptArgs, to, subject))
}

func TestE2EBounce(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, choosy)
	r := start(t, w, "")
	id := swaksDSN(t, r, acmeFrom, "NOTIFY=FAILURE,DELAY ORCPT=rfc822;nobody@sink.test", "nobody@sink.test", "to nobody")
	r.Reaches(t, id, "failed", soon)
	lab.Until(t, soon, "the bounce", func() bool { return len(reports(w)) > 0 })
	got := reports(w)[0]
	if got.From != "" || got.To[0] != acmeFrom {
		t.Errorf("sent from <%s> to %v", got.From, got.To)
	}
	dsn := readReport(t, got.Data)
	for _, v := range []struct{ what, got, want string }{
		{"type", dsn.Type, "multipart/report"}, {"report-type", dsn.Report, "delivery-status"}, {"Auto-Submitted", dsn.Auto, "auto-replied"},
		{"envelope id", dsn.Message["original-envelope-id"], "QQ314159"}, {"reporting MTA", dsn.Message["reporting-mta"], "dns; relay.platform.test"},
	} {
		if !strings.EqualFold(v.got, v.want) {
			t.Errorf("%s is %q, want %q", v.what, v.got, v.want)
		}
	}
	if !strings.Contains(strings.ToLower(dsn.From), "mailer-daemon@platform.test") || !dsn.Signed || len(dsn.Defects) > 0 {
		t.Errorf("From %s, signed %v, defects %v", dsn.From, dsn.Signed, dsn.Defects)
	}
	if len(dsn.Parts) != 3 || dsn.Parts[1] != "message/delivery-status" || dsn.Parts[2] != "text/rfc822-headers" || dsn.Returned.Subject != "to nobody" {
		t.Errorf("parts %v, returned %+v: RET=HDRS asked for the header only", dsn.Parts, dsn.Returned)
	}
	if len(dsn.Recipients) != 1 {
		t.Fatalf("%d recipients", len(dsn.Recipients))
	}
	for field, want := range map[string]string{"final-recipient": "rfc822; nobody@sink.test", "original-recipient": "rfc822; nobody@sink.test", "action": "failed", "status": "5.1.1", "remote-mta": "dns; mx.sink.test", "diagnostic-code": "smtp; 550 5.1.1"} {
		if got := strings.ReplaceAll(dsn.Recipients[0][field], ";", "; "); !strings.HasPrefix(strings.ReplaceAll(got, ";  ", "; "), want) {
			t.Errorf("%s is %q, want %q", field, dsn.Recipients[0][field], want)
		}
	}
	if !strings.Contains(dsn.Text, "nobody@sink.test") {
		t.Errorf("the text does not name the recipient:\n%s", dsn.Text)
	}
	if t.Failed() {
		t.Log(got.Data)
	}
	// The bounce's own signature passes where it arrives.
	if v := lab.Dkimpy(t, w.DNS.Addr, lab.Arrival{Data: got.Data, MailFrom: "", Client: "127.0.0.1", Helo: "relay.platform.test"}); len(v.DKIM) == 0 || !v.DKIM[0].Pass {
		t.Errorf("the bounce's signature does not pass: %+v", v)
	}
}

func TestE2EBounceOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, choosy)
	r := start(t, w, "")
	never := swaksDSN(t, r, acmeFrom, "NOTIFY=NEVER", "nobody@sink.test", "never")
	null := swaksDSN(t, r, "", "NOTIFY=FAILURE", "nobody@sink.test", "from the null path")
	delivered := swaksDSN(t, r, acmeFrom, "NOTIFY=FAILURE", "you@sink.test", "delivered in silence")
	r.Reaches(t, never, "failed", soon)
	r.Reaches(t, null, "failed", soon)
	r.Reaches(t, delivered, "delivered", soon)

	// What is asked for comes after what is not, so there is something to wait for.
	success := swaksDSN(t, r, acmeFrom, "NOTIFY=SUCCESS", "you@sink.test", "with a receipt")
	r.Reaches(t, success, "delivered", soon)
	lab.Until(t, soon, "the receipt", func() bool { return len(reports(w)) > 0 })
	time.Sleep(time.Second)
	got := reports(w)
	if len(got) != 1 {
		t.Errorf("%d notifications came, want the receipt alone", len(got))
	}
	dsn := readReport(t, got[0].Data)
	if action := dsn.Recipients[0]["action"]; action != "delivered" && action != "relayed" {
		t.Errorf("action %q", action)
	}
	if dsn.Returned.Subject != "with a receipt" {
		t.Errorf("the receipt is for %q", dsn.Returned.Subject)
	}
	// Onward we always ask for what we need ourselves.
	for _, line := range w.Sink.Lines() {
		if strings.HasPrefix(line, "RCPT TO:<you@") && !strings.Contains(line, "NOTIFY=FAILURE,DELAY") {
			t.Errorf("asked onward: %s", line)
		}
	}
}
