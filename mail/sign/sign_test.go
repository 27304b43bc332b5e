package sign

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"behalf/internal/testkit/need"
)

var testKeys = sync.OnceValue(func() []Key {
	r, err := GenerateRSA(2048)
	if err != nil {
		panic(err)
	}
	e, err := GenerateEd25519()
	if err != nil {
		panic(err)
	}
	return []Key{{"acme.example", "b1", r}, {"acme.example", "b2", e}}
})

var at = time.Unix(1793869200, 0)

const testHeader = "Received: from x\r\n by y\r\nFrom: Acme\r\n  <a@acme.example>\r\nTo:b@dest.example \r\nsubject:  two   blanks\t\r\n" +
	"Date: Tue, 03 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@acme.example>\r\nX-Other: 1\r\nLIST-ID: <l.acme.example>\r\nComments: a\r\n\r\n"

const testBody = "Hello\r\n"

// signed is a whole message signed with the test keys.
func signed(t testing.TB, header, body string, o Options) string {
	t.Helper()
	sig, err := Sign([]byte(header), sha256.Sum256([]byte(body)), o)
	if err != nil {
		t.Fatal(err)
	}
	return string(sig) + header + body
}

// records are the test keys as DNS publishes them.
func records(t testing.TB) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, k := range testKeys() {
		txt, err := PublicRecord(k.Signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		m[k.Selector+"._domainkey."+k.Domain] = txt
	}
	return m
}

// verify gives the errors of go-msgauth, one a signature.
func verify(t testing.TB, msg string) []error {
	t.Helper()
	zone := records(t)
	vs, err := dkim.VerifyWithOptions(strings.NewReader(msg), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if txt, ok := zone[name]; ok {
			return []string{txt}, nil
		}
		return nil, fmt.Errorf("no record at %s", name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, v := range vs {
		errs = append(errs, v.Err)
	}
	return errs
}

func TestSignVerifies(t *testing.T) {
	for name, header := range map[string]string{
		"usual":       testHeader,
		"bare":        "From: a@acme.example\r\n\r\n",
		"repeated":    "From: a@acme.example\r\nTo: one@x\r\nTo: two@x\r\nTo: three@x\r\nList-Id: a\r\nList-Id: b\r\n\r\n",
		"empty field": "From: a@acme.example\r\nSubject:\r\nCc: \r\n \r\n\r\n",
		"8-bit":       "From: Ä <a@acme.example>\r\nSubject: Grüße \r\n\r\n",
		"long":        "From: a@acme.example\r\nReferences:" + strings.Repeat("\r\n <abcdefghijklmnopqrstuvwxyz@acme.example>", 100) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			errs := verify(t, signed(t, header, testBody, Options{Keys: testKeys(), Time: at}))
			if len(errs) != 2 || errs[0] != nil || errs[1] != nil {
				t.Errorf("verifier says %v", errs)
			}
		})
	}
}

func TestSignatureForm(t *testing.T) {
	long := Key{strings.Repeat("sub.", 20) + "acme.example", "selector-that-is-rather-long", testKeys()[1].Signer}
	o := Options{Keys: append([]Key{long}, testKeys()...), Time: at, Expires: at.Add(time.Hour)}
	d, err := NewDraft([]byte(testHeader), [32]byte{1}, o)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := d.Sign()
	if err != nil {
		t.Fatal(err)
	}
	if len(sig) != d.Size() {
		t.Errorf("Size said %d, Sign gave %d octets", d.Size(), len(sig))
	}
	for line := range strings.SplitSeq(string(sig), "\r\n") {
		if len(line) > 78 && !strings.Contains(line, "d=sub.") {
			t.Errorf("a line of %d octets: %s", len(line), line)
		}
	}
	one := strings.ReplaceAll(string(sig), "\r\n ", " ")
	for _, want := range []string{"v=1; a=ed25519-sha256; c=relaxed/relaxed;", "t=1793869200; x=1793872800;", "bh=AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=;"} {
		if strings.Count(one, want) == 0 {
			t.Errorf("no %s in\n%s", want, sig)
		}
	}
	if n := strings.Count(string(sig), "DKIM-Signature:"); n != 3 || strings.Contains(string(sig), "l=") {
		t.Errorf("%d signatures in\n%s", n, sig)
	}
}

