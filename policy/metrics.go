package policy

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the engine's, their labels resolved beforehand.
type metrics struct {
	duration  [stageCount]prometheus.Observer
	decisions [stageCount][len(actionNames)]prometheus.Counter
	errors    [stageCount]prometheus.Counter
	limits    [stageCount]prometheus.Counter
	stale     prometheus.Gauge
	bundles   *prometheus.CounterVec
	shadow    [stageCount][len(shadowResults)]prometheus.Counter
}

// What became of a question that a draft was to be tried on.
const (
	shadowSame = iota
	shadowDiffers
	shadowError
	shadowDropped
)

var shadowResults = [...]string{shadowSame: "same", shadowDiffers: "differs", shadowError: "error", shadowDropped: "dropped"}

// newMetrics registers the metrics; r may be nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "behalf_policy_duration_seconds", Help: "Time that one evaluation took.",
		Buckets: []float64{10e-6, 20e-6, 40e-6, 80e-6, 160e-6, 320e-6, 1e-3, 5e-3, 25e-3, 100e-3},
	}, []string{"package"})
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "behalf_policy_decisions_total", Help: "Decisions by outcome; error means that there was none and the client was told to come back; limit counts, besides what the rules said, those that a limit then refused.",
	}, []string{"package", "decision"})
	m := &metrics{stale: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "behalf_policy_stale", Help: "1 while the policy folder holds a set that could not be loaded and an older one is in force.",
	})}
	shadow := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "behalf_policy_shadow_total", Help: "Questions that a draft was tried on, by how its answer compares to that of the set in force.",
	}, []string{"stage", "result"})
	m.bundles = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "behalf_policy_bundle_polls_total", Help: "Polls of policy bundles: ok, refused (fetched and not to be used), failed (not fetched).",
	}, []string{"bundle", "result"})
	if r != nil {
		for _, c := range []prometheus.Collector{duration, decisions, m.stale, shadow, m.bundles} {
			if err := r.Register(c); err != nil {
				return nil, err
			}
		}
	}
	for i, s := range stages() {
		m.duration[i] = duration.WithLabelValues(s.name)
		for a, name := range actionNames {
			m.decisions[i][a] = decisions.WithLabelValues(s.name, name)
		}
		m.errors[i] = decisions.WithLabelValues(s.name, "error")
		m.limits[i] = decisions.WithLabelValues(s.name, "limit")
		for k, result := range shadowResults {
			m.shadow[i][k] = shadow.WithLabelValues(s.name, result)
		}
	}
	return m, nil
}

func (m *metrics) shadowed(stage, result int) { m.shadow[stage][result].Inc() }

// polled counts a poll of a bundle.
func (m *metrics) polled(bundle string, err error) {
	result := "ok"
	if errors.Is(err, errRefused) {
		result = "refused"
	} else if err != nil {
		result = "failed"
	}
	m.bundles.WithLabelValues(bundle, result).Inc()
}

// The four below do nothing without metrics.

func (m *metrics) took(stage int, d time.Duration) {
	if m != nil {
		m.duration[stage].Observe(d.Seconds())
	}
}

func (m *metrics) decided(stage int, a Action) {
	if m != nil {
		m.decisions[stage][a].Inc()
	}
}

func (m *metrics) failed(stage int) {
	if m != nil {
		m.errors[stage].Inc()
	}
}

func (m *metrics) limited(stage int) {
	if m != nil && stage >= 0 {
		m.limits[stage].Inc()
	}
}
