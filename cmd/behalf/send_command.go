package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"behalf/mail/header"
	"behalf/web/api"
)

func sendCommand(f *clientFlags) *cobra.Command {
	var d api.Draft
	var to, cc, bcc, attach, heads []string
	var key, sendAt string
	c := &cobra.Command{
		Use: "send --from ADDRESS --to ADDRESS [--text TEXT]", Short: "Submit a message", Args: noArgs,
		Long: "Submit a message in parts. Without --text and --html the text is read from the standard input.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.From == "" || len(to)+len(cc)+len(bcc) == 0 {
				return usageError{errors.New("say who sends it to whom: --from ADDRESS --to ADDRESS")}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			d.To, d.Cc, d.Bcc = to, cc, bcc
			if d.Text == "" && d.HTML == "" {
				b, err := io.ReadAll(cmd.InOrStdin())
				if err != nil {
					return fmt.Errorf("reading the text: %w", err)
				}
				d.Text = string(b)
			}
			if sendAt != "" {
				if d.SendAt, err = time.Parse(time.RFC3339, sendAt); err != nil {
					return usageError{fmt.Errorf("--at %s: want a time such as 2027-01-31T08:00:00Z", sendAt)}
				}
			}
			if d.Headers, err = pairs(heads); err != nil {
				return err
			}
			for _, file := range attach {
				b, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("reading an attachment: %w", err)
				}
				d.Attachments = append(d.Attachments, api.Attachment{Filename: filepath.Base(file), ContentType: mime.TypeByExtension(filepath.Ext(file)), Content: base64.StdEncoding.EncodeToString(b)})
			}
			b, err := json.Marshal(d)
			if err != nil {
				return err
			}
			h := http.Header{"Content-Type": {"application/json"}}
			if key != "" {
				h.Set("Idempotency-Key", key)
			}
			return submit(cmd, client, nil, bytes.NewReader(b), h, false)
		},
	}
	fl := c.Flags()
	fl.StringVar(&d.From, "from", "", "mailbox, e.g. 'Acme <support@acme.example>'")
	fl.StringArrayVar(&to, "to", nil, "recipient; may be repeated")
	fl.StringArrayVar(&cc, "cc", nil, "recipient; may be repeated")
	fl.StringArrayVar(&bcc, "bcc", nil, "recipient that the others do not see; may be repeated")
	fl.StringVar(&d.Subject, "subject", "", "subject")
	fl.StringVar(&d.Text, "text", "", "text")
	fl.StringVar(&d.HTML, "html", "", "HTML")
	fl.StringArrayVar(&attach, "attach", nil, "`FILE` to attach; may be repeated")
	fl.StringArrayVar(&heads, "header", nil, "`NAME:VALUE` of a further header field; may be repeated")
	fl.StringVar(&d.Tenant, "tenant", "", "for this `TENANT`")
	fl.StringVar(&d.Stream, "stream", "", "transactional, broadcast, or a name of the tenant's own")
	fl.StringVar(&d.Tag, "tag", "", "tag")
	fl.StringVar(&sendAt, "at", "", "not before this `TIME` (RFC 3339)")
	fl.StringSliceVar(&d.Route, "route", nil, "`UPSTREAMS` to try instead of the tenant's route")
	fl.StringVar((*string)(&d.Method), "method", "", "only this `METHOD`: domain, connection, address or name")
	fl.StringVar(&key, "idempotency-key", "", "the same key gives the same message for 24 hours")
	return c
}

func pairs(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		k, v, ok := strings.Cut(s, ":")
		if !ok {
			return nil, usageError{fmt.Errorf("--header %s: want NAME:VALUE", s)}
		}
		out[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return out, nil
}

func submit(cmd *cobra.Command, c *client, q url.Values, body io.Reader, h http.Header, quiet bool) error {
	resp, err := c.do(cmd.Context(), http.MethodPost, "/v1/messages", q, body, h)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var got api.Accepted
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	for _, w := range got.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+clean(w))
	}
	for _, r := range got.Refused {
		fmt.Fprintf(cmd.ErrOrStderr(), "refused %s: %s\n", r.Address, clean(r.Failure.Text))
	}
	if !quiet {
		fmt.Fprintf(cmd.OutOrStdout(), "queued as %s\n", got.ID)
	}
	if len(got.Refused) > 0 {
		return errors.New("some recipients were refused")
	}
	return nil
}

