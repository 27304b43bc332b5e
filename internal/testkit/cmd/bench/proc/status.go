package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Memory is the resident memory of one process in MiB: all of it, that which no
// file is behind, and mapped files, whose pages the kernel takes back when it
// wants to.
type Memory struct {
	RSS  float64 `json:"rss_mib"`
	Anon float64 `json:"rss_anon_mib"`
	File float64 `json:"rss_file_mib"`
}

// State is what a process holds.
type State struct {
	Memory
	Peak        float64 `json:"rss_peak_mib"` // since the process started
	Threads     int     `json:"threads"`
	Descriptors int     `json:"descriptors"`
}

// Read tells what a process holds now.
func Read(pid int) (State, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	b, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return State{}, fmt.Errorf("reading the state of the process: %w", err)
	}
	s := parseStatus(b)
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return s, fmt.Errorf("counting the descriptors of the process: %w", err)
	}
	s.Descriptors = len(fds)
	return s, nil
}

// parseStatus reads lines as "RssAnon:	   1024 kB" (proc(5)).
func parseStatus(b []byte) State {
	value := map[string]float64{}
	for line := range bytes.Lines(b) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		if f := bytes.Fields(rest); len(f) > 0 {
			value[string(name)] = float64(number(f[0]))
		}
	}
	return State{Memory: Memory{RSS: value["VmRSS"] / 1024, Anon: value["RssAnon"] / 1024, File: (value["RssFile"] + value["RssShmem"]) / 1024}, Peak: value["VmHWM"] / 1024, Threads: int(value["Threads"])}
}

// Disk is how many MiB the files below dir take on the disk, as du counts them.
// Files that go meanwhile count nothing.
func Disk(dir string) (float64, error) {
	var blocks int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				blocks += info.Sys().(*syscall.Stat_t).Blocks
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measuring %s: %w", dir, err)
	}
	return float64(blocks) * 512 / (1 << 20), nil
}
