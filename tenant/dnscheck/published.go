package dnscheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/mail/sign"
	"behalf/tenant"
)

// A key that was seen counts as published through trouble of the DNS for
// keepSeen, and until the DNS has said twice, apart by sureAfter, that it is not
// there: one bad answer must not change how mail is sent.
const (
	keepSeen  = 7 * 24 * time.Hour
	sureAfter = 10 * time.Minute
	saveEvery = time.Hour // a sighting that says nothing new is written down this often
)

// sight is what is known of a key.
type sight struct {
	seen   bool
	detail string
}

// sighting is what is remembered of a key, under t/T/seen/domain/selector.
type sighting struct {
	Public string    `json:"public"`
	Seen   time.Time `json:"seen,omitzero"`   // last
	Absent time.Time `json:"absent,omitzero"` // first certain "no" after that
}

func sightingKey(sel mail.Selector) []byte {
	t := uint32(sel.Tenant)
	b := append([]byte("t/"), byte(t>>24), byte(t>>16), byte(t>>8), byte(t))
	return append(b, "/seen/"+sel.Domain+"/"+sel.Name...)
}

// KeyName is the name of the TXT record that shows a key.
func KeyName(sel mail.Selector) string { return sel.Name + "._domainkey." + sel.Domain }

// Published reports whether the DNS shows the key pub (base 64, the p= value)
// at a selector, comparing by meaning. Once seen, it counts as published for
// seven days through temporary failures, and until it was certainly absent
// twice, also over a restart. The error is temporary: nobody could say, and it
// was not seen lately. The detail is a sentence for people.
func (c *Checker) Published(ctx context.Context, sel mail.Selector, pub string) (seen bool, detail string, err error) {
	s, err, known := c.keys.known(keyID{sel, pub})
	if !known {
		s, err = c.published(ctx, sel, pub)
	}
	if err != nil {
		return false, "the DNS could not be asked for " + KeyName(sel), err
	}
	return s.seen, s.detail, nil
}

func (c *Checker) published(ctx context.Context, sel mail.Selector, pub string) (sight, error) {
	return c.keys.get(ctx, keyID{sel, pub}, func(ctx context.Context) (sight, time.Duration, error) {
		return c.look(ctx, sel, pub)
	})
}

func (c *Checker) look(ctx context.Context, sel mail.Selector, pub string) (sight, time.Duration, error) {
	before := c.recall(ctx, sel, pub)
	after, now := before, time.Now()
	txt, ans, err := c.dns.TXT(ctx, KeyName(sel))
	if err != nil {
		if now.Sub(before.Seen) < keepSeen {
			return sight{true, "the DNS cannot be asked now; the key was there on " + before.Seen.UTC().Format(time.RFC3339)}, retryAfter, nil
		}
		return sight{}, 0, fmt.Errorf("looking up %s: %w", KeyName(sel), err)
	}
	status, found := compareKey(txt, ans.NXDomain, pub)
	out, life := sight{false, found}, clamp(ans.TTL, 5*time.Second, time.Minute)
	switch {
	case status == OK:
		after.Seen, after.Absent = now, time.Time{}
		out.seen, life = true, clamp(ans.TTL, time.Minute, time.Hour)
	case before.Seen.IsZero(), now.Sub(before.Seen) >= keepSeen:
		after.Seen, after.Absent = time.Time{}, time.Time{}
	case status == revoked:
		after.Seen, after.Absent = time.Time{}, time.Time{} // said on purpose
	case before.Absent.IsZero():
		after.Absent = now
		out = sight{true, found + "; it was there until now, so this is looked at again before it counts"}
	case now.Sub(before.Absent) < sureAfter:
		out = sight{true, found + "; it was there until lately, so this is looked at again before it counts"}
	default:
		after.Seen, after.Absent = time.Time{}, time.Time{}
	}
	c.remember(ctx, sel, before, after)
	return out, life, nil
}

