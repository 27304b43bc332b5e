package load

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// text is a body of lines of words, of so many octets.
func text(octets int) []byte {
	words := strings.Fields("invoice payment received thank you for your order the attached statement shows balance due account service delivery tracking update please contact support regards team report summary total amount period review")
	b := make([]byte, 0, octets+80)
	for i := 0; len(b) < octets; {
		line := len(b)
		for len(b)-line < 64 {
			b = append(append(b, words[(i*7+i/11)%len(words)]...), ' ')
			i++
		}
		b = append(b, '\r', '\n')
	}
	b = b[:max(octets-2, 0)]
	for i := range b[max(0, len(b)-2):] { // no half line end
		b[len(b)-1-i] = 'x'
	}
	return append(b, '\r', '\n')
}

// mark stands where the number of a message goes; as many digits follow it.
const mark = "00000000"

// head is a header whose numbers are put in place, as nothing else differs
// between the messages of a session.
type head struct {
	b  []byte
	at []int // where the number goes
}

func newHead(from, run string, now time.Time) head {
	domain := from[strings.LastIndexByte(from, '@')+1:]
	b := []byte("Date: " + now.Format(time.RFC1123Z) + "\r\nFrom: Billing <" + from + ">\r\nTo: A Customer <customer@rcpt.test>\r\nReply-To: replies@" + domain + "\r\n" +
		"Subject: Your statement is ready\r\nMessage-ID: <" + run + "." + mark + "@bench.test>\r\nList-Unsubscribe: <https://" + domain + "/u/" + run + "/" + mark + ">\r\n" +
		"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n")
	h := head{b: b}
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(mark))
		if i < 0 {
			return h
		}
		h.at = append(h.at, from+i)
		from += i + len(mark)
	}
}

// number makes it the header of message i.
func (h head) number(i int) {
	for _, at := range h.at {
		for k, n := len(mark)-1, i; k >= 0; k, n = k-1, n/10 {
			h.b[at+k] = byte('0' + n%10)
		}
	}
}

// FewRecipients is one of 200 recipients. There are few of them, for who mails
// thousands of new people at once is taken for a thief.
func FewRecipients(b []byte, i, _ int) []byte {
	return append(strconv.AppendInt(append(b, 'u'), int64(i%200), 10), "@rcpt.test"...)
}
