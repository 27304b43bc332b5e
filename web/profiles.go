package web

import (
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"

	"github.com/go-chi/chi/v5"

	"behalf/tenant"
)

// longestProfile bounds what one request may have measured, in seconds.
const longestProfile = 120

// Profiles serves what the Go runtime tells of the process below /debug/pprof/,
// to administrators alone: names of functions with what they cost, and no data.
func Profiles(r chi.Router, a *Auth, log *slog.Logger) {
	r.Route("/debug/pprof", func(r chi.Router) {
		r.Use(a.Required(), administrators(log))
		r.Get("/profile", measured(pprof.Profile))
		r.Get("/trace", measured(pprof.Trace))
		for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
			r.Method(http.MethodGet, "/"+name, measured(pprof.Handler(name).ServeHTTP))
		}
	})
}

// administrators lets nobody else through.
func administrators(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c := CallerOf(r.Context()); c == nil || !c.Admin {
				Error(w, r, log, tenant.ErrNotFound)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// measured refuses what would take too long.
func measured(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s := r.FormValue("seconds"); s != "" {
			if n, err := strconv.Atoi(s); err != nil || n < 1 || n > longestProfile {
				Problem{Title: http.StatusText(http.StatusBadRequest), Status: http.StatusBadRequest,
					Detail: "seconds must be a whole number from 1 to " + strconv.Itoa(longestProfile)}.write(w)
				return
			}
		}
		h(w, r)
	}
}
