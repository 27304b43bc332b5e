package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/mail"
	"behalf/tenant"
	"behalf/web"
	"behalf/web/api"
)

// page is a page of a list of messages.
type page struct {
	Items []api.Message `json:"items"`
	Next  string        `json:"next"`
}

func TestSubmitInParts(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	got := into[api.Accepted](t, w.post("acme-secret", "/v1/messages", map[string]any{
		"from": "Support <support@acme.example>", "to": []string{"Guest <guest@elsewhere.example>", "b@elsewhere.example"}, "cc": "c@elsewhere.example, d@elsewhere.example",
		"bcc": "secret@elsewhere.example", "reply_to": "answers@acme.example", "subject": "Grüße", "text": "hello", "html": `<p>hello <img src="cid:logo"></p>`,
		"headers": map[string]string{"X-Campaign": "spring", "References": "<1@acme.example>"},
		"attachments": []map[string]any{
			{"filename": "Rechnung März.pdf", "content_type": "application/pdf", "content": base64.StdEncoding.EncodeToString([]byte("%PDF-1.7 attached"))},
			{"filename": "logo.png", "content_type": "image/png", "content": base64.StdEncoding.EncodeToString([]byte("picture")), "content_id": "logo", "inline": true},
		},
		"stream": "news", "tag": "spring", "metadata": map[string]string{"order": "17"},
	}).want(t, http.StatusAccepted))
	w.state(got.ID, mail.Delivered)
	m := into[api.Message](t, w.get("acme-secret", "/v1/messages/"+got.ID.String()).want(t, 200))
	if m.Tenant != "acme" || m.Credential != "acme/app" || m.MessageID != got.MessageID || m.From != "support@acme.example" || m.Subject != "Grüße" ||
		m.Stream != "news" || m.Tag != "spring" || m.Metadata["order"] != "17" || len(m.Recipients) != 5 || len(m.Events) < 2 || m.Door != mail.DoorHTTP {
		t.Errorf("%+v", m)
	}
	raw := string(w.get("acme-secret", "/v1/messages/"+got.ID.String()+"/raw").want(t, 200).body)
	for _, want := range []string{"To: ", "guest@elsewhere.example", "Cc: ", "Reply-To: ", "X-Campaign: spring", "References: <1@acme.example>", "application/pdf", "logo.png", "multipart/mixed", "multipart/related", "multipart/alternative"} {
		if !strings.Contains(raw, want) {
			t.Errorf("the message has no %q:\n%s", want, raw)
		}
	}
	if strings.Contains(raw, "secret@elsewhere.example") {
		t.Error("the message names a recipient of Bcc")
	}
	events := into[struct{ Items []mail.Event }](t, w.get("acme-secret", "/v1/messages/"+got.ID.String()+"/events").want(t, 200)).Items
	if len(events) != len(m.Events) || events[0].Accepted == nil {
		t.Errorf("%+v", events)
	}
}

