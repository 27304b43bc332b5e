package dnsx

import (
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	packedNXDomain = 1 << iota
	packedSecure
	packedError
)

// keptError is an error out of the cache. All that are kept are temporary.
type keptError string

func (e keptError) Error() string { return string(e) }
func (e keptError) Unwrap() error { return ErrTemporary }

// pack appends all of r but its TTL.
func (r *result) pack(b []byte) []byte {
	if r.err != nil {
		return packText(append(b, packedError), r.err.Error())
	}
	flags := byte(0)
	if r.NXDomain {
		flags |= packedNXDomain
	}
	if r.Secure {
		flags |= packedSecure
	}
	b = binary.AppendUvarint(append(b, flags), uint64(len(r.txt)))
	for _, t := range r.txt {
		b = packText(b, t)
	}
	b = binary.AppendUvarint(b, uint64(len(r.mx)))
	for _, m := range r.mx {
		b = packText(binary.BigEndian.AppendUint16(b, m.Pref), m.Host)
	}
	b = binary.AppendUvarint(b, uint64(len(r.addrs)))
	for _, a := range r.addrs {
		b = packText(b, string(a.AsSlice()))
	}
	b = binary.AppendUvarint(b, uint64(len(r.names)))
	for _, n := range r.names {
		b = packText(b, n)
	}
	return b
}

func packTime(b []byte, t time.Duration) []byte { return binary.AppendUvarint(b, uint64(t)) }

func packText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// unpack undoes pack. The texts are pieces of p.
func unpack(p packed) (r result) {
	flags := p.take(1)[0]
	if flags&packedError != 0 {
		return result{err: keptError(p.text())}
	}
	r.NXDomain, r.Secure = flags&packedNXDomain != 0, flags&packedSecure != 0
	r.txt = list(&p, p.text)
	r.mx = list(&p, func() MX {
		pref := p.take(2)
		return MX{uint16(pref[0])<<8 | uint16(pref[1]), p.text()}
	})
	r.addrs = list(&p, func() netip.Addr {
		a, _ := netip.AddrFromSlice([]byte(p.text()))
		return a
	})
	r.names = list(&p, p.text)
	return r
}

// packed is what is still to be unpacked.
type packed string

func (p *packed) take(n int) string {
	s := string((*p)[:n])
	*p = (*p)[n:]
	return s
}

func (p *packed) number() (n uint64) {
	for shift := 0; ; shift += 7 {
		c := p.take(1)[0]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
}

func (p *packed) text() string        { return p.take(int(p.number())) }
func (p *packed) time() time.Duration { return time.Duration(p.number()) }

// list unpacks as many as p says, nil if there are none.
func list[T any](p *packed, one func() T) (all []T) {
	if n := p.number(); n > 0 {
		all = make([]T, n)
		for i := range all {
			all[i] = one()
		}
	}
	return all
}
