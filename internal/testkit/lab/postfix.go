package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Server is somebody else's mail server.
type Server struct {
	Host string
	Port int
	User string // what it takes by SMTP AUTH, over TLS
	Pass string
	CA   string // file with the certificate it shows, for Host
	dir  string
}

// Addr is host:port.
func (s *Server) Addr() string { return Addr(s.Host, s.Port) }

// ServerOptions say how a mail server is set up. It passes on all it takes.
type ServerOptions struct {
	Hostname    string
	Next        string // host:port that it hands all mail to
	Auth        bool   // takes mail for anyone from those who log in as relay, and from nobody else
	NextAuth    [2]string
	NextCA      string // file; TLS to Next is then demanded, with this certificate
	NextImplied bool   // TLS to Next from the first octet
}

const (
	labUser = "relay"
	labPass = "a lab password"
)

func (o *ServerOptions) defaults(t testing.TB, port int) *Server {
	s := &Server{Host: IP(), Port: port, dir: Dir(t)}
	if port == 0 {
		s.Port = Port(t)
	}
	if o.Auth {
		s.User, s.Pass = labUser, labPass
	}
	return s
}

var chrooted = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*\s+(?:unix|inet|unix-dgram|fifo)\s+[-ny]\s+[-ny]\s+)y`)

// StartPostfix runs Postfix, at a port that may be 0 for any.
func StartPostfix(t testing.TB, port int, o ServerOptions) *Server {
	t.Helper()
	Root(t)
	postfix := Program(t, "postfix")
	s := o.defaults(t, port)
	cert := NewCertificate(t, o.Hostname, s.Host)
	s.CA = cert.CertFile
	etc := filepath.Join(s.dir, "etc")
	for _, d := range []string{"queue", "data", "log"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	MustRun(t, "", "chown", "postfix", filepath.Join(s.dir, "data"))
	host, nextPort, _ := strings.Cut(o.Next, ":")
	conf := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/log/mail.log
maillog_file_prefixes = %[1]s
myhostname = %[2]s
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
smtp_bind_address = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtp_host_lookup = native
relayhost = [%[3]s]:%[4]s
smtpd_tls_cert_file = %[5]s
smtpd_tls_key_file = %[6]s
smtpd_tls_security_level = may
smtputf8_enable = yes
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_security_level = may
`, s.dir, o.Hostname, host, nextPort, cert.CertFile, cert.KeyFile)
	if o.Auth {
		startDovecotAuth(t, filepath.Join(s.dir, "queue"))
		conf += `smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = auth
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
`
	}
	if o.NextAuth[0] != "" {
		pass := Write(t, etc, "next_passwords", fmt.Sprintf("[%s]:%s %s:%s\n", host, nextPort, o.NextAuth[0], o.NextAuth[1]))
		conf += fmt.Sprintf("smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\nsmtp_sasl_password_maps = texthash:%s\n", pass)
	}
	if o.NextCA != "" {
		conf += fmt.Sprintf("smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = relay.platform.test\nsmtp_tls_CAfile = %s\n", o.NextCA)
	}
	if o.NextImplied {
		conf += "smtp_tls_wrappermode = yes\n"
	}
	Write(t, etc, "main.cf", conf)
	Write(t, etc, "master.cf", postfixMaster(t, Addr(s.Host, s.Port)))
	t.Cleanup(func() {
		stopByFile(t, filepath.Join(s.dir, "queue/pid/master.pid"))
		showLog(t, "postfix", filepath.Join(s.dir, "log/mail.log"))
	})
	MustRun(t, "", postfix, "-c", etc, "start")
	Listens(t, s.Addr())
	return s
}

// postfixMaster is the distribution's table of services, without changing
// roots, listening where it is told.
func postfixMaster(t testing.TB, addr string) string {
	t.Helper()
	b, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	skip := false
	for line := range strings.Lines(chrooted.ReplaceAllString(string(b), "${1}n")) {
		name, _, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"):
		case name == "smtp" && strings.Contains(line, "inet"):
			line, skip = addr+" inet n - n - - smtpd\n", false
		default:
			skip = map[string]bool{"maildrop": true, "uucp": true, "ifmail": true, "bsmtp": true, "scalemail-backend": true, "mailman": true}[name]
		}
		if !skip {
			out.WriteString(line)
		}
	}
	return out.String()
}

// startDovecotAuth serves SASL at the socket auth in a Postfix queue folder.
func startDovecotAuth(t testing.TB, queue string) {
	t.Helper()
	dovecot := Program(t, "dovecot")
	dir := Dir(t)
	users := Write(t, dir, "users", labUser+":{PLAIN}"+labPass+"::::::\n")
	conf := Write(t, dir, "dovecot.conf", fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 scram-sha-256
passdb {
  driver = passwd-file
  args = username_format=%%u %[2]s
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}
service auth {
  unix_listener %[3]s/auth {
    mode = 0666
  }
}
service stats {
  chroot =
}
service anvil {
  chroot =
}
`, dir, users, queue))
	Spawn(t, nil, dovecot, "-F", "-c", conf)
	Until(t, patience, "Dovecot's socket", func() bool {
		_, err := os.Stat(filepath.Join(queue, "auth"))
		return err == nil
	})
}