// What is wrong with a submission is told with the status that fits and a
// sentence that names the fault.
func TestSubmissionProblems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	rfc822 := map[string]string{"Content-Type": "message/rfc822"}
	for _, c := range []struct {
		name   string
		r      request
		status int
		detail string
	}{
		{"not JSON", request{body: `from`}, 422, "invalid character"},
		{"two objects", request{body: message("") + message("")}, 422, "one message at a time"},
		{"an unknown field", request{body: message(`,"form":"x"`)}, 422, `unknown field "form"`},
		{"a wrong type", request{body: message(`,"tag":7`)}, 422, "tag"},
		{"another content type", request{body: "x", header: map[string]string{"Content-Type": "text/plain"}}, 422, "message/rfc822"},
		{"no from", request{body: `{"to":"a@b.example"}`}, 422, "from"},
		{"two authors", request{body: `{"from":"a@acme.example, b@acme.example","to":"a@b.example"}`}, 422, "exactly one"},
		{"nobody to send to", request{body: `{"from":"support@acme.example","text":"x"}`}, 422, "recipient"},
		{"a broken recipient", request{body: `{"from":"support@acme.example","to":"a@b@c"}`}, 422, "to:"},
		{"a broken attachment", request{body: message(`,"attachments":[{"filename":"a","content":"?"}]`)}, 422, "attachments[0]"},
		{"a header that would smuggle", request{body: message(`,"headers":{"X-A":"b\r\nBcc: c@d.example"}`)}, 422, ""},
		{"a header that Behalf sets", request{body: message(`,"headers":{"DKIM-Signature":"x"}`)}, 422, ""},
		{"an unknown method", request{body: message(`,"method":"magic"`)}, 422, "method"},
		{"an unknown way", request{body: message(`,"route":["nothing"]`)}, 422, "nothing"},
		{"a stream of capitals", request{body: message(`,"stream":"News"`)}, 422, "stream"},
		{"too far ahead", request{body: message(`,"send_at":"2199-01-01T00:00:00Z"`)}, 422, "60 days"},
		{"a time that is none", request{body: message(`,"send_at":"tomorrow"`)}, 422, "tomorrow"},
		{"a program attached", request{body: message(`,"attachments":[{"filename":"a.exe","content":"AAAA"}]`)}, 403, "a.exe"},
		{"a stranger's address", request{body: `{"from":"someone@stranger.example","to":"a@b.example","text":"x","method":"domain"}`}, 422, "stranger.example"},
		{"too large", request{body: message(`,"html":"` + strings.Repeat("x", maxSize) + `"`)}, 413, "limit"},
		{"much too large", request{body: message(`,"html":"` + strings.Repeat("x", 3*maxSize) + `"`)}, 413, "limit"},
		{"raw: nobody to send to", request{path: "?from=support@acme.example", body: "From: support@acme.example\n\nx", header: rfc822}, 422, "?to="},
		{"raw: a broken recipient", request{path: "?to=a@b@c", body: "From: support@acme.example\n\nx", header: rfc822}, 422, "to:"},
		{"raw: a broken sender", request{path: "?to=a@b.example&from=x", body: "From: support@acme.example\n\nx", header: rfc822}, 422, "from:"},
		{"raw: no From", request{path: "?to=a@b.example", body: "Subject: x\n\nx", header: rfc822}, 422, "From"},
		{"raw: two From", request{path: "?to=a@b.example&from=support@acme.example", body: "From: support@acme.example\nFrom: b@c.example\n\nx", header: rfc822}, 422, "From"},
		{"raw: nothing", request{path: "?to=a@b.example", body: "", header: rfc822}, 422, "From"},
		{"raw: a bad time", request{path: "?to=a@b.example&send_at=now", body: "From: support@acme.example\n\nx", header: rfc822}, 422, "send_at"},
		{"raw: too large", request{path: "?to=a@b.example", body: "From: support@acme.example\n\n" + strings.Repeat("x\n", maxSize), header: rfc822}, 413, "limit"},
		{"raw: an endless header", request{path: "?to=a@b.example", body: strings.Repeat("X-Filler: x\n", maxSize/12), header: rfc822}, 422, "header"},
		{"raw: a bare CR", request{path: "?to=a@b.example", body: "From: support@acme.example\n\na\rb", header: rfc822}, 422, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.key, c.r.method, c.r.path = "acme-secret", http.MethodPost, "/v1/messages"+c.r.path
			p := into[web.Problem](t, w.do(c.r).want(t, c.status))
			if !strings.Contains(p.Detail, c.detail) {
				t.Errorf("does not tell %q: %s", c.detail, p.Detail)
			}
		})
	}
	if got := into[page](t, w.get(adminKey, "/v1/messages")); len(got.Items) != 0 {
		t.Errorf("something was accepted: %+v", got.Items)
	}
}

