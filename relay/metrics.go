package relay

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"behalf/mail"
)

// Metrics count what intake does. A nil *Metrics counts nothing.
type Metrics struct {
	accepted   prometheus.Counter
	signatures prometheus.Counter
	unusual    prometheus.Counter
	warnings   *prometheus.CounterVec
	// Rejected counts refusals by stage and code; the SMTP doors, which refuse
	// commands that never come here, count in it too.
	Rejected *prometheus.CounterVec
}

// NewMetrics registers the counters.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: "behalf_messages_accepted_total", Help: "Messages that are on stable storage and were answered 250 or 202."}),
		Rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "behalf_messages_rejected_total", Help: "Refusals by stage (connect, auth, mail, rcpt, data, http) and SMTP code."}, []string{"stage", "code"}),
	}
	m.unusual = prometheus.NewCounter(prometheus.CounterOpts{Name: "behalf_unusual_held_total", Help: "Messages that were held, in whole or in part, because they were unusual for their credential."})
	m.signatures = prometheus.NewCounter(prometheus.CounterOpts{Name: "behalf_dkim_signatures_total", Help: "DKIM signatures computed."})
	m.warnings = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "behalf_limit_warnings_total", Help: "Limits of which 75, 90 or 100 percent were used, once a window each."}, []string{"percent"})
	reg.MustRegister(m.unusual, m.accepted, m.Rejected, m.signatures, m.warnings)
	return m
}

// refused counts a request that was refused at the HTTP door.
func (m *Metrics) refused(err error) {
	if m != nil && err != nil {
		m.Rejected.WithLabelValues("http", strconv.Itoa(mail.AsFailure(err).Code)).Inc()
	}
}

func (m *Metrics) signed(n int) {
	if m != nil {
		m.signatures.Add(float64(n))
	}
}

func (m *Metrics) warnedOfLimit(percent int) {
	if m != nil {
		m.warnings.WithLabelValues(strconv.Itoa(percent)).Inc()
	}
}

func (m *Metrics) took() {
	if m != nil {
		m.accepted.Inc()
	}
}

func (m *Metrics) heldAsUnusual() {
	if m != nil {
		m.unusual.Inc()
	}
}
