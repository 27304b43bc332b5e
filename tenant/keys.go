package tenant

import (
	"bytes"
	"encoding/binary"

	"behalf/mail"
)

// The keys of the directory:
//
//	t/T/kind/name        a resource; a tenant itself is t/T/tenant/
//	t/T/used/name        when a credential was last used
//	t/0/deleting/T       a tenant whose resources are being removed
//	u/tenant/name        the tenant's number
//	u/id/T               its name, for ever: numbers are not used again
//	u/domain/name        the tenant that proved the domain
//	u/address/A/T        a tenant with a verified identity A, an address or *@domain
//	u/key/MAC/T/name     a credential by the MAC of its secret
//
// T is four octets, big-endian; MAC is 32.
const (
	kindUsed     Kind = "used"
	kindDeleting Kind = "deleting"
)

func number(t mail.TenantID) []byte { return binary.BigEndian.AppendUint32(nil, uint32(t)) }

func parseNumber(b []byte) (mail.TenantID, bool) {
	if len(b) != 4 {
		return 0, false
	}
	return mail.TenantID(binary.BigEndian.Uint32(b)), true
}

func tenantPrefix(t mail.TenantID) []byte {
	return append(append([]byte("t/"), number(t)...), '/')
}

func kindPrefix(t mail.TenantID, k Kind) []byte {
	return append(append(tenantPrefix(t), k...), '/')
}

func resourceKey(t mail.TenantID, k Kind, name string) []byte {
	return append(kindPrefix(t, k), name...)
}

// parseResourceKey takes a key below tenantPrefix apart.
func parseResourceKey(key []byte) (k Kind, name string, ok bool) {
	if len(key) < 7 {
		return "", "", false
	}
	kind, rest, ok := bytes.Cut(key[7:], []byte("/"))
	return Kind(kind), string(rest), ok
}

func deletingKey(t mail.TenantID) []byte {
	return append(kindPrefix(0, kindDeleting), number(t)...)
}

func nameKey(name string) []byte       { return append([]byte("u/tenant/"), name...) }
func numberKey(t mail.TenantID) []byte { return append([]byte("u/id/"), number(t)...) }
func domainKey(name string) []byte     { return append([]byte("u/domain/"), name...) }
func addressPrefix(a string) []byte    { return append(append([]byte("u/address/"), a...), '/') }
func secretPrefix(mac []byte) []byte   { return append(append([]byte("u/key/"), mac...), '/') }
func secretOwner(key []byte) (t mail.TenantID, name string, ok bool) {
	const at = len("u/key/") + macSize + 1
	if len(key) < at+5 {
		return 0, "", false
	}
	t, ok = parseNumber(key[at : at+4])
	return t, string(key[at+5:]), ok
}

func secretKey(mac []byte, t mail.TenantID, name string) []byte {
	return append(append(append(secretPrefix(mac), number(t)...), '/'), name...)
}

func addressKey(a string, t mail.TenantID) []byte { return append(addressPrefix(a), number(t)...) }