// A whole message is kept to the octet; only line ends become CRLF.
func TestSubmitWhole(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	const text = "From: Support <support@acme.example>\r\nTo: list@elsewhere.example\r\nSubject: raw\r\nMessage-ID: <1@acme.example>\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\nline one\r\n.\r\n\r\ngrüße\r\nno end"
	for _, c := range []struct {
		name, query, body, from string
	}{
		{"CRLF", "to=guest@elsewhere.example", text, "support@acme.example"},
		{"LF", "to=guest@elsewhere.example", strings.ReplaceAll(text, "\r\n", "\n"), "support@acme.example"},
		{"mixed", "to=guest@elsewhere.example", strings.Replace(text, "\r\n", "\n", 3), "support@acme.example"},
		{"sender named", "to=guest@elsewhere.example&from=bounces@acme.example", text, "bounces@acme.example"},
		{"sender in brackets", "to=guest@elsewhere.example&from=" + url.QueryEscape("<bounces@acme.example>"), text, "bounces@acme.example"},
		{"null path", "to=guest@elsewhere.example&from=" + url.QueryEscape("<>"), text, ""},
		{"several recipients", "to=guest@elsewhere.example,b@elsewhere.example&to=" + url.QueryEscape("c+d@elsewhere.example"), text, "support@acme.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := into[api.Accepted](t, w.do(request{key: "acme-secret", method: "POST", path: "/v1/messages?tag=t&" + c.query,
				body: strings.NewReader(c.body), header: map[string]string{"Content-Type": "message/rfc822; charset=utf-8"}}).want(t, http.StatusAccepted))
			raw := w.get("acme-secret", "/v1/messages/"+got.ID.String()+"/raw").want(t, 200)
			if kind := raw.header.Get("Content-Type"); string(raw.body) != text || kind != "message/rfc822" {
				t.Errorf("%s\n%q\n%q", kind, raw.body, text)
			}
			m := into[api.Message](t, w.get("acme-secret", "/v1/messages/"+got.ID.String()).want(t, 200))
			if m.MailFrom != c.from || m.Tag != "t" || m.MessageID != "<1@acme.example>" || len(m.Recipients) != strings.Count(c.query, "elsewhere") {
				t.Errorf("%+v", m)
			}
		})
	}
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	post := func(secret, key, body, kind, query string) *answer {
		return w.do(request{key: secret, method: "POST", path: "/v1/messages" + query, body: body, header: map[string]string{"Idempotency-Key": key, "Content-Type": kind}})
	}
	const raw = "From: support@acme.example\n\nhello"
	for _, c := range []struct{ name, kind, query, body, other string }{
		{"parts", "application/json", "", message(""), message(`,"subject":"other"`)},
		{"whole", "message/rfc822", "?to=guest@elsewhere.example", raw, raw + " other"},
		{"another recipient", "message/rfc822", "?to=guest@elsewhere.example", raw, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := into[api.Accepted](t, post("acme-secret", c.name, c.body, c.kind, c.query).want(t, 202))
			again := into[api.Accepted](t, post("acme-secret", c.name, c.body, c.kind, c.query).want(t, 202))
			if first.Repeated || !again.Repeated || again.ID != first.ID || again.MessageID != first.MessageID {
				t.Errorf("first %+v, again %+v", first, again)
			}
			query := c.query
			if c.other == "" {
				c.other, query = c.body, "?to=other@elsewhere.example"
			}
			if a := post("acme-secret", c.name, c.other, c.kind, query).want(t, 422); !strings.Contains(string(a.body), "new key") {
				t.Errorf("%s", a)
			}
			theirs := into[api.Accepted](t, post("globex-secret", c.name, strings.ReplaceAll(c.body, "acme", "globex"), c.kind, c.query).want(t, 202))
			if theirs.Repeated || theirs.ID == first.ID {
				t.Error("another tenant's key collides")
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		var mu sync.Mutex
		ids, fresh := map[mail.ID]bool{}, 0
		each(make([]string, 20), func(int, string) {
			got := into[api.Accepted](t, post("acme-secret", "at-once", message(""), "application/json", "").want(t, 202))
			mu.Lock()
			defer mu.Unlock()
			if ids[got.ID] = true; !got.Repeated {
				fresh++
			}
		})
		if len(ids) != 1 || fresh != 1 {
			t.Errorf("%d messages, %d of them new", len(ids), fresh)
		}
	})
	t.Run("a refused one leaves the key free", func(t *testing.T) {
		post("acme-secret", "free", `{"from":"x@stranger.example","to":"a@b.example","method":"domain"}`, "application/json", "").want(t, 422)
		post("acme-secret", "free", message(""), "application/json", "").want(t, 202)
	})
}

func TestSendLater(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	id := w.send("acme-secret", "acme", map[string]any{"send_at": at})
	m := into[api.Message](t, w.get("acme-secret", "/v1/messages/"+id.String()).want(t, 200))
	if !m.NotBefore.Equal(at) || m.Recipients[0].State != mail.Queued || !m.Recipients[0].Next.Equal(at) {
		t.Errorf("%+v", m)
	}
}

