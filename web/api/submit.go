package api

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"behalf/mail"
	"behalf/mail/compose"
	"behalf/mail/header"
	"behalf/relay"
	"behalf/web"
)

// Draft is a message in parts, as POST /v1/messages takes it.
type Draft struct {
	From        string            `json:"from" doc:"Mailbox, e.g. Acme Support <support@acme.example>."`
	To          Mailboxes         `json:"to,omitempty"`
	Cc          Mailboxes         `json:"cc,omitempty"`
	Bcc         Mailboxes         `json:"bcc,omitempty"`
	ReplyTo     Mailboxes         `json:"reply_to,omitempty"`
	Subject     string            `json:"subject,omitempty"`
	Text        string            `json:"text,omitempty"`
	HTML        string            `json:"html,omitempty"`
	Headers     map[string]string `json:"headers,omitempty" doc:"Further header fields."`
	Attachments []Attachment      `json:"attachments,omitempty"`
	EnvelopeTo  Mailboxes         `json:"envelope_to,omitempty" doc:"Recipients instead of to, cc and bcc."`
	MailFrom    *string           `json:"mail_from,omitempty" doc:"Envelope sender; default the From address; empty for the null path."`
	Tenant      string            `json:"tenant,omitempty" doc:"For whom a platform credential submits; the header Behalf-Tenant does the same."`
	Stream      string            `json:"stream,omitempty" doc:"transactional (default), broadcast, or a name of the tenant's own."`
	Tag         string            `json:"tag,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty" doc:"Given back in events."`
	SendAt      time.Time         `json:"send_at,omitzero" doc:"Not before this time, at most 60 days ahead."`
	Route       []string          `json:"route,omitempty" doc:"Upstreams to try instead of the tenant's route."`
	Method      mail.Method       `json:"method,omitempty" doc:"Only this method will do."`
}

// Attachment is one file of a Draft.
type Attachment struct {
	Filename    string `json:"filename,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Content     string `json:"content" doc:"Base 64."`
	ContentID   string `json:"content_id,omitempty" doc:"For cid: links in the HTML."`
	Inline      bool   `json:"inline,omitempty"`
}

// Mailboxes is a list of mailboxes, or one string with commas between them.
type Mailboxes []string

// UnmarshalJSON takes a string or a list.
func (m *Mailboxes) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		err := json.Unmarshal(b, &s)
		*m = Mailboxes{s}
		return err
	}
	return json.Unmarshal(b, (*[]string)(m))
}

// Schema describes both forms in OpenAPI.
func (Mailboxes) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{OneOf: []*huma.Schema{text, {Type: huma.TypeArray, Items: text}}}
}

func (m Mailboxes) parse(field string) ([]compose.Mailbox, error) {
	var out []compose.Mailbox
	for _, s := range m {
		list, err := header.ParseAddressList(s)
		if err != nil {
			return nil, bad("%s: %q is not a mailbox: %v", field, s, err)
		}
		for _, b := range list {
			out = append(out, compose.Mailbox(b))
		}
	}
	return out, nil
}

// Accepted is the answer to a submission.
type Accepted struct {
	ID        mail.ID         `json:"id"`
	MessageID string          `json:"message_id,omitempty"`
	Repeated  bool            `json:"repeated,omitempty" doc:"This idempotency key was used before; nothing new was accepted."`
	Refused   []relay.Refusal `json:"refused,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
}

func bad(format string, args ...any) error {
	return mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, format, args...)
}

// submission registers POST /v1/messages. It is a handler of its own because
// a message in RFC 5322 form streams from the socket to the spool.
func (a *API) submission(r chi.Router, h huma.API) {
	draft := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Draft](), true, "Draft")
	accepted := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Accepted](), true, "Accepted")
	text := &huma.Schema{Type: huma.TypeString}
	query := func(name, doc string) *huma.Param {
		return &huma.Param{Name: name, In: "query", Schema: text, Description: doc}
	}
	h.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "submit-message", Method: http.MethodPost, Path: "/v1/messages", Tags: []string{"messages"}, Summary: "Submit a message",
		Description: "In parts as JSON, or whole as message/rfc822 with the envelope in the query. Answered 202 once the message would survive a power cut.",
		Parameters: []*huma.Param{
			{Name: "Idempotency-Key", In: "header", Schema: text, Description: "Within 24 hours the same key gives the same message."},
			{Name: "Behalf-Tenant", In: "header", Schema: text, Description: "For whom a platform credential submits."},
			query("from", "message/rfc822: envelope sender; empty or left out for the From address; <> for the null path."),
			query("to", "message/rfc822: recipients; may be repeated."),
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: draft}, "message/rfc822": {Schema: text}}},
		Responses: map[string]*huma.Response{"202": {Description: "Accepted", Headers: map[string]*huma.Param{
			"RateLimit-Policy": {Schema: text, Description: "The most pressing limits: quota q, window w in seconds."},
			"RateLimit":        {Schema: text, Description: "What remains of them, r, and when they are whole again, t seconds."},
		}, Content: map[string]*huma.MediaType{"application/json": {Schema: accepted}}}},
	})
	r.Post("/v1/messages", func(w http.ResponseWriter, r *http.Request) {
		receipt, err := a.submit(w, r)
		if err != nil {
			ofRefusal(w.Header(), err)
			web.Error(w, r, a.Log, err)
			return
		}
		ofReceipt(w.Header(), receipt.Limits)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(Accepted{receipt.ID, receipt.MessageID, receipt.Repeated, receipt.Refused, receipt.Warnings}) // the client is gone if this fails; the message is not
	})
}

