package dispatch

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"behalf/mail"
)

// metrics are what dispatch tells Prometheus.
type metrics struct {
	deliveries *prometheus.CounterVec
	latency    prometheus.Histogram
	inFlight   prometheus.Gauge
	waiting    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "behalf_deliveries_total",
			Help: "Results of attempts, one a recipient.",
		}, []string{"upstream", "result"}),
		// 180 s is a bound of its own: the objective is read there.
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "behalf_delivery_latency_seconds",
			Help:    "From acceptance (or the time it was to be sent) to delivery, one a recipient.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 3600, 14400, 86400, 345600},
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "behalf_dispatch_jobs",
			Help: "Attempts under way, their settling included.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "behalf_dispatch_waiting",
			Help: "Attempts under way that only wait for a peer: they do not count as workers.",
		}),
	}
	if r != nil {
		r.MustRegister(m.deliveries, m.latency, m.inFlight, m.waiting)
	}
	return m
}

// delivery counts one result. Connections count together: their names are the
// tenants'.
func (m *metrics) delivery(u mail.UpstreamID, e mail.EventType) {
	kind, _, _ := strings.Cut(string(u), ":")
	m.deliveries.WithLabelValues(kind, strings.TrimPrefix(string(e), "message.")).Inc()
}