// Recipients are refused one by one, and the others are taken.
func TestRefusedRecipients(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("guest%d@elsewhere.example", i)
	}
	d := draft("acme", "")
	d["to"] = many
	got := into[struct {
		ID      string
		Refused []struct {
			Address string
			Failure struct {
				Code int
				Text string
			}
		}
	}](t, w.post("acme-secret", "/v1/messages", d).want(t, 202))
	if len(got.Refused) != 1 || got.Refused[0].Address != "guest100@elsewhere.example" || got.Refused[0].Failure.Code != 452 {
		t.Errorf("%+v", got)
	}
}

// A suspended tenant is refused at the door, and told why.
func TestSuspended(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.apply(&tenant.Tenant{Name: "acme", Suspended: &tenant.Suspension{Reason: "unpaid bill"}})
	if a := w.post("acme-secret", "/v1/messages", draft("acme", "guest@elsewhere.example")); a.status != 403 || !strings.Contains(string(a.body), "unpaid bill") {
		t.Errorf("%s", a)
	}
}

func TestListMessages(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	var sent []string
	for i := range 7 {
		sent = append(sent, w.send("acme-secret", "acme", map[string]any{"tag": fmt.Sprint("t", i%2), "to": fmt.Sprintf("g%d@d%d.example", i, i%3)}).String())
	}
	w.send("globex-secret", "globex", nil)
	var seen []string
	q := url.Values{"limit": {"3"}}
	for pages := 0; ; pages++ {
		p := into[page](t, w.get("acme-secret", "/v1/messages?"+q.Encode()).want(t, 200))
		for _, m := range p.Items {
			seen = append(seen, m.ID.String())
		}
		if p.Next == "" {
			break
		}
		if pages > 3 {
			t.Fatal("the pages do not end")
		}
		q.Set("cursor", p.Next)
	}
	slices.Sort(sent) // ids of one millisecond have no order
	slices.Reverse(sent)
	if !slices.Equal(seen, sent) {
		t.Errorf("%v of %v", seen, sent)
	}
	for query, want := range map[string]int{
		"tag=t0": 4, "domain=d1.example": 2, "recipient=g3@d0.example": 1, "from=support@acme.example": 7, "state=queued": 7, "state=held": 0, "credential=acme/app": 7,
		"stream=broadcast": 0, "since=" + url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339)): 0, "until=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339)): 0,
	} {
		if p := into[page](t, w.get("acme-secret", "/v1/messages?"+query).want(t, 200)); len(p.Items) != want {
			t.Errorf("%s: %d messages, want %d", query, len(p.Items), want)
		}
	}
	if p := into[page](t, w.get(adminKey, "/v1/messages").want(t, 200)); len(p.Items) != 8 {
		t.Errorf("the admin sees %d", len(p.Items))
	}
	for _, query := range []string{"limit=0", "limit=501", "limit=x", "state=lost", "since=yesterday", "cursor=zz"} {
		w.get("acme-secret", "/v1/messages?"+query).want(t, 422)
	}
}

func TestOperations(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	id := w.send("acme-secret", "acme", nil)
	do := func(op, body string) int {
		t.Helper()
		return into[struct{ Changed int }](t, w.post("acme-secret", "/v1/messages/"+id.String()+"/"+op, body).want(t, 200)).Changed
	}
	if n := do("hold", `{"reason":"looks odd"}`); n != 1 {
		t.Errorf("hold changed %d", n)
	}
	w.state(id, mail.Held)
	m := into[api.Message](t, w.get("acme-secret", "/v1/messages/"+id.String()))
	if last := m.Events[len(m.Events)-1]; last.Reason != "looks odd" || last.Actor != "acme/app" {
		t.Errorf("%+v", last)
	}
	if n := do("release", `{}`); n != 1 {
		t.Errorf("release changed %d", n)
	}
	if n := do("hold", ""); n != 1 { // no body at all will do
		t.Errorf("hold changed %d", n)
	}
	if n := do("cancel", `{"reason":"sent in error"}`); n != 1 {
		t.Errorf("cancel changed %d", n)
	}
	w.state(id, mail.Cancelled)
	if n := do("retry", `{}`); n != 0 {
		t.Errorf("retry changed %d of a message that is done", n)
	}
	w.post("acme-secret", "/v1/messages/"+id.String()+"/hold", `{"reason":7}`).want(t, 422)
	w.post("acme-secret", "/v1/messages/"+id.String()+"/hold", `{"why":"x"}`).want(t, 422)
	for _, bad := range []string{"x", "000000000000000000000000", w.unknown("acme").String()} {
		w.post("acme-secret", "/v1/messages/"+bad+"/hold", `{}`).want(t, 404)
		w.get("acme-secret", "/v1/messages/"+bad).want(t, 404)
	}
}

