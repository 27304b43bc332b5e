package smtpd

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/xdg-go/scram"

	"behalf/mail"
	"behalf/relay"
)

// mechanisms are the SASL mechanisms, as EHLO lists them.
const mechanisms = "SCRAM-SHA-256 OAUTHBEARER XOAUTH2 PLAIN LOGIN"

var (
	errCancelled = errors.New("AUTH was cancelled")
	errMalformed = errors.New("the SASL message is malformed")
)

// exchange is one AUTH command (RFC 4954).
type exchange struct {
	s       *session
	mech    string
	initial []byte // initial response
	has     bool   // there is one
}

// next gives the client's next message, for which challenge asks. The initial
// response, if there was one, answers the first challenge.
func (x *exchange) next(challenge string) ([]byte, error) {
	if x.has {
		x.has = false
		return x.initial, nil
	}
	x.s.greet(334, base64.StdEncoding.EncodeToString([]byte(challenge)))
	line, err := x.s.command(maxAuthLine)
	switch {
	case errors.Is(err, errLineTooLong), errors.Is(err, errBareLF):
		return nil, errMalformed
	case err != nil:
		return nil, err
	case string(line) == "*":
		return nil, errCancelled
	}
	return decodeSASL(string(line))
}

func decodeSASL(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errMalformed
	}
	return b, nil
}

// auth is AUTH.
func (s *session) auth(ctx context.Context, arg string) error {
	switch {
	case !s.ehlo:
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "say EHLO first")
	case s.client.TLS == "":
		return s.wrong(538, mail.Enhanced{5, 7, 11}, "say STARTTLS first; nobody logs in here without TLS")
	case s.who != nil:
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "you are logged in already")
	}
	mech, initial, has := strings.Cut(arg, " ")
	x := &exchange{s: s, mech: strings.ToUpper(mech), has: has}
	if has && initial != "=" {
		var err error
		if x.initial, err = decodeSASL(initial); err != nil {
			return s.authEnded(ctx, x, nil, err)
		}
	}
	var p *relay.Principal
	var err error
	switch x.mech {
	case "PLAIN":
		p, err = x.plain(ctx)
	case "LOGIN":
		p, err = x.login(ctx)
	case "OAUTHBEARER", "XOAUTH2":
		p, err = x.bearer(ctx)
	case "SCRAM-SHA-256":
		p, err = x.scram(ctx)
	default:
		return s.wrong(504, mail.Enhanced{5, 5, 4}, "the mechanism is not one of "+mechanisms)
	}
	return s.authEnded(ctx, x, p, err)
}

// authEnded answers to an AUTH exchange that is over.
func (s *session) authEnded(ctx context.Context, x *exchange, p *relay.Principal, err error) error {
	var f *mail.Failure
	switch {
	case err == nil:
		s.who = p
		s.chatter, s.errors = 0, 0
		s.log(ctx, slog.LevelDebug, "logged in", slog.String("mechanism", x.mech))
		s.reply(235, mail.Enhanced{2, 7, 0}, "welcome")
		return nil
	case errors.Is(err, errCancelled):
		return s.wrong(501, mail.Enhanced{5, 7, 0}, "AUTH cancelled")
	case errors.Is(err, errMalformed):
		return s.wrong(501, mail.Enhanced{5, 5, 2}, "that is not a message of "+x.mech+" in base64")
	case !errors.As(err, &f): // reading failed
		return err
	}
	s.srv.o.Metrics.authFailed(x.mech)
	if err := s.refuse(ctx, stageAuth, f); err != nil {
		return err
	}
	if s.logins++; s.logins >= maxLogins {
		s.reply(421, mail.Enhanced{4, 7, 0}, "too many failed logins; closing the connection")
		return errHungUp
	}
	return nil
}