func (a *API) submit(w http.ResponseWriter, r *http.Request) (relay.Receipt, error) {
	var s relay.Submission
	var err error
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "message/rfc822":
		s, err = a.whole(w, r)
	case "application/json", "":
		var done func()
		s, done, err = a.parts(w, r)
		if done != nil {
			defer done()
		}
	default:
		err = mail.Fail(550, mail.Enhanced{5, 6, 1}, mail.OfMessage, mail.ReasonContent, "content type %q is not taken; send application/json or message/rfc822", kind)
	}
	if err != nil {
		return relay.Receipt{}, err
	}
	if t := r.Header.Get("Behalf-Tenant"); t != "" {
		if s.Hints.Tenant != "" && s.Hints.Tenant != t {
			return relay.Receipt{}, bad("the header Behalf-Tenant and the field tenant name different tenants")
		}
		s.Hints.Tenant = t
	}
	if k := r.Header.Get("Idempotency-Key"); k != "" {
		s.Hints.IdempotencyKey = k
	}
	c := web.CallerOf(r.Context())
	receipt, err := a.Intake.Accept(r.Context(), c.Principal, c.Client, s)
	if err == nil && receipt.Repeated {
		if st, err := a.Spool.Load(r.Context(), receipt.ID); err == nil { // it may be purged by now
			receipt.MessageID = st.Message.MessageID
		}
	}
	return receipt, err
}

// submission composes the message.
func (d *Draft) submission() (relay.Submission, error) {
	s := relay.Submission{
		Envelope: mail.Envelope{UTF8: true, EightBit: true},
		Hints: relay.Hints{Tenant: d.Tenant, Stream: d.Stream, Tag: d.Tag, Metadata: d.Metadata, SendAt: d.SendAt,
			Route: relay.ParseRoute(strings.Join(d.Route, ",")), Method: d.Method},
	}
	m, err := d.compose()
	if err != nil {
		return s, err
	}
	recipients := m.Recipients()
	if len(d.EnvelopeTo) > 0 {
		list, err := d.EnvelopeTo.parse("envelope_to")
		if err != nil {
			return s, err
		}
		recipients = recipients[:0]
		for _, b := range list {
			recipients = append(recipients, b.Address)
		}
	}
	for _, to := range recipients {
		s.Recipients = append(s.Recipients, mail.Recipient{Address: to})
	}
	if len(s.Recipients) == 0 {
		return s, bad("name at least one recipient in to, cc, bcc or envelope_to")
	}
	s.Envelope.From = m.From.Address
	if d.MailFrom != nil {
		s.Envelope.From = mail.Address{}
		if err := s.Envelope.From.UnmarshalText([]byte(*d.MailFrom)); err != nil {
			return s, bad("mail_from: %v", err)
		}
	}
	s.Write = func(w io.Writer) error {
		_, err := m.WriteTo(w)
		return err
	}
	return s, nil
}

func (d *Draft) compose() (*compose.Message, error) {
	m := &compose.Message{Subject: d.Subject, Text: d.Text, HTML: d.HTML, Date: time.Now()}
	from, err := Mailboxes{d.From}.parse("from")
	if err != nil {
		return nil, err
	}
	if len(from) != 1 {
		return nil, bad("from: give exactly one mailbox")
	}
	m.From = from[0]
	for _, f := range []struct {
		name string
		in   Mailboxes
		out  *[]compose.Mailbox
	}{{"to", d.To, &m.To}, {"cc", d.Cc, &m.Cc}, {"bcc", d.Bcc, &m.Bcc}, {"reply_to", d.ReplyTo, &m.ReplyTo}} {
		if *f.out, err = f.in.parse(f.name); err != nil {
			return nil, err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(d.Headers)) {
		m.Headers = append(m.Headers, compose.Field{Name: k, Value: d.Headers[k]})
	}
	for i, at := range d.Attachments {
		if _, err := io.Copy(io.Discard, base64.NewDecoder(base64.StdEncoding, strings.NewReader(at.Content))); err != nil {
			return nil, bad("attachments[%d].content is not base 64", i)
		}
		m.Attachments = append(m.Attachments, compose.Attachment{
			Filename: at.Filename, ContentType: at.ContentType, ContentID: strings.Trim(at.ContentID, "<>"), Inline: at.Inline,
			Content: base64.NewDecoder(base64.StdEncoding, strings.NewReader(at.Content)),
		})
	}
	return m, m.Check()
}
