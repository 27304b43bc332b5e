package web

import (
	"crypto/tls"
	"strconv"

	"behalf/mail"
)

func retryAfter(f *mail.Failure) string {
	return strconv.Itoa(max(1, int(f.RetryAfter.Seconds())))
}

func tlsName(s *tls.ConnectionState) string {
	return tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
}
