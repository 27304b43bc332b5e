package scan

import (
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-message"

	"behalf/mail/header"
)

// FirstText gives up to most octets of the first text of a message, decoded.
// Broken MIME and a message without text give what can be had, be it nothing;
// errors are those of r.
func FirstText(r io.Reader, most int) ([]byte, error) {
	src := &source{r: r}
	e, err := message.ReadWithOptions(src, &message.ReadOptions{MaxHeaderBytes: header.MaxBytes})
	if e == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return nil, src.err
	}
	text, _ := firstText(e, most, 0)
	return text, src.err
}

// firstText looks into a part; ok is false when there is no text in it.
func firstText(e *message.Entity, most, depth int) (text []byte, ok bool) {
	media, _ := header.ContentType(e.Header.Get("Content-Type"))
	parts := e.MultipartReader()
	if parts == nil {
		if media != "" && !strings.HasPrefix(media, "text/") {
			return nil, false
		}
		text, _ = io.ReadAll(io.LimitReader(e.Body, int64(most)))
		return text, true
	}
	for range maxDepth {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) || p == nil || depth > maxDepth {
			break
		}
		if text, ok = firstText(p, most, depth+1); ok {
			return text, true
		}
	}
	return nil, false
}