// sendmailCommand is the program that other programs expect as sendmail: it
// reads a message and hands it over.
func sendmailCommand() *cobra.Command {
	f := &clientFlags{}
	var fromHeader, ignoreDots bool
	var from, mode string
	var options []string
	c := &cobra.Command{
		Use: "sendmail [-t] [-i] [-f ADDRESS] [RECIPIENT]…", Short: "Submit the message on the standard input",
		SilenceUsage: true, SilenceErrors: true,
		Long: "Submit the message on the standard input, in the way of other programs named sendmail. It prints nothing when all goes well.\n" +
			"The environment variables BEHALF_SERVER, BEHALF_KEY and BEHALF_TENANT say where, with which key and for whom.",
		RunE: func(cmd *cobra.Command, to []string) error {
			if mode != "m" {
				return usageError{fmt.Errorf("-b%s: only -bm, to submit a message, is known here", mode)}
			}
			ignoreDots = ignoreDots || slices.Contains(options, "i")
			client, err := f.client()
			if err != nil {
				return err
			}
			msg, err := readMail(cmd.InOrStdin(), ignoreDots)
			if err != nil {
				return err
			}
			if fromHeader {
				more, err := recipientsIn(msg)
				if err != nil {
					return err
				}
				to = append(to, more...)
			}
			if len(to) == 0 {
				return usageError{errors.New("name recipients, or take them from the header with -t")}
			}
			q := url.Values{"to": to}
			if from != "" {
				q.Set("from", from)
			}
			h := http.Header{"Content-Type": {"message/rfc822"}}
			if t := os.Getenv("BEHALF_TENANT"); t != "" {
				h.Set("Behalf-Tenant", t)
			}
			return submit(cmd, client, q, bytes.NewReader(msg), h, true)
		},
	}
	fl := c.Flags()
	fl.BoolVarP(&fromHeader, "read-recipients", "t", false, "take recipients from To, Cc and Bcc")
	fl.BoolVarP(&ignoreDots, "ignore-dots", "i", false, "a line with a single dot does not end the message")
	fl.StringVarP(&from, "from", "f", "", "envelope sender; <> for the null path")
	fl.StringVarP(&from, "sender", "r", "", "the same as -f")
	fl.StringVarP(&mode, "mode", "b", "m", "what to do; only m, to submit a message")
	fl.StringP("full-name", "F", "", "taken and not used: the message names its own author")
	fl.StringArrayVarP(&options, "option", "o", nil, "options of other programs, of which only i (as -oi) means anything here")
	fl.BoolP("verbose", "v", false, "taken and not used")
	f.add(c)
	c.SetFlagErrorFunc(badFlag)
	return c
}

// readMail reads to the end, or to a line with a single dot.
func readMail(r io.Reader, ignoreDots bool) ([]byte, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the message: %w", err)
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	if !ignoreDots {
		if i := bytes.Index(append([]byte{'\n'}, b...), []byte("\n.\n")); i >= 0 {
			b = b[:i]
		}
	}
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")), nil
}

// recipientsIn lists who the header names.
func recipientsIn(msg []byte) ([]string, error) {
	head := msg
	if i := bytes.Index(msg, []byte("\r\n\r\n")); i >= 0 {
		head = msg[:i+4]
	}
	h, err := header.Parse(head)
	if err != nil {
		return nil, err
	}
	var to []string
	for _, field := range []string{"To", "Cc", "Bcc"} {
		for _, x := range h.Fields(field) {
			list, err := header.ParseAddressList(x.Value())
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", field, err)
			}
			for _, m := range list {
				to = append(to, m.Address.String())
			}
		}
	}
	return to, nil
}
