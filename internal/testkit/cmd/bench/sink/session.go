package sink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
)

const (
	greeting = "220 sink.test ESMTP\r\n"
	hello    = "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 104857600\r\n"
)

// session speaks just enough SMTP for a relay; replies to a burst of commands go
// out together.
func (s *Sink) session(c net.Conn, mode Mode) {
	r, w := bufio.NewReaderSize(c, 32<<10), bufio.NewWriterSize(c, 1<<10)
	if mode == Hangs {
		_, _ = io.Copy(io.Discard, c) // until it is closed
		return
	}
	reply := func(text string) { _, _ = w.WriteString(text) } // Flush tells of it
	reply(greeting)
	recipients := 0
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch line[0] | 0x20 {
		case 'e': // EHLO
			reply(hello)
		case 'q': // QUIT
			reply("221 2.0.0 bye\r\n")
			_ = w.Flush() // the other side may have gone
			return
		case 'r': // RCPT, RSET
			switch {
			case line[1]|0x20 == 's':
				recipients = 0
				reply("250 2.0.0 ok\r\n")
			case mode == Defers:
				reply("451 4.3.2 not now\r\n")
			default:
				recipients++
				reply("250 2.1.5 ok\r\n")
			}
		case 'd': // DATA
			if recipients == 0 {
				reply("503 5.5.1 no recipients\r\n")
				continue
			}
			reply("354 go ahead\r\n")
			if w.Flush() != nil || s.message(r, recipients) != nil {
				return
			}
			recipients = 0
			reply("250 2.0.0 taken\r\n")
		default:
			reply("250 2.0.0 ok\r\n")
		}
	}
}

// message reads up to the final dot and notes the message.
func (s *Sink) message(r *bufio.Reader, recipients int) error {
	id, signed, err := readHeader(r)
	if err != nil {
		return err
	}
	if err := skipBody(r); err != nil {
		return err
	}
	s.arrivals.took(id, recipients, signed)
	return nil
}

// readHeader gives the Message-ID, and whether there is a DKIM signature.
func readHeader(r *bufio.Reader) (id []byte, signed bool, err error) {
	whole := true
	for {
		line, err := r.ReadSlice('\n')
		begins := whole
		whole = err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, false, err
		}
		if !begins {
			continue
		}
		if len(line) == 2 {
			return id, signed, nil
		}
		switch line[0] | 0x20 {
		case 'm':
			if value, ok := field(line, "Message-ID:"); ok {
				id = append(id[:0], bytes.Trim(value, " \t\r\n<>")...)
			}
		case 'd':
			if _, ok := field(line, "DKIM-Signature:"); ok {
				signed = true
			}
		}
	}
}

func field(line []byte, name string) (value []byte, ok bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return line[len(name):], true
}

// skipBody reads the rest of a message, whose header has been read.
func skipBody(r *bufio.Reader) error {
	end := []byte("\r\n.\r\n")
	if b, err := r.Peek(3); err != nil || string(b) == ".\r\n" {
		_, _ = r.Discard(3)
		return err
	}
	for {
		if _, err := r.Peek(len(end)); err != nil {
			return err
		}
		b, err := r.Peek(r.Buffered())
		if err != nil {
			return err
		}
		if i := bytes.Index(b, end); i >= 0 {
			_, err = r.Discard(i + len(end))
			return err
		}
		if _, err := r.Discard(len(b) - len(end) + 1); err != nil { // the end may have begun
			return err
		}
	}
}
