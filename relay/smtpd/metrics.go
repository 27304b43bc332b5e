package smtpd

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what doors count. Several doors share one Metrics; a nil one
// counts nothing.
type Metrics struct {
	Rejected     *prometheus.CounterVec // behalf_messages_rejected_total{stage,code}
	Sessions     prometheus.Gauge       // behalf_smtp_sessions
	AuthFailures *prometheus.CounterVec // behalf_smtp_auth_failures_total{mechanism}
}

// NewMetrics makes the metrics and registers them. rejected is the counter of
// refusals by stage and code, which other doors count in too.
func NewMetrics(reg prometheus.Registerer, rejected *prometheus.CounterVec) *Metrics {
	m := &Metrics{
		Rejected: rejected,
		Sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "behalf_smtp_sessions", Help: "SMTP submission sessions that are open.",
		}),
		AuthFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "behalf_smtp_auth_failures_total", Help: "SMTP logins that were refused, by SASL mechanism.",
		}, []string{"mechanism"}),
	}
	reg.MustRegister(m.Sessions, m.AuthFailures)
	return m
}

// The stages at which a client is refused, as behalf_messages_rejected_total
// names them.
const (
	stageConnect = "connect"
	stageAuth    = "auth"
	stageMail    = "mail"
	stageRcpt    = "rcpt"
	stageData    = "data"
)

func (m *Metrics) rejected(stage string, code int) {
	if m != nil && m.Rejected != nil {
		m.Rejected.WithLabelValues(stage, strconv.Itoa(code)).Inc()
	}
}

func (m *Metrics) session(n float64) {
	if m != nil {
		m.Sessions.Add(n)
	}
}

func (m *Metrics) authFailed(mechanism string) {
	if m != nil {
		m.AuthFailures.WithLabelValues(mechanism).Inc()
	}
}
