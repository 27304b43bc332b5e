package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"behalf/mail"
	"behalf/web/api"
)

// writeTrace tells a message's story for people.
func writeTrace(w io.Writer, raw json.RawMessage) error {
	var m api.Message
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "message %s  tenant %s  stream %s\n  %s: %s\n  Message-ID %s, %d octets\n", m.ID, m.Tenant, m.Stream, clean(m.From), clean(m.Subject), clean(m.MessageID), m.Size)
	for _, e := range m.Events {
		traceEvent(&b, &m, e)
	}
	for _, r := range m.Recipients {
		fmt.Fprintf(&b, "%-12s %s", r.State, r.Address)
		if !r.Next.IsZero() {
			fmt.Fprintf(&b, ", next %s", r.Next.Local().Format(time.DateTime))
		}
		if r.Reason != "" {
			fmt.Fprintf(&b, " (%s)", clean(r.Reason))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func traceEvent(b *strings.Builder, m *api.Message, e mail.Event) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(b, "%s  %-10s %s\n", e.At.Local().Format("15:04:05.000"), clean(what), clean(fmt.Sprintf(format, args...)))
	}
	switch {
	case e.Accepted != nil:
		traceAcceptance(line, m, e.Accepted)
	case e.Attempt != nil:
		traceAttempt(line, m, e)
	case e.Limit != nil:
		traceLimit(line, e.Limit)
	default:
		text := recipientsOf(m, e.Recipients)
		if e.Actor != "" {
			text += " by " + e.Actor
		}
		if !e.Next.IsZero() && (e.Type == mail.EventHeld || e.Type == mail.EventPaced) {
			text += ", until " + e.Next.Local().Format(time.DateTime)
		}
		if e.Reason != "" {
			text += ": " + e.Reason
		}
		if e.Related != "" {
			text += " (" + e.Related + ")"
		}
		line(strings.TrimPrefix(string(e.Type), "message."), "%s", text)
	}
}

// traceLimit shows a threshold of a limit. How much of a limit is used that the
// tenant shares with others is known only to an administrator.
func traceLimit(line func(string, string, ...any), l *mail.LimitEvent) {
	if l.Shared && l.Used == 0 {
		line("limit", "%s: reached; it is shared with others", l.Rule)
		return
	}
	line("limit", "%s: %d of %d %s used, first to pass %d %%", l.Rule, l.Used, l.Allowed, l.Count, l.Percent)
}

func traceAcceptance(line func(string, string, ...any), m *api.Message, a *mail.Acceptance) {
	over := "without TLS"
	if a.TLS != "" {
		over = a.TLS
	}
	who := m.Credential
	if who == "" {
		who = "the relay itself"
	}
	line("accepted", "by %s from %s (%s), MAIL FROM <%s>, %d recipients, %s", m.Door, who, a.Client, m.MailFrom, len(m.Recipients), over)
	for _, r := range a.Policy {
		traceRuling(line, &r)
	}
	for _, c := range a.Choices {
		mark := "no "
		if c.Holds {
			mark = "yes"
		}
		if c.Chosen {
			mark = "->"
		}
		line("method", "%-3s %s through %s: %s", mark, c.Method, c.Upstream, c.Why)
	}
	if a.Alignment.From != "" {
		line("expected", "From %s: SPF %s; DKIM %s; DMARC %s", a.Alignment.From, a.Alignment.SPF, a.Alignment.DKIM, a.Alignment.DMARC)
	}
}

// traceRuling shows what a stage of policy came to, and what its rules said
// besides.
func traceRuling(line func(string, string, ...any), r *mail.Ruling) {
	line("policy", "%s: %s", strings.TrimPrefix(r.Package, "behalf."), strings.TrimSpace(r.Decision+" "+strings.Join(r.Rules, ", ")+" "+about(r.About)))
	if r.Detail != "" {
		line("", "detail: %s", r.Detail)
	}
	if len(r.Tags) > 0 {
		line("", "tags: %s", strings.Join(r.Tags, ", "))
	}
	for _, e := range r.Rewrites {
		line("", "rewrite: %s", e)
	}
	for _, w := range r.Warnings {
		line("", "warning: %s", w)
	}
}

func traceAttempt(line func(string, string, ...any), m *api.Message, e mail.Event) {
	a := e.Attempt
	what := strings.TrimPrefix(string(e.Type), "message.")
	line(what, "%s", recipientsOf(m, e.Recipients))
	more := func(format string, args ...any) { line("", format, args...) }
	more("through %s, method %s, host %s [%s], %s", a.Upstream, a.Method, orDash(a.Host), orDash(a.Addr), orText(a.TLS, "no TLS"))
	for _, s := range a.Signed {
		more("signed %s", s)
	}
	if a.From != "" {
		more("MAIL FROM <%s>", a.From)
	}
	if a.Reply != "" {
		more("%s", strconv.Quote(a.Reply)+" after "+a.Took.Round(time.Millisecond).String())
	}
	if a.Failure != nil {
		more("%d %s %s (%s, %s)", a.Failure.Code, a.Failure.Enhanced, a.Failure.Text, a.Failure.Scope, a.Failure.Reason)
	}
	if !e.Next.IsZero() {
		more("next try at %s", e.Next.Local().Format(time.DateTime))
	}
}

func about(recipient string) string {
	if recipient == "" {
		return ""
	}
	return "for " + recipient
}

func orDash(s string) string { return orText(s, "-") }

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func recipientsOf(m *api.Message, idx []int) string {
	if len(idx) == 0 {
		return "all recipients"
	}
	var out []string
	for _, i := range idx {
		if i < len(m.Recipients) {
			out = append(out, m.Recipients[i].Address)
		}
	}
	return strings.Join(out, ", ")
}
