package smtpclient

import (
	"strconv"
	"strings"
)

// Caps is what the server offered in answer to EHLO. Keywords count in any case.
type Caps struct {
	StartTLS     bool
	Pipelining   bool
	EightBitMIME bool
	SMTPUTF8     bool
	Chunking     bool
	BinaryMIME   bool
	DSN          bool
	RequireTLS   bool
	Size         int64    // 0: no limit stated
	MaxRcpt      int      // RCPTMAX of LIMITS (RFC 9422); 0: not stated
	Auth         []string // mechanisms, upper case
}

// parseCaps reads the lines of an EHLO reply, the first of which is a greeting.
func parseCaps(r Reply) Caps {
	var c Caps
	for _, line := range r.Lines()[1:] {
		word, args, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		if mechs, ok := strings.CutPrefix(word, "AUTH="); ok { // of before RFC 2554
			word, args = "AUTH", mechs+" "+args
		}
		switch word {
		case "STARTTLS":
			c.StartTLS = true
		case "PIPELINING":
			c.Pipelining = true
		case "8BITMIME":
			c.EightBitMIME = true
		case "SMTPUTF8":
			c.SMTPUTF8 = true
		case "CHUNKING":
			c.Chunking = true
		case "BINARYMIME":
			c.BinaryMIME = true
		case "DSN":
			c.DSN = true
		case "REQUIRETLS":
			c.RequireTLS = true
		case "SIZE":
			if n, err := strconv.ParseInt(strings.TrimSpace(args), 10, 64); err == nil && n > 0 {
				c.Size = n
			}
		case "LIMITS":
			for limit := range strings.FieldsSeq(args) {
				if v, ok := strings.CutPrefix(limit, "RCPTMAX="); ok {
					if n, err := strconv.Atoi(v); err == nil && n > 0 {
						c.MaxRcpt = n
					}
				}
			}
		case "AUTH":
			c.Auth = append(c.Auth, strings.Fields(args)...)
		}
	}
	c.BinaryMIME = c.BinaryMIME && c.Chunking // RFC 3030, section 3
	return c
}
