package relay

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what intake does. A nil *Metrics counts nothing.
type Metrics struct {
	accepted prometheus.Counter
	refused  *prometheus.CounterVec
}

// NewMetrics registers the counters.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: "behalf_messages_accepted_total", Help: "Messages that are on stable storage and were answered 250 or 202."}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "behalf_policy_refusals_total", Help: "Refusals by the admin's policy."}, []string{"package", "code"}),
	}
	reg.MustRegister(m.accepted, m.refused)
	return m
}

func (m *Metrics) rejected(pkg string, code int) {
	if m != nil {
		m.refused.WithLabelValues(pkg, strconv.Itoa(code)).Inc()
	}
}

func (m *Metrics) took() {
	if m != nil {
		m.accepted.Inc()
	}
}
