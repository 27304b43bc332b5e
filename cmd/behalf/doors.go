package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"behalf/relay/replay"
	"behalf/relay/smtpd"
	"behalf/web"
	"behalf/web/api"
)

// listen binds all addresses of a door.
func listen(what string, addrs []string) ([]net.Listener, error) {
	var ls []net.Listener
	for _, a := range addrs {
		l, err := net.Listen("tcp", a)
		if err != nil {
			for _, open := range ls {
				_ = open.Close()
			}
			return nil, fmt.Errorf("listen.%s: %w", what, err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// openSMTP binds the submission doors.
func (s *server) openSMTP(context.Context) error {
	tlsConfig, own, err := serverTLS(s.c)
	if err != nil {
		return err
	}
	if own {
		s.log.Warn("speaking TLS with a self-signed certificate; set tls.cert and tls.key for clients to trust it")
	}
	metrics := smtpd.NewMetrics(s.reg, s.metrics.Rejected)
	for _, d := range []struct {
		what     string
		addrs    []string
		implicit bool
	}{{"submission", s.c.Listen.Submission, false}, {"submissions", s.c.Listen.Submissions, true}} {
		if len(d.addrs) == 0 {
			continue
		}
		srv, err := smtpd.New(s.intake, smtpd.Options{
			Hostname: s.c.Hostname, TLS: tlsConfig, Implicit: d.implicit,
			MaxSize: int64(s.c.Submission.MaxSize), MaxRecipients: s.c.Submission.MaxRecipients,
			MaxSessions: s.c.Submission.MaxSessions, MaxPerIP: s.c.Submission.MaxSessionsPerIP,
			TrustedProxies: s.c.Submission.Proxies, Shed: s.shed, Throttle: s.throttle, Log: s.log, Metrics: metrics,
		})
		if err != nil {
			return err
		}
		ls, err := listen(d.what, d.addrs)
		if err != nil {
			return err
		}
		for _, l := range ls {
			s.log.Info("listening", "door", d.what, "addr", l.Addr().String())
		}
		s.smtp = append(s.smtp, door{srv, ls})
		s.close = append(s.close, closeListeners(ls))
	}
	return nil
}

func closeListeners(ls []net.Listener) func() error {
	return func() error {
		for _, l := range ls {
			_ = l.Close() // closed already, unless nothing ever ran
		}
		return nil
	}
}

// openHTTP binds the API and the metrics, which share a door unless they have
// addresses of their own.
func (s *server) openHTTP(context.Context) error {
	r := web.NewRouter(s.log)
	auth := &web.Auth{AdminKey: s.adminKey, Intake: s.intake, Throttle: s.throttle, Log: s.log}
	api.Mount(r, api.Parts{
		Directory: s.directory, Checker: s.checker, Spool: s.spool, Store: s.store, Intake: s.intake, Dispatcher: s.dispatch, Policy: s.policy, Replay: &replay.Runner{Journal: s.journal},
		Auth: auth, MaxSize: int64(s.c.Submission.MaxSize), Log: s.log,
	}, version)
	web.Unsubscribe(r, s.intake, s.log)
	web.Profiles(r, auth, s.log)
	s.health(r)
	metrics := promhttp.HandlerFor(s.reg, promhttp.HandlerOpts{Registry: s.reg})
	if slices.Equal(s.c.Listen.HTTP, s.c.Listen.Metrics) {
		r.Handle("/metrics", metrics)
		return s.bindHTTP("http", s.c.Listen.HTTP, r)
	}
	m := web.NewRouter(s.log)
	m.Handle("/metrics", metrics)
	s.health(m)
	if err := s.bindHTTP("http", s.c.Listen.HTTP, r); err != nil {
		return err
	}
	return s.bindHTTP("metrics", s.c.Listen.Metrics, m)
}

func (s *server) bindHTTP(what string, addrs []string, h http.Handler) error {
	ls, err := listen(what, addrs)
	if err != nil {
		return err
	}
	s.close = append(s.close, closeListeners(ls))
	for _, l := range ls {
		s.log.Info("listening", "door", what, "addr", l.Addr().String())
		l = netutil.LimitListener(l, maxHTTP)
		s.http = append(s.http, &httpDoor{listener: l, server: &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Minute, WriteTimeout: 10 * time.Minute, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 64 << 10,
		}})
	}
	return nil
}

// maxHTTP bounds the connections of an HTTP door.
const maxHTTP = 4096

// run serves until ctx ends; requests under way get 30 seconds.
func (d *httpDoor) run(ctx context.Context) error {
	done := make(chan error, 1)
	d.server.BaseContext = func(net.Listener) context.Context { return ctx }
	go func() { done <- d.server.Serve(d.listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := d.server.Shutdown(grace)
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// gauges tell how the spool stands, from counts that it keeps anyway.
func (s *server) gauges() {
	s.reg.MustRegister(&spoolCollector{s.spool, s.notices.Lag,
		prometheus.NewDesc("behalf_queue_messages", "Recipients by state.", []string{"state"}, nil),
		prometheus.NewDesc("behalf_queue_oldest_seconds", "How long the oldest message has been due.", nil, nil),
		prometheus.NewDesc("behalf_follower_lag_events", "Events that a follower has not handled.", []string{"follower"}, nil),
	})
	for kind, sessions := range s.sessions {
		s.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "behalf_upstream_connections", Help: "Open SMTP sessions to next hops.",
			ConstLabels: prometheus.Labels{"upstream": kind}}, func() float64 { return float64(sessions()) }))
	}
	s.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "behalf_disk_free_bytes", Help: "Free space on the disk of the data folder."},
		func() float64 { return float64(s.disk.Free()) }))
}
