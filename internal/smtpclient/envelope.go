package smtpclient

import "strconv"

// envelope writes RSET if it is due, MAIL, RCPT and DATA to the buffer.
func (j *job) envelope(t *Transaction) {
	if j.c.dirty {
		j.c.out().WriteString("RSET\r\n")
	}
	j.mail(t)
	for i := range t.To {
		j.rcpt(&t.To[i])
	}
	if !j.env.Binary {
		j.c.out().WriteString("DATA\r\n")
	}
}

func (j *job) mail(t *Transaction) {
	w, caps := j.c.out(), &j.c.caps
	w.WriteString("MAIL FROM:")
	w.Write(t.From.AppendPath(w.AvailableBuffer()))
	if caps.Size > 0 {
		w.WriteString(" SIZE=")
		w.Write(strconv.AppendInt(w.AvailableBuffer(), j.m.Size(), 10))
	}
	switch {
	case j.env.Binary:
		w.WriteString(" BODY=BINARYMIME")
	case j.m.EightBit():
		w.WriteString(" BODY=8BITMIME")
	}
	if j.needsUTF8(t) {
		w.WriteString(" SMTPUTF8")
	}
	if j.env.RequireTLS {
		w.WriteString(" REQUIRETLS")
	}
	if caps.DSN {
		if j.env.Ret != "" {
			w.WriteString(" RET=")
			w.WriteString(string(j.env.Ret))
		}
		if j.env.EnvID != "" {
			w.WriteString(" ENVID=")
			w.WriteString(xtext(j.env.EnvID))
		}
	}
	w.WriteString("\r\n")
}

func (j *job) needsUTF8(t *Transaction) bool {
	if !j.c.caps.SMTPUTF8 {
		return false
	}
	utf8 := j.m.UTF8() || !t.From.ASCII()
	for i := range t.To {
		utf8 = utf8 || !t.To[i].To.ASCII()
	}
	return utf8
}

// rcpt always asks for reports of failure and delay, whatever the submitter
// wanted: they come back to our own return path.
func (j *job) rcpt(r *Rcpt) {
	w := j.c.out()
	w.WriteString("RCPT TO:")
	w.Write(r.To.AppendPath(w.AvailableBuffer()))
	if j.c.caps.DSN {
		w.WriteString(" NOTIFY=FAILURE,DELAY ORCPT=")
		w.WriteString(originalRcpt(r))
	}
	w.WriteString("\r\n")
}