// attempt asks the intake about a login as name, unless too many have failed
// lately. Any error of the intake comes back as a *mail.Failure.
func (x *exchange) attempt(ctx context.Context, name string, ask func() (*relay.Principal, error)) (*relay.Principal, error) {
	if f := x.shutOut(name); f != nil {
		return nil, f
	}
	addr := x.s.client.Addr.Addr()
	p, err := ask()
	if err == nil {
		x.s.srv.o.Throttle.Succeeded(addr, name)
		return p, nil
	}
	f := mail.AsFailure(err)
	if !f.Temporary() {
		x.s.pause(ctx, x.s.srv.o.Throttle.Failed(addr, name))
	}
	return nil, f
}

// shutOut is the failure of a login that is not even tried.
func (x *exchange) shutOut(name string) *mail.Failure {
	wait := x.s.srv.o.Throttle.Blocked(x.s.client.Addr.Addr(), name)
	if wait <= 0 {
		return nil
	}
	return mail.Fail(454, mail.Enhanced{4, 7, 0}, mail.OfRoute, mail.ReasonRate,
		"too many logins have failed; try again in %d seconds", int(wait/time.Second)+1)
}

// pause holds an answer back.
func (s *session) pause(ctx context.Context, d time.Duration) {
	if s.flush() != nil {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.reads.stopped:
	case <-ctx.Done():
	}
}

func (x *exchange) password(ctx context.Context, authzid, username, secret string) (*relay.Principal, error) {
	if username == "" || secret == "" || strings.Contains(username+secret+authzid, "\x00") {
		return nil, errMalformed
	}
	if authzid == username { // as some clients write what needs no writing
		authzid = ""
	}
	return x.attempt(ctx, username, func() (*relay.Principal, error) {
		return x.s.srv.intake.Login(ctx, x.s.client,
			relay.Login{Mechanism: x.mech, Authzid: authzid, Username: username, Secret: secret})
	})
}

// plain is RFC 4616.
func (x *exchange) plain(ctx context.Context) (*relay.Principal, error) {
	msg, err := x.next("")
	if err != nil {
		return nil, err
	}
	part := strings.Split(string(msg), "\x00")
	if len(part) != 3 {
		return nil, errMalformed
	}
	return x.password(ctx, part[0], part[1], part[2])
}

// login is draft-murchison-sasl-login, which old clients need.
func (x *exchange) login(ctx context.Context) (*relay.Principal, error) {
	name, err := x.next("Username:")
	if err != nil {
		return nil, err
	}
	secret, err := x.next("Password:")
	if err != nil {
		return nil, err
	}
	return x.password(ctx, "", string(name), string(secret))
}

// bearer is OAUTHBEARER (RFC 7628) and XOAUTH2, with an API key for a token. A
// refused client is first given a JSON object, to which it answers something.
func (x *exchange) bearer(ctx context.Context) (*relay.Principal, error) {
	msg, err := x.next("")
	if err != nil {
		return nil, err
	}
	parse := parseOAuthBearer
	if x.mech == "XOAUTH2" {
		parse = parseXOAuth2
	}
	user, token, ok := parse(string(msg))
	if !ok {
		return nil, errMalformed
	}
	sum := sha256.Sum256([]byte(token))
	p, err := x.attempt(ctx, "bearer "+hex.EncodeToString(sum[:8]), func() (*relay.Principal, error) {
		return x.s.srv.intake.Login(ctx, x.s.client, relay.Login{Mechanism: x.mech, Authzid: user, Secret: token})
	})
	if f := mail.AsFailure(err); f != nil && !f.Temporary() {
		_, again := x.next(`{"status":"invalid_token","schemes":"bearer"}`)
		if again != nil && !errors.Is(again, errCancelled) && !errors.Is(again, errMalformed) {
			return nil, again
		}
	}
	return p, err
}

// parseXOAuth2 reads user=NAME^Aauth=Bearer TOKEN^A^A.
func parseXOAuth2(msg string) (user, token string, ok bool) {
	user, rest, _ := strings.Cut(msg, "\x01")
	user, ok = strings.CutPrefix(user, "user=")
	token, found := bearerToken(rest)
	return user, token, ok && found
}

