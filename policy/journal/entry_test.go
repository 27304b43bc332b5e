package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/mail"
	"behalf/policy"
)

// filler gives fields values: all of them something that is not zero, or, with
// chance, what comes, the odd ones often.
type filler struct {
	n      int
	chance *rand.Rand
}

func (f *filler) pick(of int) int {
	if f.chance == nil {
		return of - 1
	}
	return f.chance.IntN(of)
}

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Kind() {
	case reflect.Pointer:
		if f.pick(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem())
		}
	case reflect.Struct:
		f.fillStruct(v)
	case reflect.Slice:
		if n := f.pick(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
		}
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		if n := f.pick(4); n > 0 {
			labels := map[string]string{}
			for i := range n - 1 {
				labels[fmt.Sprint(f.n, i)] = fmt.Sprint("label ", i)
			}
			v.Set(reflect.ValueOf(labels))
		}
	case reflect.String:
		texts := []string{"", "\xff\x00", string(make([]byte, 300)), fmt.Sprint("text ", f.n)}
		v.SetString(texts[f.pick(len(texts))])
	case reflect.Bool:
		v.SetBool(f.pick(2) > 0)
	case reflect.Float64:
		numbers := []float64{0, math.Inf(1), -1e300, math.SmallestNonzeroFloat64, float64(f.n) / 3}
		v.SetFloat(numbers[f.pick(len(numbers))])
	case reflect.Int, reflect.Int64:
		numbers := []int64{0, -1, -25, math.MinInt64, math.MaxInt64, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, int64(f.n)}
		v.SetInt(numbers[f.pick(len(numbers))])
	case reflect.Uint8:
		v.SetUint(uint64(1 + f.n%5))
	case reflect.Uint32:
		numbers := []uint64{0, math.MaxUint32, uint64(f.n)}
		v.SetUint(numbers[f.pick(len(numbers))])
	default:
		panic("no value for a " + v.Kind().String())
	}
}

func (f *filler) fillStruct(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		times := []time.Time{{}, time.Date(9999, 1, 1, 0, 0, 0, 1, time.UTC), time.Unix(0, 0).UTC(), time.Unix(int64(f.n), int64(f.n)).UTC()}
		v.Set(reflect.ValueOf(times[f.pick(len(times))]))
		return
	}
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.IsExported() || field.Anonymous {
			f.fill(v.Field(i))
		}
	}
}

// oneOfEach records a question of each stage and gives the entry that must come
// back.
func (f *filler) oneOfEach(j *Journal, at time.Time) *Entry {
	var in policy.MessageInput
	var rcpt policy.RecipientInput
	var first, last policy.Decision
	var need policy.Needs
	for _, v := range []any{&in, &rcpt, &first, &last, &need} {
		f.fill(reflect.ValueOf(v).Elem())
	}
	if f.pick(2) == 0 {
		last = first
	}
	if f.pick(2) == 0 {
		in.Usage = rcpt.Usage
	}
	if in.Session == nil { // a relay always has these
		in.Session = &policy.Session{Addr: "192.0.2.1"}
	}
	rcpt.Session, rcpt.Tenant, rcpt.Credential = in.Session, in.Tenant, in.Credential
	end := End{Accepted: true, Message: mail.ID{1, 2, 3}, Code: 450, Reason: "x"}
	r := j.Begin(Transaction{Time: at, Digest: "d", Needs: need})
	r.Sender(&rcpt.SenderInput, &first, nil)
	r.Recipient(&rcpt, &policy.Decision{}, errors.New("deadline"))
	r.Message(&in, &last, nil)
	r.Message(&in, &last, nil)
	r.End(end)
	first.Digest, last.Digest = "d", "d"
	return &Entry{Transaction: j.next.Load(), End: &end, Time: at, Digest: "d", Needs: need, Session: in.Session, Tenant: in.Tenant, Credential: in.Credential, Asks: []Ask{
		{Sender: &rcpt.SenderInput, Decision: first},
		{Recipient: &rcpt, Err: "deadline", Decision: policy.Decision{Digest: "d"}},
		{Message: &in, Decision: last},
		{Message: &in, Decision: last},
	}}
}