// signedNames is h= of the first signature.
func signedNames(msg string) []string {
	_, h, _ := strings.Cut(strings.NewReplacer("\r\n", "", " ", "").Replace(msg[:strings.Index(msg, "bh=")]), ";h=")
	return strings.Split(strings.TrimSuffix(h, ";"), ":")
}

func TestWhatIsSigned(t *testing.T) {
	count := func(names []string, name string) (n int) {
		for _, x := range names {
			if strings.EqualFold(x, name) {
				n++
			}
		}
		return n
	}
	names := signedNames(signed(t, testHeader, "", Options{Keys: testKeys(), Time: at}))
	for name, want := range map[string]int{"From": 2, "To": 2, "Cc": 1, "Reply-To": 1, "Subject": 2, "Date": 2, "Message-ID": 2, "List-Id": 1,
		"Received": 0, "Return-Path": 0, "X-Other": 0, "Comments": 0, "List-Post": 0, "Sender": 1, "List-Unsubscribe": 1, "Content-Type": 1, "DKIM-Signature": 0} {
		if got := count(names, name); got != want {
			t.Errorf("%s stands %d times in h=, want %d", name, got, want)
		}
	}
	names = signedNames(signed(t, testHeader, "", Options{Keys: testKeys(), Time: at, Exclude: []string{"message-id", "DATE"}}))
	if count(names, "Message-ID") != 0 || count(names, "Date") != 0 || count(names, "From") != 2 {
		t.Errorf("excluded fields are in h=%q", names)
	}
}

