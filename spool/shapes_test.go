package spool

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/mail"
)

func sampleAccepted() *mail.Event {
	return &mail.Event{At: noon, Type: mail.EventAccepted, Message: mail.NewID(0, 42, noon), Accepted: &mail.Acceptance{
		Client: "192.0.2.7", Helo: "app.acme.example", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256",
		Policy: []mail.Ruling{
			{Package: "sender", Decision: "accept", Digest: "0123456789abcdef"},
			{Package: "recipient", Decision: "accept", Digest: "0123456789abcdef", About: "user1@dest.example"},
			{Package: "message", Decision: "accept", Rules: []string{"default.rego:known"}, Digest: "0123456789abcdef"},
		},
		Choices: []mail.Choice{
			{Upstream: "connection:main", Method: "connection", Holds: true, Chosen: true, Why: "the account may send as support@acme.example"},
			{Upstream: "mx", Method: "domain", Why: "the domain acme.example has no published key"},
		},
		Alignment: mail.Alignment{From: "acme.example", SPF: "pass", DKIM: "pass", DMARC: "pass"},
	}}
}

func sampleDelivered() *mail.Event {
	return &mail.Event{At: noon.Add(time.Microsecond), Type: mail.EventDelivered, Message: mail.NewID(0, 42, noon), Recipients: []int{0},
		Attempt: &mail.Attempt{At: noon, Took: 17 * time.Millisecond, Upstream: "connection:main", Method: "connection", Host: "mx.dest.example",
			Addr: "192.0.2.9:25", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256", Reply: "250 2.0.0 Ok: queued as 4711", From: "support@acme.example"}}
}

// library is how records were written before they were written by hand.
type library struct {
	cbor.EncMode
	cbor.DecMode
}

func newLibrary(t testing.TB) library {
	enc, err := cbor.EncOptions{Time: cbor.TimeUnixDynamic}.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	return library{enc, dec}
}

func (l library) marshal(t testing.TB, v any) []byte {
	b, err := l.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// random fills v with things of its type: often nothing, sometimes odd.
func random(rnd *rand.Rand, v reflect.Value) {
	if v.Kind() != reflect.Struct && rnd.IntN(3) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		b := make([]byte, []int{3, 20, 30, 300}[rnd.IntN(4)])
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(rnd.Uint64()) >> rnd.IntN(64))
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(rnd.Uint64() >> (64 - rnd.IntN(v.Type().Bits()+1)))
	case reflect.Float64:
		v.SetFloat(rnd.NormFloat64())
	case reflect.Array:
		for i := range v.Len() {
			random(rnd, v.Index(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rnd.IntN(4), 8))
		for i := range v.Len() {
			random(rnd, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"ticket": "4711", "": "x"}))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		random(rnd, v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			if rnd.IntN(2) == 0 {
				v.Set(reflect.ValueOf(time.UnixMicro(rnd.Int64N(4e15)).UTC().Truncate(time.Duration(1 + rnd.IntN(2)*999_999_999))))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("cbor") != "-" {
				random(rnd, v.Field(i))
			}
		}
	}
}

// What the shapes write, the library reads, and the other way round: rows of
// earlier versions stay readable, and no field is forgotten.
func TestShapesAreThoseOfTheLibrary(t *testing.T) {
	l, c := newLibrary(t), testCodec(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var m mail.Message
		random(rnd, reflect.ValueOf(&m).Elem())
		sameRecord(t, l, &m, new(record).appendMessage(nil, &m), c.decodeMessage)
		rs := make([]mail.Recipient, rnd.IntN(3))
		random(rnd, reflect.ValueOf(&rs).Elem())
		sameRecord(t, l, &rs, new(record).appendRecipients(nil, rs), func(b []byte) (*[]mail.Recipient, error) {
			rs, err := c.decodeRecipients(b)
			return &rs, err
		})
		var e mail.Event
		random(rnd, reflect.ValueOf(&e).Elem())
		e.Seq = 0
		sameRecord(t, l, &e, new(record).appendEvent(nil, &e), func(b []byte) (*mail.Event, error) {
			e, err := c.event(0, b)
			return &e, err
		})
		if t.Failed() {
			return
		}
	}
}

// sameRecord compares what comes of v by us, by the library, and by one after the
// other. What we write we read without the library.
func sameRecord[T any](t *testing.T, l library, v *T, ours []byte, decode func([]byte) (*T, error)) {
	t.Helper()
	lib := l.marshal(t, v)
	want := new(T)
	if err := l.Unmarshal(lib, want); err != nil {
		t.Fatal(err)
	}
	sameTimes(reflect.ValueOf(want).Elem())
	var crossed T
	if err := l.Unmarshal(ours, &crossed); err != nil {
		t.Errorf("the library cannot read %x: %v", ours, err)
		return
	}
	sameTimes(reflect.ValueOf(&crossed).Elem())
	if !reflect.DeepEqual(&crossed, want) {
		t.Errorf("the library reads our row as\n%+v\nand its own as\n%+v", crossed, *want)
	}
	for name, row := range map[string][]byte{"our": ours, "the library's": lib} {
		got, err := decode(row)
		if err != nil {
			t.Errorf("we cannot read %s row %x: %v", name, row, err)
			return
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("we read %s row as\n%+v\nwant\n%+v", name, *got, *want)
		}
		if !understood(got, row) {
			t.Errorf("%s row of a %T is left to the library", name, *got)
		}
	}
}

// understood tells whether a row needs no library.
func understood(v any, row []byte) bool {
	r := reader(row)
	switch v.(type) {
	case *mail.Message:
		shapeMessage(&r, new(mail.Message))
	case *mail.Event:
		shapeEvent(&r, new(mail.Event))
	case *[]mail.Recipient:
		listItems(&r, new([]mail.Recipient), shapeRecipient)
	}
	return r.ended()
}

// sameTimes brings times into the form in which codec gives them.
func sameTimes(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			sameTimes(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			sameTimes(v.Index(i))
		}
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			if !at.IsZero() {
				v.Set(reflect.ValueOf(at.Round(time.Microsecond).UTC()))
			}
			return
		}
		for i := range v.NumField() {
			sameTimes(v.Field(i))
		}
	}
}

