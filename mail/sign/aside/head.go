package aside

import (
	"strings"
	"sync"
)

// maxSaid is how much of what a child says is kept.
const maxSaid = 1024

// head keeps the beginning of what is written, and drops the rest.
type head struct {
	mu   sync.Mutex
	kept []byte
}

// Write implements io.Writer. It never fails.
func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, b[:min(len(b), maxSaid-len(h.kept))]...)
	return len(b), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(h.kept), "?"))
}
