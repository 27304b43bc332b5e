package tenant

import (
	"errors"
	"fmt"
	"strings"

	"behalf/internal/kv"
)

// Errors of the directory. They come wrapped; compare with errors.Is.
var (
	// ErrNotFound is returned for what does not exist, and for what exists but
	// is none of the caller's business.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned when the resource has another revision than the
	// caller thinks.
	ErrConflict = errors.New("changed meanwhile; read it again")
	// ErrForbidden is returned for what the caller can see but may not do.
	ErrForbidden = errors.New("not allowed")
	// ErrTaken is returned when another tenant has proved the domain.
	ErrTaken = errors.New("belongs to another tenant")
	// ErrAmbiguous is returned when several tenants have a resource of that
	// name and the caller named none of them.
	ErrAmbiguous = errors.New("several tenants have it; name the tenant")
	// ErrAuth is returned by every failed authentication. What it wraps is for
	// the log, not for the client.
	ErrAuth = errors.New("authentication failed")
)

// ValidationError lists what is wrong with a resource, field by field.
type ValidationError struct{ Fields []FieldError }

// FieldError is one fault.
type FieldError struct {
	Field   string `json:"field"` // as in the JSON, e.g. smtp.port
	Message string `json:"message"`
}

func (e *ValidationError) Error() string {
	s := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		s[i] = f.Field + ": " + f.Message
	}
	return strings.Join(s, "; ")
}

// faults gathers field errors.
type faults []FieldError

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, FieldError{field, fmt.Sprintf(format, args...)})
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &ValidationError{f}
}

// notFound reports whether err says that there is no such thing.
func notFound(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, kv.ErrNotFound) }