// TestEveryFieldComesBack, whatever is added to the inputs and decisions.
func TestEveryFieldComesBack(t *testing.T) {
	j := openJournal(t, t.TempDir(), newKeys(t), Options{})
	at := time.Now().UTC()
	want := new(filler).oneOfEach(j, at)
	all, skipped := read(t, j, time.Time{}, time.Time{})
	if len(all) != 1 || len(skipped) > 0 {
		t.Fatalf("read %d entries, skipped %v", len(all), skipped)
	}
	if !reflect.DeepEqual(all[0], want) {
		t.Errorf("got  %+v\nwant %+v", all[0], want)
	}
}

// TestWhateverComes: with any values, what is recorded comes back exactly, what
// is empty as empty and what is missing as missing.
func TestWhateverComes(t *testing.T) {
	j := openJournal(t, t.TempDir(), newKeys(t), Options{})
	f := &filler{chance: rand.New(rand.NewPCG(1, 2))}
	at := time.Now().UTC()
	var want []*Entry
	for range 1000 {
		want = append(want, f.oneOfEach(j, at))
		j.write(false)
	}
	all, skipped := read(t, j, time.Time{}, time.Time{})
	if len(all) != len(want) || len(skipped) > 0 {
		t.Fatalf("read %d entries, skipped %v", len(all), skipped)
	}
	for i := range want {
		if !reflect.DeepEqual(all[i], want[i]) {
			t.Fatalf("%d: got  %+v\nwant %+v", i, all[i], want[i])
		}
	}
}

// encoded is one entry as it stands in a block.
func encoded(t testing.TB) []byte {
	j := openJournal(t, t.TempDir(), newKeys(t), Options{})
	record(j, 1, time.Now(), 2)
	return bytes.Clone(j.open.b[2:]) // without its length
}

// TestItIsCBOR that any library reads.
func TestItIsCBOR(t *testing.T) {
	dec, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	var head []any
	rest, err := dec.UnmarshalFirst(encoded(t), &head)
	if err != nil || len(head) != 10 {
		t.Fatalf("%v, %v", head, err)
	}
	n := 0
	for ; len(rest) > 0; n++ {
		var ask []any
		if rest, err = dec.UnmarshalFirst(rest, &ask); err != nil || len(ask) != askFields {
			t.Fatalf("question %d: %v, %v", n, ask, err)
		}
	}
	if n != 4 || head[9] != uint64(4) {
		t.Errorf("%d questions, the head says %v", n, head[9])
	}
}

// TestEveryCut: an entry that is not whole, or has more fields than are known,
// is none.
func TestEveryCut(t *testing.T) {
	b := encoded(t)
	if _, err := decode(b); err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := decode(b[:n]); err == nil {
			t.Errorf("cut at %d of %d it is read", n, len(b))
		}
	}
	if _, err := decode(append(bytes.Clone(b), 0)); err == nil {
		t.Error("with an octet more it is read")
	}
	b[0]++
	if _, err := decode(b); err == nil {
		t.Error("with a field more it is read")
	}
}

func TestNumbersOutOfRange(t *testing.T) {
	var c cborItems
	for _, n := range []int64{-1, 256} {
		number(&c, &n)
	}
	big := uint64(math.MaxUint64)
	number(&c, &big)
	for len(c.b) > 0 {
		var small uint8
		var signed int64
		_, n := (&cborItems{b: c.b, read: true}).get()
		one := cborItems{b: c.b, read: true}
		if number(&one, &small); one.err == nil {
			t.Errorf("%d is read as %d", n, small)
		}
		if n == big {
			one = cborItems{b: c.b, read: true}
			if number(&one, &signed); one.err == nil {
				t.Errorf("%d is read as %d", n, signed)
			}
		}
		rest := cborItems{b: c.b, read: true}
		rest.get()
		c.b = rest.b
	}
}

// FuzzEntry: no bytes make the decoder panic, and what it reads it writes again
// as it was.
func FuzzEntry(f *testing.F) {
	f.Add(encoded(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil || len(e.Asks) > 0 {
			return
		}
		c := cborItems{}
		asks := 0
		head(&c, e, &asks)
		if again, err := decode(c.b); err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%+v is %+v the second time, %v", e, again, err)
		}
	})
}
