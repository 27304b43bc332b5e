package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StartExim runs Exim, at a port that may be 0 for any.
func StartExim(t testing.TB, port int, o ServerOptions) *Server {
	t.Helper()
	Root(t)
	exim := peer(t, "exim4")
	s := o.defaults(t, port)
	cert := NewCertificate(t, o.Hostname, s.Host)
	s.CA = cert.CertFile
	for _, d := range []string{"spool", "log"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	MustRun(t, "", "chown", "-R", "Debian-exim:Debian-exim", s.dir)
	host, nextPort, _ := strings.Cut(o.Next, ":")
	accept, authenticators := "accept", ""
	if o.Auth {
		accept = "accept authenticated = *\n  deny message = log in first"
		authenticators = fmt.Sprintf(`begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${if and {{eq{$auth2}{%[1]s}}{eq{$auth3}{%[2]s}}}}
  server_set_id = $auth2
  server_advertise_condition = ${if def:tls_in_cipher}
`, labUser, labPass)
	}
	conf := Write(t, s.dir, "exim.conf", fmt.Sprintf(`exim_path = %[1]s
spool_directory = %[2]s/spool
log_file_path = %[2]s/log/%%slog
pid_file_path = %[2]s/exim.pid
primary_hostname = %[3]s
daemon_smtp_ports = %[5]d
local_interfaces = %[4]s
tls_certificate = %[6]s
tls_privatekey = %[7]s
tls_advertise_hosts = *
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_queue_per_connection = 0
smtputf8_advertise_hosts = *
never_users =
begin acl
acl_rcpt:
  %[8]s
acl_data:
  accept
begin routers
next:
  driver = manualroute
  transport = next
  route_list = * "%[9]s::%[10]s" byname
  self = send
begin transports
next:
  driver = smtp
  hosts_avoid_tls = *
  allow_localhost
begin retry
* * F,2h,5m
%[11]s`, exim, s.dir, o.Hostname, s.Host, s.Port, cert.CertFile, cert.KeyFile, accept, host, nextPort, authenticators))
	Spawn(t, nil, exim, "-C", conf, "-bdf", "-q1m")
	t.Cleanup(func() { showLog(t, "exim's main log", filepath.Join(s.dir, "log/mainlog")) })
	Listens(t, s.Addr())
	return s
}