// Operations by filter reach all that matches and nothing else.
func TestBulk(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	spring := []mail.ID{w.send("acme-secret", "acme", map[string]any{"tag": "spring"}), w.send("acme-secret", "acme", map[string]any{"tag": "spring"})}
	autumn, theirs := w.send("acme-secret", "acme", map[string]any{"tag": "autumn"}), w.send("globex-secret", "globex", map[string]any{"tag": "spring"})
	until := time.Now().Add(30 * time.Minute).UTC().Truncate(time.Second)
	got := into[struct{ Changed int }](t, w.post("acme-secret", "/v1/queue/hold", map[string]any{"tag": "spring", "reason": "wrong text", "release_at": until}).want(t, 200))
	if got.Changed != 2 {
		t.Errorf("%d changed", got.Changed)
	}
	for _, id := range spring {
		w.state(id, mail.Held)
	}
	w.state(autumn, mail.Queued)
	w.state(theirs, mail.Queued)
	if m := into[api.Message](t, w.get("acme-secret", "/v1/messages/"+spring[0].String())); !m.Recipients[0].Next.Equal(until) {
		t.Errorf("released at %v, want %v", m.Recipients[0].Next, until)
	}
	if got := into[struct{ Changed int }](t, w.post(adminKey, "/v1/queue/cancel", `{"all":true}`).want(t, 200)); got.Changed != 4 {
		t.Errorf("the admin's cancel changed %d", got.Changed)
	}
	for _, body := range []string{`{"state":"lost"}`, `{"sate":"held"}`, `[]`, `{}`, `{`} {
		if a := w.post("acme-secret", "/v1/queue/hold", body); a.status != 422 && a.status != 400 {
			t.Errorf("%s: %s", body, a)
		} else {
			a.want(t, a.status)
		}
	}
}

func TestStats(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.send("acme-secret", "acme", map[string]any{"to": "a@elsewhere.example, b@elsewhere.example"})
	w.send(adminKey, "acme", map[string]any{"tenant": "acme"})
	for query, want := range map[string]api.Sent{"": {Messages: 2, Recipients: 3}, "?credential=acme/app": {Messages: 1, Recipients: 2}, "?tenant=acme&credential=acme/other": {}} {
		s := into[api.TenantStats](t, w.get("acme-secret", "/v1/stats"+query).want(t, 200))
		if s.Tenant != "acme" || s.Hour != want || s.Day != want {
			t.Errorf("%q: %+v", query, s)
		}
	}
	w.get(adminKey, "/v1/stats").want(t, 422) // whose?
}

func TestQueue(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.send("acme-secret", "acme", nil)
	s := into[api.Stats](t, w.get(adminKey, "/v1/queue/stats").want(t, 200))
	if s.Messages != 1 || s.Unfinished != 1 || s.Recipients[mail.Queued] != 1 {
		t.Errorf("%+v", s)
	}
	w.get("acme-secret", "/v1/queue").want(t, 200)
	w.get(adminKey, "/v1/queue?tenant=acme").want(t, 200)
}

// The feed gives each event once, in order, from where the client left off.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	first := w.send("acme-secret", "acme", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func(last string) (*bufio.Scanner, *http.Response) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+"/v1/events?tenant=acme", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer acme-secret")
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := w.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%s %v", resp.Status, resp.Header)
		}
		return bufio.NewScanner(resp.Body), resp
	}
	next := func(sc *bufio.Scanner) map[string]string {
		fields := map[string]string{}
		for sc.Scan() {
			if sc.Text() == "" && len(fields) > 0 {
				return fields
			}
			if k, v, ok := strings.Cut(sc.Text(), ": "); ok {
				fields[k] = v
			}
		}
		t.Fatal("the stream ended")
		return nil
	}
	live, resp := open("")
	defer resp.Body.Close()
	second := w.send("acme-secret", "acme", nil)
	e := next(live)
	if !strings.Contains(e["data"], second.String()) || e["event"] != "message.accepted" {
		t.Errorf("the first event of a live stream is %v", e)
	}
	all, resp := open("0")
	defer resp.Body.Close()
	one, two := next(all), next(all)
	if !strings.Contains(one["data"], first.String()) || two["id"] != e["id"] {
		t.Errorf("from the beginning: %v, %v", one, two)
	}
	rest, resp := open(one["id"])
	defer resp.Body.Close()
	if got := next(rest); got["id"] != two["id"] {
		t.Errorf("after %s comes %v", one["id"], got)
	}
	w.do(request{key: "acme-secret", path: "/v1/events", header: map[string]string{"Last-Event-ID": "x"}}).want(t, 422)
}

