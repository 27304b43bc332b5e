package mem_test

import (
	"testing"

	"behalf/internal/kv"
	"behalf/internal/kv/kvtest"
	"behalf/internal/kv/mem"
)

func TestConformance(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Store { return mem.New(mem.Options{}) })
}
