package smtpclient

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"behalf/mail"

	"github.com/xdg-go/scram"
)

// Mechanisms that are tried when none is named, best first. Without TLS those
// that hide the password come first; with it CRAM-MD5 comes last, because
// servers offer it for accounts that cannot use it.
var (
	overTLS = []string{"SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"}
	inClear = []string{"SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"}
)

// A mechanism answers challenges until it has nothing more to say.
type mechanism interface {
	// start is the initial response; ok is false when the server speaks first.
	start() (response []byte, ok bool, err error)
	next(challenge []byte) ([]byte, error)
	// done checks the outcome after the server said yes.
	done() error
}

// login authenticates, if an account is configured.
func (c *Client) login(ctx context.Context) error {
	a := c.cfg.Auth
	if a.Password == nil {
		return nil
	}
	name, err := c.choose()
	if err != nil {
		return err
	}
	if c.tls == "" && !a.InClear {
		return &tlsError{"is not reached through TLS, and the password must not travel in clear", nil}
	}
	password, err := a.Password(ctx)
	if err != nil {
		return &ownError{fmt.Errorf("getting the password: %w", err)}
	}
	m, err := newMechanism(name, a.Username, password)
	if err != nil {
		return err
	}
	r, err := c.converse(name, m)
	if err != nil {
		return err
	}
	if r.Code != 235 {
		return c.refused(atAuth, r)
	}
	return m.done()
}

// choose picks the mechanism.
func (c *Client) choose() (string, error) {
	want := overTLS
	if c.tls == "" {
		want = inClear
	}
	if m := c.cfg.Auth.Mechanism; m != "" {
		want = []string{strings.ToUpper(m)}
	}
	for _, m := range want {
		if slices.Contains(c.caps.Auth, m) {
			return m, nil
		}
	}
	offered := strings.Join(c.caps.Auth, ", ")
	if offered == "" {
		offered = "none"
	}
	return "", mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth,
		"%s does not offer the log-in mechanism %s (it offers %s); change auth of the connection", c.cfg.Host, strings.Join(want, ", "), offered)
}

func newMechanism(name, user, password string) (mechanism, error) {
	switch name {
	case "PLAIN":
		return &onceMechanism{"\x00" + user + "\x00" + password}, nil
	case "LOGIN":
		return &loginMechanism{say: []string{user, password}}, nil
	case "CRAM-MD5":
		return &cramMechanism{user, password}, nil
	case "SCRAM-SHA-256":
		client, err := scram.SHA256.NewClient(user, password, "")
		if err != nil {
			return nil, mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth,
				"the username or password has characters that SCRAM forbids")
		}
		return &scramMechanism{conv: client.NewConversation()}, nil
	}
	return nil, mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "the log-in mechanism %s is not known here", name)
}

// converse is the exchange of RFC 4954, section 4.
func (c *Client) converse(name string, m mechanism) (Reply, error) {
	line := "AUTH " + name
	first, ok, err := m.start()
	if err != nil {
		return Reply{}, err
	}
	if ok {
		line += " " + encode(first)
	}
	r, err := c.ask(line)
	for turns := 0; err == nil && r.Code == 334; turns++ {
		if turns == 8 {
			return Reply{}, fmt.Errorf("%w: the log-in does not end", errProtocol)
		}
		var challenge, answer []byte
		if challenge, err = base64.StdEncoding.DecodeString(strings.TrimSpace(r.Raw[min(4, len(r.Raw)):])); err == nil {
			answer, err = m.next(challenge)
		}
		if err != nil { // RFC 4954, section 4: "*" ends the exchange
			c.ask("*")
			return Reply{}, mail.Fail(454, mail.Enhanced{4, 7, 0}, mail.OfRoute, mail.ReasonAuth, "logging in to %s with %s: %w", c.cfg.Host, name, err)
		}
		r, err = c.ask(base64.StdEncoding.EncodeToString(answer))
	}
	return r, err
}

// encode is base64, with "=" for an initial response of no octets.
func encode(b []byte) string {
	if len(b) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(b)
}

// onceMechanism says all in the initial response (PLAIN, RFC 4616).
type onceMechanism struct{ say string }

func (m *onceMechanism) start() ([]byte, bool, error) { return []byte(m.say), true, nil }
func (m *onceMechanism) next([]byte) ([]byte, error)  { return []byte(m.say), nil }
func (m *onceMechanism) done() error                  { return nil }

// loginMechanism is LOGIN, which never became an RFC.
type loginMechanism struct{ say []string }

func (m *loginMechanism) start() ([]byte, bool, error) { return nil, false, nil }
func (m *loginMechanism) next([]byte) ([]byte, error) {
	if len(m.say) == 0 {
		return nil, errors.New("the server asks for more than a username and a password")
	}
	s := m.say[0]
	m.say = m.say[1:]
	return []byte(s), nil
}
func (m *loginMechanism) done() error { return nil }

// cramMechanism is CRAM-MD5 (RFC 2195).
type cramMechanism struct{ user, password string }

func (m *cramMechanism) start() ([]byte, bool, error) { return nil, false, nil }
func (m *cramMechanism) next(challenge []byte) ([]byte, error) {
	h := hmac.New(md5.New, []byte(m.password))
	h.Write(challenge)
	return []byte(m.user + " " + hex.EncodeToString(h.Sum(nil))), nil
}
func (m *cramMechanism) done() error { return nil }

// scramMechanism is SCRAM-SHA-256 (RFC 7677).
type scramMechanism struct{ conv *scram.ClientConversation }

func (m *scramMechanism) start() ([]byte, bool, error) {
	s, err := m.conv.Step("")
	return []byte(s), true, err
}

func (m *scramMechanism) next(challenge []byte) ([]byte, error) {
	s, err := m.conv.Step(string(challenge))
	return []byte(s), err
}

// done holds the server to its half of the proof.
func (m *scramMechanism) done() error {
	if !m.conv.Valid() {
		return mail.Fail(454, mail.Enhanced{4, 7, 0}, mail.OfRoute, mail.ReasonAuth,
			"the server accepted the log-in without proving that it knows the password")
	}
	return nil
}