func TestForgeryBreaksTheSignature(t *testing.T) {
	good := signed(t, testHeader, testBody, Options{Keys: testKeys(), Time: at})
	for name, msg := range map[string]string{
		"second From":     strings.Replace(good, "X-Other: 1\r\n", "X-Other: 1\r\nFrom: evil@x\r\n", 1),
		"From in front":   "From: evil@x\r\n" + good,
		"new Reply-To":    "Reply-To: evil@x\r\n" + good,
		"new Cc":          "Cc: evil@x\r\n" + good,
		"other Subject":   strings.Replace(good, "two   blanks", "three   blanks", 1),
		"new type":        "Content-Type: text/html\r\n" + good,
		"body":            good + "more\r\n",
		"new unsubscribe": "List-Unsubscribe: <https://evil.example>\r\n" + good,
	} {
		for i, err := range verify(t, msg) {
			if err == nil {
				t.Errorf("%s: signature %d still holds", name, i)
			}
		}
	}
	for name, msg := range map[string]string{
		"trace":      "Received: by next\r\nReturn-Path: <x@y>\r\n" + good,
		"respaced":   strings.Replace(good, "two   blanks\t", "two\r\n blanks", 1),
		"other case": strings.Replace(good, "subject:", "SUBJECT :", 1),
		"list adds":  "List-Post: <mailto:x@y>\r\n" + good,
	} {
		for i, err := range verify(t, msg) {
			if err != nil {
				t.Errorf("%s: signature %d: %v", name, i, err)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	r, e := testKeys()[0].Signer, testKeys()[1].Signer
	for name, k := range map[string]Key{"no signer": {"d.example", "s", nil}, "no domain": {"", "s", e}, "no selector": {"d.example", "", r},
		"tag in domain": {"d.example; l=0", "s", e}, "line end": {"d.example", "s\r\nBcc: x", e}} {
		if _, err := Sign([]byte(testHeader), [32]byte{}, Options{Keys: []Key{k}, Time: at}); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if sig, err := Sign([]byte(testHeader), [32]byte{}, Options{}); err != nil || len(sig) != 0 {
		t.Errorf("no keys: %q, %v", sig, err)
	}
}

// tool finds a program or module of another implementation. On CI it must be
// there; elsewhere the test is skipped without it.
func tool(t *testing.T, name string, probe ...string) {
	t.Helper()
	if err := exec.Command(probe[0], probe[1:]...).Run(); err != nil {
		need.Missing(t, name, " is not installed: ", err)
	}
}

func TestDkimpyVerifies(t *testing.T) {
	tool(t, "dkimpy", "/usr/bin/python3", "-c", "import dkim, nacl")
	msg := signed(t, testHeader, testBody, Options{Keys: testKeys(), Time: time.Now(), Expires: time.Now().Add(time.Hour)})
	zone := records(t)
	const script = `
import dkim, sys
zone = dict(line.split("|", 1) for line in sys.argv[1].splitlines())
def txt(name, timeout=5):
    return zone.get(name.decode().rstrip("."), "").encode()
d = dkim.DKIM(sys.stdin.buffer.read())
print([d.verify(idx=i, dnsfunc=txt) for i in range(2)])
`
	var arg strings.Builder
	for name, v := range zone {
		fmt.Fprintf(&arg, "%s|%s\n", name, v)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", script, arg.String())
	cmd.Stdin = strings.NewReader(msg)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "[True, True]" {
		t.Errorf("dkimpy says %s (%v)", out, err)
	}
}

func TestMailDKIMVerifies(t *testing.T) {
	tool(t, "Mail::DKIM", "perl", "-MMail::DKIM::Verifier", "-e", "1")
	// It knows no Ed25519, so only the RSA key signs.
	msg := signed(t, testHeader, testBody, Options{Keys: testKeys()[:1], Time: at})
	file := filepath.Join(t.TempDir(), "msg")
	if err := os.WriteFile(file, []byte(msg), 0o600); err != nil {
		t.Fatal(err)
	}
	const script = `
use Mail::DKIM::Verifier; use Mail::DKIM::PublicKey;
my ($file, $txt) = @ARGV;
{ no warnings; *Mail::DKIM::PublicKey::fetch = sub { return Mail::DKIM::PublicKey->parse($txt) };
  *Mail::DKIM::PublicKey::fetch_async = sub { my $k = Mail::DKIM::PublicKey->parse($txt); my ($c, %a) = @_; my $on = $a{Callbacks}{Success}; return sub { return $on ? $on->($k) : $k } }; }
my $v = Mail::DKIM::Verifier->new; open my $f, "<:raw", $file or die; local $/; $v->PRINT(<$f>); $v->CLOSE; print $v->result_detail;
`
	out, err := exec.Command("perl", "-e", script, file, records(t)["b1._domainkey.acme.example"]).CombinedOutput()
	if err != nil || string(out) != "pass" {
		t.Errorf("Mail::DKIM says %s (%v)", out, err)
	}
}

func BenchmarkDraft(b *testing.B) {
	keys := testKeys()[1:]
	header := []byte(testHeader)
	b.ReportAllocs()
	for b.Loop() {
		d, err := NewDraft(header, [32]byte{}, Options{Keys: keys, Time: at})
		if err != nil {
			b.Fatal(err)
		}
		_ = d.Size()
	}
}

func BenchmarkSignEd25519(b *testing.B) {
	keys := testKeys()[1:]
	header := []byte(testHeader)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sign(header, [32]byte{}, Options{Keys: keys, Time: at}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzSign(f *testing.F) {
	f.Add([]byte(testHeader))
	f.Add([]byte("From:a\r\nTo:\r\n \r\n\tb\r\n\r\n"))
	key := testKeys()[1:]
	f.Fuzz(func(t *testing.T, header []byte) {
		header = append(bytes.TrimRight(header, "\r\n"), "\r\n\r\n"...)
		d, err := NewDraft(header, [32]byte{}, Options{Keys: key, Time: at})
		if err != nil {
			t.Fatal(err)
		}
		sig, err := d.Sign()
		if err != nil || len(sig) != d.Size() {
			t.Fatalf("%d octets, Size said %d, %v", len(sig), d.Size(), err)
		}
	})
}