// A list of suppressed addresses keeps mail away from them.
func TestSuppressions(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	put := func(method, path string) *answer {
		return w.do(request{key: "acme-secret", method: method, path: path})
	}
	put("PUT", "/v1/suppressions/guest@elsewhere.example").want(t, 204)
	put("PUT", "/v1/suppressions/guest%40elsewhere.example?stream=news").want(t, 204)
	put("PUT", "/v1/suppressions/Another@elsewhere.example").want(t, 204)
	var addresses []string
	path := "/v1/suppressions?limit=2"
	for range 2 {
		l := into[struct {
			Items []struct{ Address, Stream, Reason, By string }
			Next  string
		}](t, w.get("acme-secret", path).want(t, 200))
		for _, e := range l.Items {
			addresses = append(addresses, e.Stream+" "+e.Address)
			if e.By != "acme/app" || e.Reason != "manual" {
				t.Errorf("%+v", e)
			}
		}
		path = "/v1/suppressions?limit=2&cursor=" + l.Next
	}
	if len(addresses) != 3 {
		t.Errorf("%q", addresses)
	}
	id := w.post("acme-secret", "/v1/messages", draft("acme", "GUEST@elsewhere.example")).want(t, 202)
	w.state(into[api.Accepted](t, id).ID, mail.Suppressed)
	put("DELETE", "/v1/suppressions/guest@elsewhere.example").want(t, 204)
	again := into[api.Accepted](t, w.post("acme-secret", "/v1/messages", draft("acme", "guest@elsewhere.example")).want(t, 202))
	w.state(again.ID, mail.Delivered)
	put("PUT", "/v1/suppressions/nonsense").want(t, 422)
	put("PUT", "/v1/suppressions/a@b.example?stream=No%00pe").want(t, 422)
	w.get("acme-secret", "/v1/suppressions?cursor=%25").want(t, 422)
	w.get(adminKey, "/v1/suppressions").want(t, 422) // whose?
}

// A link to unsubscribe shows a page when it is opened, and acts when posted.
func TestUnsubscribe(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	id := w.send("acme-secret", "acme", map[string]any{"stream": "broadcast"})
	link := "/u/" + w.tokens.Unsubscribe(id, 0)
	listed := func() int {
		return len(into[struct{ Items []any }](t, w.get("acme-secret", "/v1/suppressions").want(t, 200)).Items)
	}
	page := w.get("", link).want(t, 200)
	if !bytes.Contains(page.body, []byte("<form")) || !bytes.Contains(page.body, []byte("guest@elsewhere.example")) || listed() != 0 {
		t.Errorf("%d listed after a GET: %s", listed(), page)
	}
	done := w.do(request{method: "POST", path: link, body: "List-Unsubscribe=One-Click", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}).want(t, 200)
	if !bytes.Contains(done.body, []byte("Done")) || listed() != 1 {
		t.Errorf("%d listed after a POST: %s", listed(), done)
	}
	w.do(request{method: "POST", path: link}).want(t, 200)
	if listed() != 1 {
		t.Errorf("twice is not once: %d", listed())
	}
	forged := []byte(link)
	forged[len(forged)-5] ^= 1
	for _, bad := range []string{"/u/x", string(forged), "/u/" + w.tokens.Unsubscribe(w.unknown("acme"), 0), "/u/" + w.tokens.Unsubscribe(id, 9)} {
		if a := w.do(request{method: "POST", path: bad}); a.status != 404 || !bytes.Contains(a.body, []byte("not valid")) {
			t.Errorf("%s: %s", bad, a)
		}
	}
}
