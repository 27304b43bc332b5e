package smtppeer

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/xdg-go/scram"
)

// auth makes one log-in.
func (s *session) auth(line, args string) bool {
	mech, first, _ := strings.Cut(args, " ")
	mech = strings.ToUpper(mech)
	if !slices.Contains(s.p.o.Auth, mech) {
		return s.step("AUTH", line, "504 5.5.4 mechanism not offered")
	}
	var user string
	var ok bool
	switch mech {
	case "PLAIN":
		part := strings.Split(unbase(first), "\x00")
		user, ok = part[min(1, len(part)-1)], len(part) == 3 && s.knows(part[1], part[2])
	case "LOGIN":
		user = s.challenge("Username:")
		ok = s.knows(user, s.challenge("Password:"))
	case "CRAM-MD5":
		const nonce = "<1896.697170952@peer.test>"
		var digest string
		user, digest, _ = strings.Cut(s.challenge(nonce), " ")
		h := hmac.New(md5.New, []byte(s.p.o.Users[user]))
		h.Write([]byte(nonce))
		ok = s.p.o.Users[user] != "" && digest == hex.EncodeToString(h.Sum(nil))
	case "SCRAM-SHA-256":
		user, ok = s.scram(unbase(first))
	}
	usual := "535 5.7.8 authentication failed"
	if ok {
		usual = "235 2.7.0 welcome"
	}
	alive, code := s.decide("AUTH", line, usual)
	if code == 235 {
		s.user = user
	}
	return alive
}

func (s *session) knows(user, password string) bool {
	want, ok := s.p.o.Users[user]
	return ok && want == password
}

func (s *session) challenge(text string) string {
	s.w.WriteString("334 " + base64.StdEncoding.EncodeToString([]byte(text)) + "\r\n")
	line, _ := s.line()
	return unbase(line)
}

func (s *session) scram(first string) (user string, ok bool) {
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		c, err := scram.SHA256.NewClient(user, s.p.o.Users[user], "")
		if err != nil {
			return scram.StoredCredentials{}, err
		}
		return c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt of the peer", Iters: 4096})
	})
	if err != nil {
		return "", false
	}
	conv := server.NewConversation()
	say, err := conv.Step(first)
	if err != nil {
		return "", false
	}
	if say, err = conv.Step(s.challenge(say)); err != nil {
		return "", false
	}
	s.challenge(say)
	return conv.Username(), conv.Valid()
}

func unbase(s string) string {
	b, _ := base64.StdEncoding.DecodeString(s)
	return string(b)
}
