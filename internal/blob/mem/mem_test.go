package mem_test

import (
	"testing"

	"behalf/internal/blob"
	"behalf/internal/blob/blobtest"
	"behalf/internal/blob/mem"
)

func TestConformance(t *testing.T) {
	blobtest.Run(t, 0, func(*testing.T) blob.Store { return mem.New() })
}
