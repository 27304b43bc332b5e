package policy

import (
	"reflect"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// InboundConnectInput is what the connect stage of arriving mail sees, once the
// client has said HELO or EHLO.
type InboundConnectInput struct {
	Time    int64       `json:"time" doc:"now, in nanoseconds since 1970, for Rego's time functions"`
	Session *Session    `json:"session" doc:"the client's connection"`
	Auth    ConnectAuth `json:"auth" doc:"what the DNS says of the client"`
	DNSBL   []Listing   `json:"dnsbl" doc:"block lists on which the client's address stands"`
}

// InboundRecipientInput is what the recipient stage of arriving mail sees, at
// each RCPT.
type InboundRecipientInput struct {
	Time      int64            `json:"time" doc:"now, in nanoseconds since 1970, for Rego's time functions"`
	Session   *Session         `json:"session" doc:"the client's connection"`
	Auth      RecipientAuth    `json:"auth" doc:"what the DNS says of the client and the sender"`
	DNSBL     []Listing        `json:"dnsbl" doc:"block lists on which the client's address stands"`
	Envelope  InboundEnvelope  `json:"envelope" doc:"what MAIL FROM said"`
	Recipient InboundRecipient `json:"recipient" doc:"the recipient asked about"`
}

// InboundMessageInput is what the message stage of arriving mail sees, after
// DATA.
type InboundMessageInput struct {
	Time       int64              `json:"time" doc:"now, in nanoseconds since 1970, for Rego's time functions"`
	Session    *Session           `json:"session" doc:"the client's connection"`
	Auth       MessageAuth        `json:"auth" doc:"how far the message is authentic"`
	DNSBL      []Listing          `json:"dnsbl" doc:"block lists on which the client's address stands"`
	Envelope   InboundEnvelope    `json:"envelope" doc:"what MAIL FROM said"`
	Recipients []InboundRecipient `json:"recipients" doc:"the recipients taken, in order"`
	Message    InboundMessage     `json:"message" doc:"the message itself"`
	Spam       Spam               `json:"spam" doc:"what the spam filter says"`
}

// ConnectAuth is what is known of a client before it names a sender. Results are
// the words of RFC 8601, section 2.7: none, pass, fail, temperror and so on.
type ConnectAuth struct {
	IPRev IPRev `json:"iprev" doc:"reverse DNS of the client's address"`
}

// RecipientAuth adds what is known of the sender.
type RecipientAuth struct {
	ConnectAuth
	SPF SPF `json:"spf" doc:"SPF of the envelope (RFC 7208)"`
}

// MessageAuth adds what the message proves.
type MessageAuth struct {
	RecipientAuth
	DKIM  []DKIM `json:"dkim" doc:"each DKIM signature (RFC 6376)"`
	DMARC DMARC  `json:"dmarc" doc:"DMARC of the header From (RFC 9989)"`
	ARC   ARC    `json:"arc" doc:"the chain of those who passed it on (RFC 8617)"`
}

// IPRev is whether the client's address and its name confirm each other.
type IPRev struct {
	Result string `json:"result" doc:"pass, fail, temperror or permerror (RFC 8601, section 2.7.3)"`
	Name   string `json:"name" doc:"the name that confirms the address; empty: none does"`
}

// SPF is a check of the client's address against a domain.
type SPF struct {
	Result string `json:"result" doc:"none, neutral, pass, fail, softfail, temperror or permerror"`
	Domain string `json:"domain" doc:"domain that was asked: that of MAIL FROM, or what the client called itself"`
}

// DKIM is one signature.
type DKIM struct {
	Result   string `json:"result" doc:"pass, fail, policy, neutral, temperror or permerror"`
	Domain   string `json:"domain" doc:"domain that signed"`
	Selector string `json:"selector" doc:"its key"`
}

// DMARC is how the header From is proved.
type DMARC struct {
	Result string `json:"result" doc:"none, pass, fail, temperror or permerror"`
	Policy string `json:"policy" doc:"what the domain asks for: none, quarantine, reject; empty: it has no record"`
	Domain string `json:"domain" doc:"domain whose record holds"`
}

// ARC is the chain of those who passed a message on.
type ARC struct {
	Result string `json:"result" doc:"none, pass or fail"`
	Sealer string `json:"sealer" doc:"domain of the last seal"`
}

// Listing is one block list that has the client's address.
type Listing struct {
	Zone   string   `json:"zone" doc:"the list"`
	Codes  []string `json:"codes" doc:"addresses that it answered with, such as 127.0.0.2"`
	Reason string   `json:"reason" doc:"its text record"`
}

// InboundEnvelope is what MAIL FROM said.
type InboundEnvelope struct {
	From       string `json:"from" doc:"address in MAIL FROM; empty for the null path"`
	FromDomain string `json:"from_domain" doc:"its domain"`
	Size       int64  `json:"size" doc:"octets the client announced, at the message stage those that came; 0: none announced"`
	Recipients int    `json:"recipients" doc:"recipients taken so far in this transaction"`
	UTF8       bool   `json:"utf8" doc:"SMTPUTF8 was asked for"`
	EightBit   bool   `json:"eight_bit" doc:"BODY=8BITMIME or BINARYMIME"`
	RequireTLS bool   `json:"require_tls" doc:"REQUIRETLS was asked for"`
}

// InboundRecipient is one RCPT.
type InboundRecipient struct {
	Address string `json:"address" doc:"the address"`
	Domain  string `json:"domain" doc:"its domain"`
	Tenant  string `json:"tenant" doc:"name of the tenant whose address it is; empty: the platform's"`
	Kind    string `json:"kind" doc:"mailbox, return_path or system"`
}

// InboundMessage is a message that arrives.
type InboundMessage struct {
	Headers     [][2]string  `json:"headers" doc:"header fields as pairs of name and unfolded value, in order"`
	From        string       `json:"from" doc:"address in From"`
	FromDomain  string       `json:"from_domain" doc:"its domain"`
	FromName    string       `json:"from_name" doc:"display name in From, decoded"`
	Subject     string       `json:"subject" doc:"decoded"`
	MessageID   string       `json:"message_id" doc:"with its brackets; empty when it has none"`
	Size        int64        `json:"size" doc:"octets"`
	Attachments []Attachment `json:"attachments" doc:"parts that carry a file name or are attachments"`
	URLHosts    []string     `json:"url_hosts" doc:"hosts of the links in the text, each once"`
}

// Spam is the verdict of the spam filter.
type Spam struct {
	Score    float64  `json:"score" doc:"its score"`
	Required float64  `json:"required" doc:"score from which it calls a message spam; 0: it was not asked"`
	Action   string   `json:"action" doc:"what it proposes, in its own words; empty: it was not asked"`
	Symbols  []Symbol `json:"symbols" doc:"what it found"`
}

// Symbol is one finding of the spam filter.
type Symbol struct {
	Name  string  `json:"name" doc:"its name"`
	Score float64 `json:"score" doc:"what it adds to the score"`
}

func (in *InboundConnectInput) term(fields) *ast.Term   { return termOf(reflect.ValueOf(in)) }
func (in *InboundRecipientInput) term(fields) *ast.Term { return termOf(reflect.ValueOf(in)) }
func (in *InboundMessageInput) term(fields) *ast.Term   { return termOf(reflect.ValueOf(in)) }

func (in *InboundConnectInput) stamp()   { stamp(&in.Time) }
func (in *InboundRecipientInput) stamp() { stamp(&in.Time) }
func (in *InboundMessageInput) stamp()   { stamp(&in.Time) }

// stamp fills in the time of a question that has none.
func stamp(at *int64) {
	if *at == 0 {
		*at = time.Now().UnixNano()
	}
}

// termOf builds what Rego sees of a value as [Schema] describes it: every field
// is there, a nil pointer counts as empty, and a nil list as a list of none.
func termOf(v reflect.Value) *ast.Term {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return termOf(reflect.Zero(v.Type().Elem()))
		}
		return termOf(v.Elem())
	case reflect.String:
		return ast.StringTerm(v.String())
	case reflect.Bool:
		return ast.InternedTerm(v.Bool())
	case reflect.Int, reflect.Int64:
		return ast.InternedTerm(v.Int())
	case reflect.Float64:
		return ast.FloatNumberTerm(v.Float())
	case reflect.Slice, reflect.Array:
		list := make([]*ast.Term, v.Len())
		for i := range list {
			list[i] = termOf(v.Index(i))
		}
		return ast.ArrayTerm(list...)
	case reflect.Struct:
		return ast.ObjectTerm(pairsOf(v)...)
	}
	panic("policy: no term for " + v.Type().String()) // a field of a type that no test has seen
}

func pairsOf(v reflect.Value) []pair {
	var o []pair
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			o = append(o, pairsOf(v.Field(i))...)
			continue
		}
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "" {
			o = append(o, pair{ast.StringTerm(name), termOf(v.Field(i))})
		}
	}
	return o
}
