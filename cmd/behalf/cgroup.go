package main

import (
	"os"
	"strconv"
	"strings"
)

// cgroupMemory is the memory that the control group (version 2 or 1) allows,
// in octets; 0 when there is no limit.
func cgroupMemory() int64 {
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && n < 1<<50 { // version 1 writes a huge number for none
			return n
		}
	}
	return 0
}
