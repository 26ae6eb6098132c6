package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// USER_HZ, in which /proc counts CPU time: 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// A service is settled when it was nearly idle for some windows in a row: one it may have spent
// waiting for a core that others use. quietMost is a share of a core.
const (
	quietWindow  = 150 * time.Millisecond
	quietWindows = 3
	quietMost    = 0.1
	settleLimit  = 20 * time.Second
)

// PIDs is a list of process IDs, as a flag.
type PIDs []int

func (p *PIDs) String() string { return fmt.Sprint([]int(*p)) }

// Set reads IDs with commas between them.
func (p *PIDs) Set(text string) error {
	for _, field := range strings.Split(text, ",") {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		*p = append(*p, pid)
	}
	return nil
}

// Processes are those whose use of the machine is accounted for.
type Processes struct{ service, redis PIDs }

// Phase is one stretch of work and what it took. CPU times are user and system, in seconds.
type Phase struct {
	Units        int     `json:"units"`
	TookS        float64 `json:"took_s"`
	ServiceCPUS  float64 `json:"service_cpu_s"`
	RedisCPUS    float64 `json:"redis_cpu_s"`
	LoadCPUS     float64 `json:"load_cpu_s"`
	ServiceBytes int64   `json:"service_rss_bytes"` // at its end
}

type meter struct {
	processes            *Processes
	start                time.Time
	service, redis, load float64
}

func (p *Processes) begin() *meter {
	return &meter{p, time.Now(), p.service.cpu(), p.redis.cpu(), ownCPU()}
}

// end is the phase so far, in which so many units of work were done.
func (m *meter) end(units int) Phase {
	return Phase{
		units, time.Since(m.start).Seconds(), m.processes.service.cpu() - m.service,
		m.processes.redis.cpu() - m.redis, ownCPU() - m.load, m.processes.service.rss(),
	}
}

// settle waits until the service has nothing left to do; it returns false if that takes too long.
func (p *Processes) settle() bool {
	deadline, quiet := time.Now().Add(settleLimit), 0
	for before := p.service.cpu(); quiet < quietWindows; quiet++ {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(quietWindow)
		now := p.service.cpu()
		if now-before > quietMost*quietWindow.Seconds()*float64(len(p.service)) {
			quiet = -1
		}
		before = now
	}
	return true
}

// cpu is what the processes have used so far, in seconds; one that has ended counts as nothing.
func (p PIDs) cpu() float64 {
	ticks := 0
	for _, pid := range p {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// Fields are counted after the name, which may contain spaces: the first is the state.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, field := range fields[11:13] {
			used, _ := strconv.Atoi(string(field))
			ticks += used
		}
	}
	return float64(ticks) / ticksPerSecond
}

// rss is the memory of the processes that is not on disk or swapped out, in bytes.
func (p PIDs) rss() int64 {
	pages := int64(0)
	for _, pid := range p {
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue
		}
		resident, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
		pages += resident
	}
	return pages * int64(os.Getpagesize())
}

func ownCPU() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
