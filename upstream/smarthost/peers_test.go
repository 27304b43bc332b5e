package smarthost

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"behalf/internal/testkit/need"
	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
	"behalf/upstream/upstreamtest"
)

// backend is a go-smtp server that takes mail from u, whose password is pw.
type backend struct {
	mu   sync.Mutex
	data []string
}

type session struct {
	b      *backend
	authed bool
}

func (b *backend) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &session{b: b}, nil }
func (s *session) AuthMechanisms() []string                        { return []string{sasl.Plain} }
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "u" || password != "pw" {
			return gosmtp.ErrAuthFailed
		}
		s.authed = true
		return nil
	}), nil
}
func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }
func (s *session) Mail(string, *gosmtp.MailOptions) error {
	if !s.authed {
		return gosmtp.ErrAuthRequired
	}
	return nil
}
func (s *session) Rcpt(to string, o *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "no@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	if len(o.Notify) != 2 || o.OriginalRecipient == "" {
		return errors.New("no DSN parameters")
	}
	return nil
}
func (s *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.data = append(s.b.data, string(b))
	return err
}

// TestGoSMTP delivers to a server we did not write, by STARTTLS and AUTH.
func TestGoSMTP(t *testing.T) {
	cert, _ := smtppeer.Certificate(t, "127.0.0.1")
	b := &backend{}
	s := gosmtp.NewServer(b)
	s.Domain, s.TLSConfig, s.EnableDSN, s.EnableSMTPUTF8 = "smart.test", cert, true, true
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	cfg := Config{Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port, CA: certificate(cert), Username: "u", Password: password("pw")}
	u := open(t, cfg)
	for range 3 {
		rs := upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, "1@b.test", "no@b.test", "v@a.test>2@b.test"))
		if rs[0].Failure != nil || rs[2].Failure != nil || rs[1].Failure == nil || rs[1].Failure.Reason != mail.ReasonNoMailbox {
			t.Error(upstreamtest.Failures(rs))
		}
	}
	if len(b.data) != 6 || b.data[0] != upstreamtest.Content {
		t.Errorf("%d messages arrived: %q", len(b.data), b.data)
	}
	if n := u.Sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	cfg.Password = password("wrong")
	f := upstreamtest.Deliver(t, open(t, cfg), t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, "1@b.test"))[0].Failure
	if f == nil || f.Scope != mail.OfRoute || f.Reason != mail.ReasonAuth || f.Code != 535 {
		t.Errorf("a wrong password: %+v", f)
	}
}

// TestPostfix relays through a real Postfix, with a peer of ours behind it.
func TestPostfix(t *testing.T) {
	sink := smtppeer.Start(t, smtppeer.Options{Ext: []string{"PIPELINING", "8BITMIME", "DSN", "SIZE 10485760"}})
	port := postfix(t, sink.Port())
	u := open(t, Config{Host: "127.0.0.1", Port: port, Security: "none"})
	var pairs []string
	for i := range 5 {
		pairs = append(pairs, fmt.Sprintf("v%d@a.test>%d@b.test", i, i))
	}
	for range 4 {
		for i, f := range upstreamtest.Failures(upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, pairs...))) {
			if f != nil {
				t.Errorf("recipient %d: %v", i, f)
			}
		}
	}
	rs := upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, "ok@b.test", "1@refused.test"))
	if f := rs[1].Failure; rs[0].Failure != nil || f == nil || f.Scope != mail.OfRecipient || f.Reason != mail.ReasonNoMailbox {
		t.Errorf("partly refused: %v", upstreamtest.Failures(rs))
	}
	long := upstreamtest.Content + strings.Repeat("x", 2<<20)
	if f := upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: long}, "1@b.test"))[0].Failure; f == nil || f.Reason != mail.ReasonTooLarge {
		t.Errorf("over message_size_limit: %v", f)
	}
	for i := 0; len(sink.Messages()) < 21; i++ {
		if i == 600 {
			t.Fatalf("%d of 21 came through", len(sink.Messages()))
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, m := range sink.Messages() {
		_, body, _ := strings.Cut(m.Data, "\r\n\r\n")
		if _, want, _ := strings.Cut(upstreamtest.Content, "\r\n\r\n"); body != want { // Postfix adds to the header
			t.Errorf("came through as %q", m.Data)
		}
		if !strings.Contains(m.ToArgs[0], "NOTIFY=FAILURE,DELAY") {
			t.Errorf("RCPT parameters %q", m.ToArgs)
		}
	}
	if u.Sessions() > 1 {
		t.Errorf("%d sessions", u.Sessions())
	}
}

// postfix starts a Postfix of its own that relays to a port of loopback, and
// returns the port it listens at.
func postfix(t *testing.T, relay uint16) int {
	t.Helper()
	if _, err := exec.LookPath("postfix"); err != nil || os.Getuid() != 0 {
		need.Missing(t, "needs Postfix, and root to start it")
	}
	dist, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		need.Missing(t, err)
	}
	// Not t.TempDir, whose path is too long for Postfix's sockets.
	dir, err := os.MkdirTemp("", "pf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	for _, d := range []string{"etc", "queue", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(dir, 0o755)
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		need.Missing(t, string(out))
	}
	main := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/data/mail.log
maillog_file_prefixes = %[1]s
myhostname = pf.test
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{ { refused.test = 550 5.1.1 User unknown } }
message_size_limit = 1048576
relayhost = [127.0.0.1]:%[2]d
smtp_tls_security_level = none
smtp_host_lookup = native
`, dir, relay)
	master := regexp.MustCompile(`(?m)^smtp +inet .*`).ReplaceAllString(string(dist), "127.0.0.1:"+strconv.Itoa(port)+" inet n - n - - smtpd")
	master = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]* +(?:unix|inet|unix-dgram|fifo) +[-ny] +[-ny] +)y`).ReplaceAllString(master, "${1}n")
	if !regexp.MustCompile(`(?m)^postlog`).MatchString(master) {
		master += "postlog unix-dgram n - n - 1 postlogd\n"
	}
	etc := filepath.Join(dir, "etc")
	os.WriteFile(filepath.Join(etc, "main.cf"), []byte(main), 0o644)
	os.WriteFile(filepath.Join(etc, "master.cf"), []byte(master), 0o644)
	if out, err := exec.Command("postfix", "-c", etc, "start").CombinedOutput(); err != nil {
		t.Fatalf("starting Postfix: %v\n%s", err, out)
	}
	t.Cleanup(func() { exec.Command("postfix", "-c", etc, "stop").Run() })
	for range 1000 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			return port
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "data", "mail.log"))
	t.Fatalf("Postfix does not listen:\n%s", log)
	return 0
}

func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}
