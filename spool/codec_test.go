package spool

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

func testCodec(t testing.TB) codec {
	t.Helper()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var noon = time.Date(2026, 9, 22, 12, 0, 0, 123e6, time.UTC)

func sampleMessage() *mail.Message {
	return &mail.Message{
		ID: mail.NewID(0, 42, noon), Tenant: 42, Credential: "acme/app", Door: mail.DoorSMTP, Stream: "transactional",
		Envelope: mail.Envelope{From: mail.Address{Local: "support", Domain: "acme.example"}, EnvID: "x1"},
		From:     mail.Address{Local: "support", Domain: "acme.example"}, FromName: "Acme Support",
		Subject: "Your ticket 4711", MessageID: "<01jx@acme.example>", Size: 4096, HeaderSize: 700,
		Front:    []byte("Received: from [IPv6:::1] by relay.platform.example with ESMTPSA id 123;\r\n\tTue, 22 Sep 2026 12:00:00 +0000\r\n"),
		Edits:    []mail.Edit{{Op: mail.EditRemove, Name: "Bcc"}},
		BodyHash: [32]byte{1, 2, 3},
		Metadata: map[string]string{"ticket": "4711"},
		Accepted: noon, Expires: noon.Add(96 * time.Hour),
		Wishes: []mail.Wish{{Upstream: "mx", Methods: []mail.Method{"domain", "name"}}, {Upstream: "platform", Methods: []mail.Method{"name"}}},
	}
}

func sampleRecipient(i int) mail.Recipient {
	return mail.Recipient{
		Address: mail.Address{Local: fmt.Sprintf("user%d", i), Domain: "dest.example"},
		State:   mail.Queued, Lane: "mx|dest.example|transactional", Next: noon.Add(time.Duration(i) * time.Millisecond),
		NotBefore: noon.Add(time.Duration(i) * time.Millisecond), HeldBy: mail.HeldByTenant,
	}
}

func TestRecordsComeBack(t *testing.T) {
	c := testCodec(t)
	m := sampleMessage()
	b := new(record).appendMessage(nil, m)
	back, err := c.decodeMessage(b)
	if err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("message: got %+v, %v\nwant %+v", back, err, m)
	}
	rs := []mail.Recipient{sampleRecipient(1), sampleRecipient(2)}
	rs[1].Tries, rs[1].Notify, rs[1].Trouble = 3, mail.NotifyDelay, noon
	rs[1].Last = &mail.Failure{Code: 451, Enhanced: mail.Enhanced{4, 7, 1}, Text: "try later", Scope: mail.OfDestination,
		Reason: mail.ReasonRate, Stage: mail.StageSession, RetryAfter: time.Minute}
	b = new(record).appendRecipients(nil, rs)
	if got, err := c.decodeRecipients(b); err != nil || !reflect.DeepEqual(got, rs) {
		t.Errorf("recipients: got %+v, %v\nwant %+v", got, err, rs)
	}
	e := mail.Event{Seq: 9, At: noon, Type: mail.EventDeferred, Message: m.ID, Recipients: []int{1}, Next: noon.Add(time.Hour),
		Attempt: &mail.Attempt{At: noon.Add(time.Microsecond), Took: 17 * time.Millisecond, Upstream: "mx", Failure: rs[1].Last}}
	b = new(record).appendEvent(nil, &e)
	if got, err := c.decodeEvent(keyEvent(0, 9), b); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("event: got %+v, %v\nwant %+v", got, err, e)
	}
}

// A stray octet in a peer's reply or a client's header must not make a record
// unreadable.
func TestOctetsThatAreNotUTF8(t *testing.T) {
	c := testCodec(t)
	m := sampleMessage()
	m.Subject = "caf\xe9"
	b := new(record).appendMessage(nil, m)
	if back, err := c.decodeMessage(b); err != nil || back.Subject != m.Subject {
		t.Errorf("subject: got %v, %v", back, err)
	}
	rs := []mail.Recipient{{State: mail.Queued, Last: &mail.Failure{Code: 450, Reply: "450 \xff\xfe"}}}
	b = new(record).appendRecipients(nil, rs)
	if got, err := c.decodeRecipients(b); err != nil || got[0].Last.Reply != rs[0].Last.Reply {
		t.Errorf("reply: got %+v, %v", got, err)
	}
}

// Every millisecond that goes in comes out, though it is a float between.
func TestMillisecondsComeBack(t *testing.T) {
	c := testCodec(t)
	for ms := int64(1_790_000_000_000); ms < 1_790_000_000_000+3000; ms++ {
		b := new(record).appendRecipients(nil, []mail.Recipient{{State: mail.Queued, Next: time.UnixMilli(ms)}})
		rs, err := c.decodeRecipients(b)
		if err != nil || rs[0].Next.UnixMilli() != ms {
			t.Fatalf("%d came back as %v, %v", ms, rs, err)
		}
	}
}

