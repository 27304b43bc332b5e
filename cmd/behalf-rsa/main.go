// Command behalf-rsa makes RSA signatures for behalf with the OpenSSL of the
// host. Behalf starts it if it lies beside it, hands it keys by its standard
// input only, and ends it by closing that.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"behalf/internal/libcrypto"
	"behalf/mail/sign/aside"
)

func main() {
	again := len(os.Args) == 2 && os.Args[1] == stripped
	if len(os.Args) > 1 && !again {
		fmt.Fprintln(os.Stderr, "behalf-rsa takes no arguments: behalf starts it, to make RSA signatures with the host's OpenSSL")
		os.Exit(2)
	}
	// Whoever stops the relay by a signal to all of its processes wants the last
	// messages signed too. The end of the input is the end.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := aside.Serve(os.Stdin, os.Stdout, func() (aside.Library, error) { return open(again) }); err != nil {
		os.Exit(1) // told by the last frame, or by the end of frames
	}
}

func open(again bool) (aside.Library, error) {
	if err := hide(again); err != nil {
		return nil, err
	}
	l, err := libcrypto.Open(libcrypto.Soname)
	if err != nil {
		return nil, err
	}
	return library{l}, nil
}

// library is libcrypto as package aside wants it.
type library struct{ *libcrypto.Library }

func (l library) Key(der []byte) (aside.Key, error) { return l.Library.Key(der) }
