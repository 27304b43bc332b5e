package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"behalf/internal/testkit/cmd/bench/load"
)

// chrooted finds, in the list of Postfix's services, those in a changed root.
var chrooted = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*\s+(?:unix|inet|unix-dgram|fifo)\s+[-ny]\s+[-ny]\s+)y`)

// tuned is what a busy site sets on a Postfix that relays to one hop.
const tuned = `default_process_limit = 200
initial_destination_concurrency = 20
default_destination_concurrency_limit = 40
smtp_destination_concurrency_limit = 40
in_flow_delay = 0
smtp_connection_cache_on_demand = yes
smtp_connection_reuse_count_limit = 1000
smtpd_peername_lookup = no
max_use = 1000
`

// startPostfix starts a Postfix of its own in dir, that relays to the port next;
// with OpenDKIM when it shall sign.
func startPostfix(ctx context.Context, dir string, next int, signs bool) (*relay, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	etc := filepath.Join(dir, "etc")
	for _, d := range []string{etc, filepath.Join(dir, "queue"), filepath.Join(dir, "data"), filepath.Join(dir, "log")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.CommandContext(ctx, "chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("giving Postfix its folder: %w: %s", err, out)
	}
	main := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/log/mail.log
maillog_file_prefixes = %[1]s
myhostname = relay.bench.test
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_host_lookup = native
relayhost = [127.0.0.1]:%[2]d
smtp_connection_cache_destinations = [127.0.0.1]:%[2]d
smtp_tls_security_level = none
`, dir, next) + tuned
	r := &relay{name: "Postfix", addr: "127.0.0.1:" + strconv.Itoa(port), accounts: []load.Account{{From: "billing@sender.test"}}, signs: signs, flush: flushPostfix(etc)}
	stopMilter := func() error { return nil }
	if signs {
		socket, pid, stop, err := startOpenDKIM(ctx, filepath.Join(dir, "dkim"))
		if err != nil {
			return nil, err
		}
		r.name, stopMilter = "Postfix and OpenDKIM", stop
		r.pids = append(r.pids, pid)
		main += "smtpd_milters = unix:" + socket + "\nmilter_default_action = tempfail\n"
	}
	services, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the services of Postfix (scripts/install-test-deps installs it): %w", err), stopMilter())
	}
	master := chrooted.ReplaceAllString(string(services), "${1}n")
	master = regexp.MustCompile(`(?m)^smtp\s+inet .*`).ReplaceAllString(master, "127.0.0.1:"+strconv.Itoa(port)+" inet n - n - - smtpd")
	if !strings.Contains(master, "\npostlog") {
		master += "postlog unix-dgram n - n - 1 postlogd\n"
	}
	for name, s := range map[string]string{"main.cf": main, "master.cf": master} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(s), 0o644); err != nil {
			return nil, errors.Join(err, stopMilter())
		}
	}
	r.stop = func() error {
		out, err := exec.Command("postfix", "-c", etc, "stop").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("stopping Postfix: %w: %s", err, out)
		}
		return errors.Join(err, stopMilter())
	}
	if out, err := exec.CommandContext(ctx, "postfix", "-c", etc, "start").CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Postfix: %w: %s", err, out), stopMilter())
	}
	if err := answers(ctx, r.addr); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	pid, err := os.ReadFile(filepath.Join(dir, "queue", "pid", "master.pid"))
	if err != nil {
		return nil, errors.Join(err, r.stop())
	}
	first, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the process of Postfix: %w", err), r.stop())
	}
	r.pids = append(r.pids, first)
	return r, nil
}

// startOpenDKIM starts a filter that signs as sender.test with RSA-2048.
func startOpenDKIM(ctx context.Context, dir string) (socket string, pid int, stop func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", 0, nil, err
	}
	key, socket := filepath.Join(dir, "s1.private"), filepath.Join(dir, "socket")
	if out, err := exec.CommandContext(ctx, "openssl", "genrsa", "-traditional", "-out", key, "2048").CombinedOutput(); err != nil {
		return "", 0, nil, fmt.Errorf("making a key: %w: %s", err, out)
	}
	conf := filepath.Join(dir, "opendkim.conf")
	text := fmt.Sprintf("Mode s\nDomain sender.test\nSelector s1\nKeyFile %s\nCanonicalization relaxed/relaxed\nSocket local:%s\nUMask 000\nBackground no\nSyslog no\nInternalHosts 127.0.0.1\nRequireSafeKeys no\n", key, socket)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return "", 0, nil, err
	}
	p, err := spawn(dir, "opendkim", "-x", conf, "-f")
	if err != nil {
		return "", 0, nil, err
	}
	for range 100 {
		if _, err := os.Stat(socket); err == nil {
			return socket, p.pid, p.stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", 0, nil, errors.Join(errors.New("OpenDKIM does not answer"), p.stop())
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// answers waits until something listens at addr.
func answers(ctx context.Context, addr string) error {
	for range 600 {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("nothing answers at %s", addr)
}

func flushPostfix(etc string) func(context.Context) error {
	return func(ctx context.Context) error {
		if out, err := exec.CommandContext(ctx, "postqueue", "-c", etc, "-f").CombinedOutput(); err != nil {
			return fmt.Errorf("asking to try again: %w: %s", err, out)
		}
		return nil
	}
}
