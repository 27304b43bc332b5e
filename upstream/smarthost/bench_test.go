package smarthost

import (
	"bufio"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"behalf/upstream/upstreamtest"
)

// BenchmarkPooled sends 4 KiB and 64 KiB messages through one kept session to a
// server that only answers. cpu-us/op counts both ends.
func BenchmarkPooled(b *testing.B) {
	for name, size := range map[string]int{"4KiB": 4 << 10, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			go sink(ln)
			u := open(b, Config{Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port, Security: "none"})
			line := strings.Repeat("x", 70) + "\r\n"
			m := &upstreamtest.Mail{Data: upstreamtest.Content + strings.Repeat(line, size/len(line))}
			j := upstreamtest.Job(m, "1@b.test")
			b.SetBytes(m.Size())
			b.ReportAllocs()
			began := cpu()
			for b.Loop() {
				if f := u.Deliver(b.Context(), j)[0].Failure; f != nil {
					b.Fatal(f)
				}
			}
			b.ReportMetric(float64((cpu()-began).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sink answers as a server would and looks at nothing.
func sink(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReaderSize(c, 64<<10)
			io.WriteString(c, "220 sink.test\r\n")
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				switch string(line[:4]) {
				case "EHLO":
					io.WriteString(c, "250-sink.test\r\n250-8BITMIME\r\n250-SIZE 99999999\r\n250-DSN\r\n250 PIPELINING\r\n")
				case "DATA":
					io.WriteString(c, "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n")
					for string(line) != ".\r\n" {
						if line, err = r.ReadSlice('\n'); err != nil {
							return
						}
					}
					io.WriteString(c, "250 2.0.0 taken\r\n")
				case "QUIT":
					return
				}
			}
		}()
	}
}
