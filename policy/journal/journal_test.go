package journal

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"behalf/internal/keyring"
	"behalf/mail"
	"behalf/policy"
)

var reads = policy.Needs{Sender: true, Message: true, Headers: true}

func openJournal(t testing.TB, dir string, keys *keyring.Keyring, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, keys, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func newKeys(t testing.TB) *keyring.Keyring {
	t.Helper()
	k, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func common(n int) policy.SenderInput {
	return policy.SenderInput{
		Time:       int64(n),
		Session:    &policy.Session{Addr: "198.51.100.7", Helo: "app.acme.example", TLS: "TLS 1.3 TLS_AES_128_GCM_SHA256", Door: mail.DoorSMTP},
		Tenant:     &policy.Tenant{ID: 7, Name: "acme", Labels: map[string]string{"plan": "pro"}, Methods: []mail.Method{"domain", "connection", "name"}},
		Credential: &policy.Credential{Username: "acme/app", Scope: "tenant"},
		Stream:     "transactional",
		Usage:      &policy.Usage{Hour: policy.Window{Messages: int64(n), Recipients: 12}, Day: policy.Window{Messages: 300}},
		Envelope:   policy.Envelope{From: "app@acme.example", FromDomain: "acme.example"},
	}
}

func judged() *policy.Decision {
	return &policy.Decision{Rules: []string{"limits.rego:plan-messages", "limits.rego:credential-messages"}, Digest: "d1", Limits: []policy.Limit{
		{Rule: "limits.rego:plan-messages", Key: []string{"tenant", "7"}, Count: policy.CountMessages, Rate: 1000, Per: 24 * time.Hour, Burst: 100, Over: policy.OverDefer},
	}}
}

// record writes one transaction with some recipients.
func record(j *Journal, n int, at time.Time, recipients int) {
	r := j.Begin(Transaction{Time: at, Digest: "d1", Needs: reads})
	in := common(n)
	r.Sender(&in, judged(), nil)
	for i := range recipients {
		q := policy.RecipientInput{SenderInput: in, Recipient: policy.Recipient{Address: fmt.Sprintf("bob%d@there.example", i), Domain: "there.example", Site: "there.example"}}
		q.Envelope.Recipients = i
		r.Recipient(&q, judged(), nil)
	}
	m := policy.MessageInput{SenderInput: in, Message: policy.Message{From: "app@acme.example", Subject: fmt.Sprintf("secret subject %d \xff", n), Size: 1234,
		Headers: [][2]string{{"From", "app@acme.example"}, {"Subject", "x"}, {"To", "bob@there.example"}}}}
	r.Message(&m, &policy.Decision{Action: policy.Deny, Code: 550, Enhanced: mail.Enhanced{5, 7, 1}, Reason: "no", Digest: "d1"}, nil)
	r.End(End{Code: 550, Reason: "policy"})
}

// read gives all entries, and what was skipped.
func read(t testing.TB, j *Journal, since, until time.Time) ([]*Entry, []Skipped) {
	t.Helper()
	r, err := j.Read(since, until)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []*Entry
	for r.Next() {
		all = append(all, r.Entry())
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	_, told := r.Skipped()
	return all, told
}

// TestLargeTransactions come in parts that belong together, and hold little
// memory while they are open.
func TestLargeTransactions(t *testing.T) {
	j := openJournal(t, t.TempDir(), newKeys(t), Options{})
	record(j, 1, time.Now(), 10_000)
	all, skipped := read(t, j, time.Time{}, time.Time{})
	if len(skipped) > 0 || len(all) < 10 {
		t.Fatalf("%d entries, skipped %v", len(all), skipped)
	}
	asks := 0
	for i, e := range all {
		if e.Transaction != all[0].Transaction || e.Part != i || (e.End != nil) != (i == len(all)-1) || e.Tenant.Name != "acme" {
			t.Errorf("part %d: transaction %d, part %d, end %v", i, e.Transaction, e.Part, e.End)
		}
		asks += len(e.Asks)
	}
	if asks != 10_002 {
		t.Errorf("%d questions", asks)
	}
}

func TestTimes(t *testing.T) {
	j := openJournal(t, t.TempDir(), newKeys(t), Options{})
	begin := time.Now().Add(-time.Minute)
	for i := range 10 {
		record(j, i, begin.Add(time.Duration(i)*time.Second), 1)
	}
	for name, tt := range map[string]struct {
		since, until time.Duration
		want         int
	}{"all": {-time.Hour, time.Hour, 10}, "none": {time.Hour, 2 * time.Hour, 0}, "from": {3 * time.Second, time.Hour, 7}, "between": {3 * time.Second, 5 * time.Second, 2}} {
		if all, _ := read(t, j, begin.Add(tt.since), begin.Add(tt.until)); len(all) != tt.want {
			t.Errorf("%s: %d entries, want %d", name, len(all), tt.want)
		}
	}
}

// TestSealed: nothing of a message can be read on disk, and another key opens
// nothing.
func TestSealed(t *testing.T) {
	dir, keys := t.TempDir(), newKeys(t)
	j := openJournal(t, dir, keys, Options{})
	record(j, 1, time.Now(), 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := files(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("files %v, %v", list, err)
	}
	b, err := os.ReadFile(list[0].path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"acme", "bob", "there.example", "secret", "198.51", "plan", "Subject"} {
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("%q is readable", text)
		}
	}
	if st, _ := os.Stat(list[0].path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	all, skipped := read(t, openJournal(t, dir, newKeys(t), Options{}), time.Time{}, time.Time{})
	if len(all) > 0 || len(skipped) != 1 || !strings.Contains(skipped[0].Why, "another master key") {
		t.Errorf("with another key: %d entries, skipped %v", len(all), skipped)
	}
	if all, skipped := read(t, openJournal(t, dir, keys, Options{}), time.Time{}, time.Time{}); len(all) != 1 || len(skipped) > 0 {
		t.Errorf("after a restart: %d entries, skipped %v", len(all), skipped)
	}
}

// written makes a segment of some blocks, and gives it with where they begin.
func written(t testing.TB, keys *keyring.Keyring, blocks int) (name string, b []byte, starts []int) {
	t.Helper()
	dir := t.TempDir()
	j := openJournal(t, dir, keys, Options{})
	for i := range blocks {
		record(j, i, time.Now(), 2)
		j.write(true)
	}
	j.Close()
	list, err := files(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("files %v, %v", list, err)
	}
	if b, err = os.ReadFile(list[0].path); err != nil {
		t.Fatal(err)
	}
	for at := len(preface); at < len(b); {
		h, ok := parseHeader(b[at:])
		if !ok {
			t.Fatal("no block where one should be")
		}
		starts = append(starts, at)
		at += blockHeader + int(h.sealed)
	}
	return filepath.Base(list[0].path), b, starts
}

// TestEveryCrash: a file cut anywhere gives all blocks before the cut.
func TestEveryCrash(t *testing.T) {
	keys := newKeys(t)
	name, b, starts := written(t, keys, 3)
	dir := t.TempDir()
	j := openJournal(t, dir, keys, Options{})
	for cut := 0; cut <= len(b); cut += 1 + cut%7 {
		if err := os.WriteFile(filepath.Join(dir, name), b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := 0
		for i := range starts {
			if end := append(starts, len(b))[i+1]; end <= cut {
				whole++
			}
		}
		clean := cut == len(b) || slices.Contains(starts, cut) || cut == len(preface)
		all, skipped := read(t, j, time.Time{}, time.Time{})
		if len(all) != whole || clean != (len(skipped) == 0) {
			t.Fatalf("cut at %d of %d: %d entries, want %d; skipped %v", cut, len(b), len(all), whole, skipped)
		}
	}
}

// TestFlippedBits: one flipped bit costs at most the block it is in.
func TestFlippedBits(t *testing.T) {
	keys := newKeys(t)
	name, b, starts := written(t, keys, 4)
	dir := t.TempDir()
	j := openJournal(t, dir, keys, Options{})
	rnd := rand.New(rand.NewPCG(1, 2))
	try := func(bit int) {
		damaged := bytes.Clone(b)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(filepath.Join(dir, name), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		least := len(starts) - 1
		if bit/8 < len(preface) {
			least = 0 // perhaps it is another version
		}
		all, skipped := read(t, j, time.Time{}, time.Time{})
		if len(all) < least || len(all) < len(starts) && len(skipped) == 0 {
			t.Fatalf("bit %d of octet %d: %d entries, skipped %v", bit%8, bit/8, len(all), skipped)
		}
	}
	for bit := range (starts[0] + blockHeader + 8) * 8 { // all of the first header
		try(bit)
	}
	for range 500 {
		try(rnd.IntN(len(b) * 8))
	}
}

// TestUnknownVersions of a file and of a block are skipped and told.
func TestUnknownVersions(t *testing.T) {
	keys := newKeys(t)
	name, b, starts := written(t, keys, 2)
	dir := t.TempDir()
	j := openJournal(t, dir, keys, Options{})
	h, _ := parseHeader(b[starts[0]:])
	h.version = 2
	newer := slices.Concat(b[:starts[0]], h.bytes(), b[starts[0]+blockHeader:])
	for text, tt := range map[string]struct {
		b    []byte
		want int
	}{
		"version 2 of a block": {newer, 1},
		"another version":      {append([]byte("behalf policy inputs 2\n"), b[len(preface):]...), 0},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), tt.b, 0o600); err != nil {
			t.Fatal(err)
		}
		all, skipped := read(t, j, time.Time{}, time.Time{})
		if len(all) != tt.want || len(skipped) != 1 || !strings.Contains(skipped[0].Why, text) || skipped[0].File != name {
			t.Errorf("%s: %d entries, skipped %v", text, len(all), skipped)
		}
	}
}

// TestMoved: a block's times and counts cannot be changed without the key.
func TestMoved(t *testing.T) {
	keys := newKeys(t)
	name, b, starts := written(t, keys, 1)
	dir := t.TempDir()
	h, _ := parseHeader(b[starts[0]:])
	h.last++
	os.WriteFile(filepath.Join(dir, name), slices.Concat(b[:starts[0]], h.bytes(), b[starts[0]+blockHeader:]), 0o600)
	if all, skipped := read(t, openJournal(t, dir, keys, Options{}), time.Time{}, time.Time{}); len(all) > 0 || len(skipped) != 1 {
		t.Errorf("%d entries, skipped %v", len(all), skipped)
	}
}

// TestRun writes a block within a second, and a full one at once.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := openJournal(t, dir, newKeys(t), Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- j.Run(ctx) }()
		onDisk := func() (n int64) {
			list, err := files(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				n += f.size
			}
			return n
		}
		record(j, 1, time.Now(), 1)
		time.Sleep(flushEvery)
		synctest.Wait()
		small := onDisk()
		if small == 0 {
			t.Error("nothing on disk after a second")
		}
		record(j, 1, time.Now(), 1000)
		synctest.Wait()
		if onDisk() == small {
			t.Error("a full block waits")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRetention drops what is too old, and the oldest over the size.
func TestRetention(t *testing.T) {
	dir, keys := t.TempDir(), newKeys(t)
	for i := range 5 {
		j := openJournal(t, dir, keys, Options{}) // a segment each
		record(j, i, time.Now(), 100)
		j.Close()
	}
	list, _ := files(dir)
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(list[0].path, old, old); err != nil {
		t.Fatal(err)
	}
	openJournal(t, dir, keys, Options{Keep: 24 * time.Hour})
	if left, _ := files(dir); len(left) != 4 || left[0].path != list[1].path {
		t.Errorf("%d segments left, the first is %s", len(left), left[0].path)
	}
	j := openJournal(t, dir, keys, Options{Size: 3*list[0].size + list[0].size/2 + blockSize})
	if left, _ := files(dir); len(left) != 3 || left[0].path != list[2].path {
		t.Errorf("over the size %d segments are left", len(left))
	}
	all, _ := read(t, j, time.Time{}, time.Time{})
	ended := slices.DeleteFunc(all, func(e *Entry) bool { return e.End == nil })
	if len(ended) != 3 {
		t.Errorf("%d transactions left", len(ended))
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := files(dir); len(left) > 0 {
		t.Errorf("%d segments left after Remove", len(left))
	}
	if err := Remove(filepath.Join(dir, "missing")); err != nil {
		t.Error(err)
	}
}

// TestSegments begin anew by size and age.
func TestSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := openJournal(t, dir, newKeys(t), Options{Keep: 24 * time.Hour})
		for range 3 {
			record(j, 1, time.Now(), 1)
			j.write(true)
			time.Sleep(j.segmentAge())
		}
		if list, _ := files(dir); len(list) != 3 {
			t.Errorf("by age: %d segments", len(list))
		}
	})
	dir := t.TempDir()
	j := openJournal(t, dir, newKeys(t), Options{Size: 16 * blockSize})
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		r := j.Begin(Transaction{Time: time.Now()})
		noise := make([]byte, 20_000)
		for i := range noise {
			noise[i] = byte(rnd.Uint32())
		}
		in := common(1)
		r.Message(&policy.MessageInput{SenderInput: in, Message: policy.Message{Subject: string(noise)}}, judged(), nil)
		r.End(End{})
		j.write(true)
	}
	list, _ := files(dir)
	var total int64
	for _, f := range list {
		total += f.size
	}
	if len(list) < 5 || total > 16*blockSize || total < 10*blockSize {
		t.Errorf("%d segments of %d octets together", len(list), total)
	}
}

// TestNothingIsRefused: what the disk cannot take is counted, memory stays
// bounded, and recording goes on when there is room again.
func TestNothingIsRefused(t *testing.T) {
	full := true
	dir := t.TempDir()
	j := openJournal(t, dir, newKeys(t), Options{Full: func() bool { return full }})
	record(j, 1, time.Now(), 1)
	j.write(true)
	if n := dropped(t, j); n != 1 {
		t.Errorf("%v counted on a full disk", n)
	}
	full = false
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	record(j, 2, time.Now(), 1)
	j.write(true)
	if n := dropped(t, j); n != 2 {
		t.Errorf("%v counted without the folder", n)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	record(j, 3, time.Now(), 1)
	if all, _ := read(t, j, time.Time{}, time.Time{}); len(all) != 1 || all[0].Asks[0].Common().Time != 3 {
		t.Errorf("%d entries when there is room again", len(all))
	}
	before := dropped(t, j)
	for i := range 200 { // nobody writes
		record(j, i, time.Now(), 1000)
	}
	if j.queued+len(j.open.b) > maxMemory {
		t.Errorf("%d octets in memory", j.queued)
	}
	if dropped(t, j) == before {
		t.Error("nothing was counted while memory was full")
	}
	j.Close()
	before = dropped(t, j)
	record(j, 1, time.Now(), 1)
	if dropped(t, j) != before+1 {
		t.Error("what came after the end was not counted")
	}
}

func TestHugeEntriesAreCounted(t *testing.T) {
	j := openJournal(t, t.TempDir(), newKeys(t), Options{})
	for _, size := range []int{3 << 20, 5 << 20} {
		r := j.Begin(Transaction{Time: time.Now()})
		r.Message(&policy.MessageInput{SenderInput: common(1), Message: policy.Message{Subject: strings.Repeat("x", size)}}, judged(), nil)
		r.End(End{Accepted: true})
	}
	all, skipped := read(t, j, time.Time{}, time.Time{})
	if n := dropped(t, j); n != 1 || len(skipped) > 0 || len(all) != 3 || len(all[0].Asks) != 1 || all[2].Part != 1 {
		t.Errorf("%v counted, %d entries, skipped %v", n, len(all), skipped)
	}
}

func TestNilRecordsNothing(t *testing.T) {
	var j *Journal
	record(j, 1, time.Now(), 3)
	k := openJournal(t, t.TempDir(), newKeys(t), Options{})
	k.Begin(Transaction{Time: time.Now()}).End(End{}) // asked nothing
	if all, _ := read(t, k, time.Time{}, time.Time{}); len(all) > 0 {
		t.Errorf("%d entries", len(all))
	}
}

// FuzzReader: no file makes the reader fail, hang, or give what was not sealed.
func FuzzReader(f *testing.F) {
	keys := newKeys(f)
	_, b, starts := written(f, keys, 2)
	f.Add(b)
	f.Add(b[:starts[1]+50])
	f.Add([]byte{})
	f.Add([]byte(preface))
	f.Add(slices.Concat(b[:starts[0]], b[starts[1]:]))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newReader(keys, time.Time{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if r.begin("fuzz", bytes.NewReader(b), int64(len(b))) {
			for n := 0; r.Next(); n++ {
				if n > len(b) {
					t.Fatal("it does not end")
				}
			}
		}
		if r.Err() != nil {
			t.Error(r.Err())
		}
	})
}

// BenchmarkRecord is the whole cost of one message with one recipient: encoding
// it, and its part of compressing, sealing and writing. cpu-ns/op is what the
// process used, whatever else the machine did.
func BenchmarkRecord(b *testing.B) {
	j := openJournal(b, b.TempDir(), newKeys(b), Options{})
	rnd := rand.New(rand.NewPCG(1, 2))
	senders := make([]policy.SenderInput, 50)
	for i := range senders {
		in := common(i)
		in.Tenant.Name = fmt.Sprint("tenant", i)
		in.Tenant.ID = mail.TenantID(rnd.Uint32())
		in.Credential.Username = in.Tenant.Name + "/app"
		in.Envelope.From, in.Envelope.FromDomain = "app@"+in.Tenant.Name+".example", in.Tenant.Name+".example"
		senders[i] = in
	}
	d, none := judged(), &policy.Decision{Digest: "d1"}
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		in := senders[rnd.IntN(len(senders))]
		in.Time = int64(n) * 1_000_003
		in.Usage = &policy.Usage{Hour: policy.Window{Messages: int64(n / 7), Recipients: int64(n / 5)}, Day: policy.Window{Messages: int64(n)}}
		rcpt := policy.RecipientInput{SenderInput: in, Recipient: policy.Recipient{Address: fmt.Sprintf("bob%d@there%d.example", n, n%97), Domain: "there.example", Site: "there.example"}}
		in.Envelope.Recipients = 1
		msg := policy.MessageInput{SenderInput: in,
			Message: policy.Message{From: in.Envelope.From, FromDomain: in.Envelope.FromDomain, Subject: fmt.Sprint("Your order ", rnd.Uint32()),
				MessageID: fmt.Sprintf("<%x@acme.example>", rnd.Uint64()), Size: rnd.Int64N(100_000)},
			Identity:       policy.Identity{Address: "*@" + in.Envelope.FromDomain, Verified: true, Methods: []mail.Method{"domain", "name"}},
			Candidates:     []policy.Candidate{{Upstream: "mx", Method: "domain", Holds: true, Why: "the key is in the DNS"}, {Upstream: "mx", Method: "name", Holds: true, Why: "it always does"}},
			Authentication: policy.Authentication{Method: "domain", FromDomain: in.Envelope.FromDomain, SPF: true, DKIM: true, DMARCPolicy: "none"},
			Unusual:        policy.Unusual{Score: int64(n % 40), NewRecipients: int64(n % 200)}}
		r := j.Begin(Transaction{Time: time.Now(), Digest: "d1", Needs: reads})
		r.Sender(&in, d, nil)
		r.Recipient(&rcpt, d, nil)
		r.Message(&msg, none, nil)
		r.End(End{Accepted: true, Message: mail.ID{byte(n), byte(n >> 8)}})
		if n++; n%50 == 0 {
			j.write(false)
		}
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(n), "cpu-ns/op")
	if n := dropped(b, j); n > 0 {
		b.Errorf("%v lost", n)
	}
	j.Close()
	list, _ := files(j.dir)
	var size int64
	for _, f := range list {
		size += f.size
	}
	b.ReportMetric(float64(size)/float64(n), "disk-B/op")
}

func dropped(t testing.TB, j *Journal) float64 {
	t.Helper()
	var m dto.Metric
	if err := j.dropped.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