func TestEventNumbersKeepBothEnds(t *testing.T) {
	var list []byte
	for n := uint64(1); n <= 700; n++ {
		list = addEvent(list, n*1000)
	}
	got := eventNumbers(list)
	if len(got) != keepFirst+keepLast || got[0] != 1000 || got[keepFirst-1] != keepFirst*1000 ||
		got[keepFirst] != (700-keepLast+1)*1000 || got[len(got)-1] != 700_000 {
		t.Errorf("got %d numbers, %d … %d, %d … %d", len(got), got[0], got[keepFirst-1], got[keepFirst], got[len(got)-1])
	}
	if !slices.IsSorted(got) {
		t.Error("the numbers are not in order")
	}
}

// The bytes of a head are what is on people's disks.
func TestHead(t *testing.T) {
	h := head{
		Body: blob.Ref{Segment: 2, Offset: 300, Size: 4}, Gone: true, Total: 65, Tally: tally{atHeld: 64, atDiscarded: 1},
		Base: 5, Expires: 6, Told: 1, Done: 7, Timer: 8, What: TimerRelease, Releases: []release{{Chunk: 1, At: 9}},
		Events: addEvent(addEvent(nil, 200), 201),
	}
	b := h.append(nil)
	want := "010102" + "02ac0204" + "41" + "00004000000000000001" + "0506010708" + "010109" + "03c80101"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("bytes %s, want %s", got, want)
	}
	got, rest, err := decodeHead(append(b, "rest"...))
	if err != nil || string(rest) != "rest" || !reflect.DeepEqual(got, h) {
		t.Errorf("came back as %+v, %q, %v", got, rest, err)
	}
	for n := range b {
		if _, _, err := decodeHead(b[:n]); err == nil {
			t.Errorf("%d of %d octets were taken", n, len(b))
		}
	}
}

func TestTooLargeIsRefused(t *testing.T) {
	s := openDisk(t, t.TempDir(), Options{})
	defer s.close(t)
	m, rs := benchMessage(s.Spool)
	m.Front = bytes.Repeat([]byte("x"), 600<<10)
	if _, err := s.Put(t.Context(), s.Draft(), m, rs, nil, nil); !errors.Is(err, kv.ErrTooBig) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	c := testCodec(f)
	m := new(record).appendMessage(nil, sampleMessage())
	rs := new(record).appendRecipients(nil, []mail.Recipient{sampleRecipient(1)})
	h := (&head{Total: 65, Base: 5, Releases: []release{{Chunk: 1, At: 2}}, Events: addEvent(nil, 7)}).append(nil)
	e := new(record).appendEvent(nil, &mail.Event{At: noon, Type: mail.EventAccepted})
	for _, b := range [][]byte{m, rs, append(h, rs...), e, nil, {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c.decodeMessage(b)
		c.decodeRecipients(b)
		c.decodeEvent(keyEvent(0, 1), b)
		decodeCounts(b)
		readIdempotency(b)
		if h, rest, err := decodeHead(b); err == nil {
			if len(rest) > len(b) {
				t.Error("more is left than there was")
			}
			back, left, err := decodeHead(h.append(nil))
			if err != nil || len(left) != 0 || !reflect.DeepEqual(back, h) {
				t.Errorf("a head does not come back: %+v, %+v, %v", h, back, err)
			}
		}
		eventNumbers(b)
		parseTimer(b, []byte{1})
	})
}

func BenchmarkCodec(b *testing.B) {
	c := testCodec(b)
	sample, accepted, delivered := sampleMessage(), sampleAccepted(), sampleDelivered()
	one := []mail.Recipient{sampleRecipient(1)}
	many := make([]mail.Recipient, chunkSize)
	for i := range many {
		many[i] = sampleRecipient(i)
	}
	h := &head{Total: 1, Base: millis(noon), Expires: millis(noon) + 1e8, Timer: millis(noon), What: TimerDelay, Events: addEvent(addEvent(nil, 1<<30), 1<<30+1)}
	b.Run("encode head", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h.append(make([]byte, 0, 96))
		}
	})
	b.Run("decode head", func(b *testing.B) {
		b.ReportAllocs()
		enc := h.append(nil)
		for b.Loop() {
			decodeHead(enc)
		}
	})
	for _, rec := range []struct {
		name   string
		encode func(b []byte) []byte
		decode func(b []byte) error
	}{
		{"message", func(b []byte) []byte { return new(record).appendMessage(b, sample) }, func(b []byte) error { _, err := c.decodeMessage(b); return err }},
		{"recipient", func(b []byte) []byte { return new(record).appendRecipients(b, one) }, func(b []byte) error { _, err := c.decodeRecipients(b); return err }},
		{"64 recipients", func(b []byte) []byte { return new(record).appendRecipients(b, many) }, func(b []byte) error { _, err := c.decodeRecipients(b); return err }},
		{"accepted", func(b []byte) []byte { return new(record).appendEvent(b, accepted) }, func(b []byte) error { _, err := c.event(1, b); return err }},
		{"delivered", func(b []byte) []byte { return new(record).appendEvent(b, delivered) }, func(b []byte) error { _, err := c.event(1, b); return err }},
	} {
		enc := rec.encode(nil)
		b.Run("encode "+rec.name, func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			buf := make([]byte, 0, len(enc))
			for b.Loop() {
				buf = rec.encode(buf[:0])
			}
			b.ReportMetric(float64(len(enc)), "octets")
		})
		b.Run("decode "+rec.name, func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				if err := rec.decode(enc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
