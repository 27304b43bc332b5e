package badger

import (
	"fmt"
	"log/slog"
	"strings"
)

// logger takes Badger's warnings and errors; the rest is chatter, but for what
// the pacer goes by.
type logger struct {
	log  *slog.Logger
	pace *pacer
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("badger", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l logger) Warningf(format string, args ...any) {
	l.log.Warn("badger", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (logger) Infof(string, ...any) {}

func (l logger) Debugf(format string, args ...any) { l.pace.note(format, args) }