// recall reads what is remembered of a key.
func (c *Checker) recall(ctx context.Context, sel mail.Selector, pub string) sighting {
	s := sighting{Public: pub}
	err := c.store.View(ctx, func(r kv.Reader) error {
		b, err := r.Get(sightingKey(sel))
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var stored sighting
		if err := json.Unmarshal(b, &stored); err != nil {
			return err
		}
		if stored.Public == pub {
			s = stored
		}
		return nil
	})
	if err != nil {
		c.log.Warn("what was seen of a DKIM key could not be read", "tenant", sel.Tenant, "record", KeyName(sel), "error", err)
	}
	return s
}

// remember writes down what has changed. A failure costs no more than the
// memory of it.
func (c *Checker) remember(ctx context.Context, sel mail.Selector, before, after sighting) {
	if after.Absent.Equal(before.Absent) && after.Seen.Sub(before.Seen) < saveEvery && after.Seen.IsZero() == before.Seen.IsZero() {
		return
	}
	b, err := json.Marshal(after)
	if err == nil {
		err = c.store.Update(ctx, func(w kv.Writer) error { return w.Put(sightingKey(sel), b) })
	}
	if err != nil {
		c.log.Warn("what was seen of a DKIM key could not be written down", "tenant", sel.Tenant, "record", KeyName(sel), "error", err)
	}
}

const revoked Status = "revoked"

// compareKey says whether one of the records shows the key; found is a
// sentence.
func compareKey(txt []string, nx bool, pub string) (s Status, found string) {
	if nx {
		return Missing, "no such name"
	}
	if len(txt) == 0 {
		return Missing, "no TXT record"
	}
	want, err := sign.ParseRecord("p=" + pub)
	if err != nil {
		want, err = sign.ParseRecord("k=ed25519; p=" + pub)
	}
	if err != nil {
		return Wrong, "the tenant's own key is damaged"
	}
	for _, t := range txt {
		r, err := sign.ParseRecord(t)
		switch {
		case err != nil:
			s, found = Wrong, fmt.Sprintf("%q, which is not usable: %v", cut(t), err)
		case r.Revoked:
			s, found = revoked, fmt.Sprintf("%q, which revokes the key", cut(t))
		case want.Public != nil && r.Matches(want.Public):
			if len(txt) > 1 {
				return Wrong, "several TXT records, where verifiers may take any; leave one"
			}
			return OK, "the key is there"
		default:
			s, found = Wrong, fmt.Sprintf("%q, which is another key", cut(t))
		}
	}
	return s, found
}

func cut(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "..." // ASCII: it may end in an SMTP reply
	}
	return strings.ToValidUTF8(s, "?")
}

// Keys is the state of a domain's DKIM keys.
type Keys struct {
	Seen    []mail.Selector // may be signed with, in the order of the domain
	Unknown bool            // none seen, and the DNS could not say
	Missed  *tenant.DKIMKey // whose record is not there, of several the shortest; nil: none
	Found   string          // what is there instead: a sentence
}

// Keys asks for all keys of a tenant's domain.
func (c *Checker) Keys(ctx context.Context, t mail.TenantID, d *tenant.Domain) Keys {
	var k Keys
	for i := range d.DKIM {
		key := &d.DKIM[i]
		sel := mail.Selector{Tenant: t, Domain: d.Name, Name: key.Selector}
		seen, detail, err := c.Published(ctx, sel, key.Public)
		if seen {
			if k.Seen == nil {
				k.Seen = make([]mail.Selector, 0, len(d.DKIM))
			}
			k.Seen = append(k.Seen, sel)
			continue
		}
		k.Unknown = k.Unknown || err != nil
		if k.Missed == nil || key.RecordSize() < k.Missed.RecordSize() {
			k.Missed, k.Found = key, detail // an SMTP reply shall hold it whole
		}
	}
	if len(d.DKIM) == 0 {
		k.Found = "the domain has no keys"
	}
	k.Unknown = k.Unknown && len(k.Seen) == 0
	return k
}
