package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"behalf/spool"
)

// maxLag is how many events a follower may be behind before the relay says it
// is not ready.
const maxLag = 100_000

// health adds /healthz, which says that the process answers, and /readyz, which
// says whether it can take mail, and if not, why.
func (s *server) health(r chi.Router) {
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the prober is gone if this fails
	})
	r.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons, warnings := s.notReady()
		w.Header().Set("Content-Type", "application/json")
		if len(reasons) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ready": len(reasons) == 0, "reasons": reasons, "warnings": warnings}) // likewise
	})
}

// notReady tells why no mail should come here, and what else is wrong.
func (s *server) notReady() (reasons, warnings []string) {
	reasons, warnings = []string{}, []string{}
	if s.disk.Full() {
		reasons = append(reasons, fmt.Sprintf("disk: %d MiB free, less than the reserve of %d MiB", s.disk.Free()>>20, s.disk.Reserve()>>20))
	}
	select {
	case <-s.store.Failed():
		reasons = append(reasons, "store: a commit failed; the process ends and recovers")
	default:
	}
	why, also := s.policy.Status().Health()
	reasons, warnings = append(reasons, why...), append(warnings, also...)
	if lag := s.notices.Lag(); lag > maxLag {
		reasons = append(reasons, fmt.Sprintf("notices: %d events behind", lag))
	}
	return reasons, warnings
}

// spoolCollector reads the gauges of the queue when they are scraped.
type spoolCollector struct {
	spool               *spool.Spool
	lag                 func() uint64
	messages, oldest, d *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *spoolCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.messages
	ch <- c.oldest
	ch <- c.d
}

// Collect implements prometheus.Collector.
func (c *spoolCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.spool.Stats()
	for state, n := range st.Recipients {
		ch <- prometheus.MustNewConstMetric(c.messages, prometheus.GaugeValue, float64(n), string(state))
	}
	var age float64
	if !st.Oldest.IsZero() {
		age = max(0, time.Since(st.Oldest).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, age)
	ch <- prometheus.MustNewConstMetric(c.d, prometheus.GaugeValue, float64(c.lag()), "notice")
}
