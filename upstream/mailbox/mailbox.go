// Package mailbox delivers into Maildirs on this machine, one for each
// recipient: what development mode does with every message instead of letting
// it leave. A message is on stable storage, under its final name, before its
// recipient counts as delivered.
package mailbox

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"behalf/internal/fsync"
	"behalf/mail"
	"behalf/upstream"
)

// Upstream keeps Maildirs at dir/<domain>/<local part>.
type Upstream struct{ dir string }

// New makes the upstream over dir, which is made when the first message comes.
func New(dir string) *Upstream { return &Upstream{dir} }

// Traits of local delivery.
func (u *Upstream) Traits() upstream.Traits { return upstream.Traits{} }

// Close does nothing; the upstream keeps nothing open.
func (u *Upstream) Close() error { return nil }

// Deliver writes the message once for each recipient, with Return-Path and
// Delivered-To in front and every other octet as rendered.
func (u *Upstream) Deliver(ctx context.Context, j *upstream.Job) []upstream.Result {
	start := time.Now()
	m, err := j.Render(ctx, upstream.Caps{EightBitMIME: true, SMTPUTF8: true, Chunking: true, BinaryMIME: true, DSN: true, RequireTLS: true, Size: math.MaxInt64})
	if err == nil {
		err = m.Prepare(ctx)
	}
	if err != nil {
		return upstream.FailAll(j, start, mail.AsFailure(err))
	}
	out := make([]upstream.Result, len(j.To))
	for i, t := range j.To {
		r := upstream.Result{Host: "mailbox", Start: start}
		switch name, err := u.store(ctx, j.Message.ID, t, m); {
		case err != nil:
			r.Failure = mail.AsFailure(fmt.Errorf("writing to the mailbox of %s: %w", t.To, err))
		default:
			r.Signed = m.Signed()
			r.Reply = "250 2.0.0 stored as " + name
		}
		r.Took = time.Since(start)
		out[i] = r
	}
	return out
}

// Folder is the Maildir of an address.
func (u *Upstream) Folder(a mail.Address) string {
	domain := a.Domain
	if domain == "" {
		domain = "localhost"
	}
	return filepath.Join(u.dir, escape(domain), escape(strings.ToLower(a.Local)))
}

// store writes one message, by the rules of Maildir: into tmp, synced, then
// renamed into new.
func (u *Upstream) store(ctx context.Context, id mail.ID, t upstream.Target, m upstream.Rendered) (name string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	box := u.Folder(t.To)
	for _, sub := range [...]string{"tmp", "cur", "new"} {
		if err := os.MkdirAll(filepath.Join(box, sub), 0o700); err != nil {
			return "", err
		}
	}
	name = strconv.FormatInt(time.Now().UnixNano(), 10) + "." + id.String() + "_" + strconv.Itoa(t.Index) + ".behalf"
	tmp := filepath.Join(box, "tmp", name)
	if err := write(tmp, t, m); err != nil {
		os.Remove(tmp)
		return "", err
	}
	if err := os.Rename(tmp, filepath.Join(box, "new", name)); err != nil {
		os.Remove(tmp)
		return "", err
	}
	for _, d := range []string{filepath.Join(box, "new"), box, filepath.Dir(box), u.dir} {
		if err := fsync.Path(d); err != nil {
			return name, err
		}
	}
	return name, nil
}

func write(path string, t upstream.Target, m upstream.Rendered) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 32<<10)
	fmt.Fprintf(w, "Return-Path: %s\r\nDelivered-To: %s\r\n", t.From.Path(), t.To)
	if _, err := m.WriteTo(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// maxName leaves room below the 255 octets of a file name.
const maxName = 120

// escape makes one safe path element of s: whatever is no plain character is
// written %XX, so that no name climbs, hides or collides.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-_+=@", c) >= 0 || c == '.' && i > 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	e := b.String()
	if len(e) > maxName {
		sum := sha256.Sum256([]byte(s))
		e = e[:maxName-34] + "%-" + hex.EncodeToString(sum[:16])
	}
	return e
}

var _ upstream.Upstream = (*Upstream)(nil)
