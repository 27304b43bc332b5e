package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// peer finds a program that was unpacked rather than installed.
func peer(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Top(t), ".cache/peers/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		Missing(t, name)
	}
	return path
}

// StartOpenSMTPD runs OpenSMTPD, at a port that may be 0 for any. Its paths are
// compiled in, so it runs in a mount namespace of its own.
//
// Debian's OpenSMTPD 6.8.0p2 offers STARTTLS, but with OpenSSL 3 every handshake
// fails at its private key (OpenSMTPD issues 1171 and 1239). That makes it the
// lab's host that cannot do the TLS it offers; it has no AUTH, which it would
// take over TLS only.
func StartOpenSMTPD(t testing.TB, port int, o ServerOptions) *Server {
	t.Helper()
	Root(t)
	smtpd := peer(t, "smtpd")
	unshare := Program(t, "unshare")
	if o.Auth {
		t.Fatal("OpenSMTPD here has no TLS that works, so it takes no AUTH")
	}
	s := o.defaults(t, port)
	cert := NewCertificate(t, o.Hostname, s.Host)
	s.CA = cert.CertFile
	MustRun(t, "", "chmod", "600", cert.KeyFile)
	spool := filepath.Join(s.dir, "spool")
	for dir, mode := range map[string]os.FileMode{spool: 0o711, filepath.Join(s.dir, "run"): 0o755, filepath.Join(s.dir, "lib"): 0o755, filepath.Join(s.dir, "lib/empty"): 0o755} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	conf := Write(t, s.dir, "smtpd.conf", fmt.Sprintf(`pki lab cert "%s"
pki lab key "%s"
mta limit conn-delay-host 0 conn-delay-source 0 conn-delay-connector 0 conn-delay-relay 0
listen on %s port %d tls pki lab hostname %s
action pass relay host smtp://%s
match from any for any action pass
`, cert.CertFile, cert.KeyFile, s.Host, s.Port, o.Hostname, o.Next))
	Spawn(t, nil, unshare, "-m", "bash", "-c", strings.NewReplacer("DIR", s.dir, "SMTPD", smtpd, "CONF", conf).Replace(`
set -e
mount --make-rprivate /
mkdir -p /var/spool/smtpd /run/opensmtpd /var/lib/opensmtpd /usr/lib/x86_64-linux-gnu/opensmtpd
mount --bind DIR/spool /var/spool/smtpd
mount --bind DIR/run /run
mkdir -p /run/opensmtpd
mount --bind DIR/lib /var/lib/opensmtpd
exec SMTPD -d -f CONF`))
	Listens(t, s.Addr())
	return s
}
