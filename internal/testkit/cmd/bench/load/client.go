package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one SMTP session. Its owner closes it when it is stuck; nothing here
// has a deadline, which would cost a system call or two a message.
type client struct {
	conn net.Conn
	out  *burst
	w    io.Writer // to conn, through TLS if there is any
	r    *bufio.Reader
	b    []byte // the commands of a message
}

// burst gathers what is written and sends it in one piece before something is
// read, as the records of TLS would else be a system call each.
type burst struct {
	net.Conn
	w *bufio.Writer
}

func (b *burst) Write(p []byte) (int, error) { return b.w.Write(p) }

func (b *burst) Read(p []byte) (int, error) {
	if err := b.w.Flush(); err != nil {
		return 0, err
	}
	return b.Conn.Read(p)
}

// opening is how long a session may take to open.
const opening = 20 * time.Second

// dial opens a session and logs in, with STARTTLS, if the account has a user.
func dial(ctx context.Context, addr string, a Account) (*client, error) {
	return dialFrom(ctx, net.Dialer{Timeout: 10 * time.Second}, addr, a)
}

func dialFrom(ctx context.Context, d net.Dialer, addr string, a Account) (*client, error) {
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, out: &burst{conn, bufio.NewWriterSize(conn, 32<<10)}}
	c.w, c.r = c.out, bufio.NewReader(c.out)
	if err := c.begin(ctx, a); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) begin(ctx context.Context, a Account) error {
	if err := c.conn.SetDeadline(time.Now().Add(opening)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	if err := c.logIn(a); err != nil {
		return err
	}
	return c.conn.SetDeadline(time.Time{})
}

func (c *client) logIn(a Account) error {
	if err := c.expect(220); err != nil {
		return err
	}
	if err := c.say(250, "EHLO app.sender.test\r\n"); err != nil || a.User == "" {
		return err
	}
	if err := c.say(220, "STARTTLS\r\n"); err != nil {
		return err
	}
	// The relay's certificate is its own. Full records, as OpenSSL makes them.
	secured := tls.Client(c.out, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	c.w, c.r = secured, bufio.NewReader(secured)
	if err := c.say(250, "EHLO app.sender.test\r\n"); err != nil {
		return err
	}
	return c.say(235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+a.User+"\x00"+a.Pass))+"\r\n")
}

func (c *client) say(code int, line string) error {
	if _, err := io.WriteString(c.w, line); err != nil {
		return err
	}
	return c.expect(code)
}

// expect reads one reply.
func (c *client) expect(code int) error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if n, err := strconv.Atoi(string(line[:min(3, len(line))])); err != nil || n != code {
			return fmt.Errorf("%s instead of %d", bytes.TrimSpace(line), code)
		}
		return nil
	}
}

// send submits one message, with the envelope in one write.
func (c *client) send(l *Load, from string, i int, parts ...[]byte) error {
	b := append(append(append(c.b[:0], "MAIL FROM:<"...), from...), ">\r\n"...)
	for k := range l.Recipients {
		b = append(l.Recipient(append(b, "RCPT TO:<"...), i, k), ">\r\n"...)
	}
	c.b = append(b, "DATA\r\n"...)
	if _, err := c.w.Write(c.b); err != nil {
		return err
	}
	for range 1 + l.Recipients {
		if err := c.expect(250); err != nil {
			return err
		}
	}
	if err := c.expect(354); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := c.w.Write(p); err != nil {
			return err
		}
	}
	return c.expect(250)
}

// quit ends the session.
func (c *client) quit() {
	if _, err := io.WriteString(c.w, "QUIT\r\n"); err == nil {
		_ = c.out.w.Flush() // the session ends either way
	}
	c.conn.Close()
}