// A field of a later version, in whatever place, is passed over.
func TestUnknownFieldsArePassedOver(t *testing.T) {
	l, c := newLibrary(t), testCodec(t)
	row := l.marshal(t, []map[int]any{{1: map[int]any{1: "user1", 2: "dest.example", 9: "new"}, 4: "queued", 7: "mx|dest.example|transactional", 40: []int{1, 2}}})
	rs, err := c.decodeRecipients(row)
	if err != nil || len(rs) != 1 || rs[0].Address.Local != "user1" || rs[0].Lane != "mx|dest.example|transactional" {
		t.Errorf("got %+v, %v", rs, err)
	}
	row = l.marshal(t, map[int]any{0: "new", 3: "acme/app", 28: true})
	if m, err := c.decodeMessage(row); err != nil || m.Credential != "acme/app" {
		t.Errorf("got %+v, %v", m, err)
	}
}

// Whatever a row is, it is read as the library reads it, or left to it.
func FuzzShapes(f *testing.F) {
	l := newLibrary(f)
	m := sampleMessage()
	for _, v := range []any{m, []mail.Recipient{sampleRecipient(1), sampleRecipient(2)}, sampleAccepted(), sampleDelivered(),
		&mail.Event{At: noon, Limit: &mail.LimitEvent{Rate: 1.5, Reset: noon}}} {
		f.Add(l.marshal(f, v))
	}
	f.Add(new(record).appendMessage(nil, m))
	f.Add(new(record).appendEvent(nil, sampleAccepted()))
	f.Fuzz(func(t *testing.T, row []byte) {
		fuzzShape(t, l, row, shapeMessage)
		fuzzShape(t, l, row, shapeEvent)
		fuzzShape(t, l, row, func(r *record, rs *[]mail.Recipient) { listItems(r, rs, shapeRecipient) })
	})
}

func fuzzShape[T any](t *testing.T, l library, row []byte, shape func(*record, *T)) {
	var got, want T
	r := reader(row)
	if shape(&r, &got); !r.ended() {
		return
	}
	if err := l.Unmarshal(row, &want); err != nil {
		t.Fatalf("%x is read as %+v, by the library not at all: %v", row, got, err)
	}
	sameTimes(reflect.ValueOf(&want).Elem())
	sameTimes(reflect.ValueOf(&got).Elem())
	if e, ok := any(&got).(*mail.Event); ok {
		any(&want).(*mail.Event).Seq = e.Seq // not of the row
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%x is read as\n%+v\nby the library as\n%+v", row, got, want)
	}
}