// parseOAuthBearer reads n,a=NAME,^Ahost=…^Aauth=Bearer TOKEN^A^A.
func parseOAuthBearer(msg string) (user, token string, ok bool) {
	gs2, rest, _ := strings.Cut(msg, "\x01")
	part := strings.Split(gs2, ",")
	if len(part) != 3 || part[0] != "n" && part[0] != "y" || part[2] != "" {
		return "", "", false
	}
	if part[1] != "" {
		if user, ok = strings.CutPrefix(part[1], "a="); !ok {
			return "", "", false
		}
		user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(user)
	}
	token, ok = bearerToken(rest)
	return user, token, ok
}

// bearerToken finds auth=Bearer TOKEN among pairs that each end in ^A, with one
// ^A more after the last.
func bearerToken(pairs string) (token string, ok bool) {
	pairs, ok = strings.CutSuffix(pairs, "\x01\x01")
	if !ok {
		return "", false
	}
	for kv := range strings.SplitSeq(pairs, "\x01") {
		v, found := strings.CutPrefix(kv, "auth=")
		if !found {
			continue
		}
		scheme, t, _ := strings.Cut(v, " ")
		if !strings.EqualFold(scheme, "Bearer") || t == "" || token != "" || strings.ContainsAny(t, "\x00 ") {
			return "", false
		}
		token = t
	}
	return token, token != ""
}

// scram is SCRAM-SHA-256 (RFC 5802, RFC 7677).
func (x *exchange) scram(ctx context.Context) (*relay.Principal, error) {
	var lookup error
	server, err := scram.SHA256.NewServer(func(name string) (c scram.StoredCredentials, err error) {
		c, lookup = x.verifier(ctx, name)
		return c, lookup
	})
	if err != nil {
		return nil, mail.AsFailure(fmt.Errorf("start SCRAM: %w", err))
	}
	conv := server.NewConversation()
	first, err := x.next("")
	if err != nil {
		return nil, err
	}
	challenge, err := conv.Step(string(first))
	if lookup != nil {
		return nil, mail.AsFailure(lookup)
	}
	if err != nil {
		return nil, errMalformed
	}
	proof, err := x.next(challenge)
	if err != nil {
		return nil, err
	}
	signature, _ := conv.Step(string(proof))
	p, err := x.attempt(ctx, conv.Username(), func() (*relay.Principal, error) {
		if !conv.Valid() {
			return nil, mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth,
				"the user name or secret is wrong")
		}
		return x.s.srv.intake.LoginVerified(ctx, x.s.client, conv.Username(), conv.AuthzID())
	})
	if err != nil {
		return nil, err
	}
	_, err = x.next(signature) // the client answers with an empty line
	return p, err
}

// verifier finds what is needed to check a proof for name.
func (x *exchange) verifier(ctx context.Context, name string) (scram.StoredCredentials, error) {
	if f := x.shutOut(name); f != nil {
		return scram.StoredCredentials{}, f
	}
	v, err := x.s.srv.intake.Scram(ctx, x.s.client, name)
	if err != nil {
		f := mail.AsFailure(err)
		if f.Temporary() {
			return scram.StoredCredentials{}, f
		}
		v = x.s.srv.decoy.verifier(name)
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(v.Salt), Iters: v.Iterations},
		StoredKey:  v.StoredKey, ServerKey: v.ServerKey,
	}, nil
}

// decoy is a secret from which salts for names that do not exist are made, the
// same each time, so that nobody learns which do.
type decoy [32]byte

func newDecoy() (d decoy) {
	rand.Read(d[:]) // never fails: crypto/rand ends the process instead
	return d
}

// verifier is one that no proof fits.
func (d decoy) verifier(name string) relay.ScramVerifier {
	mac := hmac.New(sha256.New, d[:])
	mac.Write([]byte(name))
	salt := mac.Sum(nil)
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return relay.ScramVerifier{Salt: salt[:16], Iterations: 4096, StoredKey: key, ServerKey: key}
}
