package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// stripped is the argument of this program when it has started itself again.
const stripped = "stripped"

var errCapable = errors.New("capabilities are left after they were dropped")

// hide leaves this process no rights that a fault in OpenSSL could use, and
// keeps the keys out of core dumps and from debuggers. When memory is short it
// ends before the relay, which can sign without it.
func hide(again bool) error {
	bare, err := isBare()
	switch {
	case err != nil:
		return err
	case !bare && again:
		return errCapable
	case !bare:
		return strip()
	}
	// Before the process is hidden: then the file is root's. A host may forbid it.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// isBare reports whether this thread, and so each since the start of the
// program, has no capabilities and can get none.
func isBare() (bool, error) {
	n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return false, fmt.Errorf("ask for no_new_privs: %w", err)
	}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0]); err != nil {
		return false, fmt.Errorf("ask for capabilities: %w", err)
	}
	return n == 1 && sets == [2]unix.CapUserData{}, nil
}

// strip drops all capabilities for good and starts the program again. They are
// those of a thread, and others run already; a new program has only this one's.
func strip() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	// The relay has set this for the first thread, which need not be this one.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the relay: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start again without capabilities: %w", err)
	}
	return fmt.Errorf("start again without capabilities: %w", unix.Exec(self, []string{self, stripped}, nil))
}
