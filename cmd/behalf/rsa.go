package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"behalf/mail/sign/aside"
)

// rsaProgram makes RSA signatures if it lies beside this program.
const rsaProgram = "behalf-rsa"

// rsaHelper is the program beside this one, links resolved. It need not be there.
func rsaHelper(log *slog.Logger) *aside.Helper {
	path := "" // which is refused: this program cannot tell where it is
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			path = filepath.Join(filepath.Dir(real), rsaProgram)
		}
	}
	return aside.New(path, aside.Options{Log: log})
}

// whatSigns names for people what makes RSA signatures on this host.
func whatSigns(ctx context.Context, h *aside.Helper) string {
	version, err := h.Version(ctx)
	if err != nil {
		return "Go (" + err.Error() + ")"
	}
	return version
}
