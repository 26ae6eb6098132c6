package main

import (
	"slices"
	"time"
)

// ms are durations in milliseconds, to be summed up.
type ms []float64

func (m *ms) add(took time.Duration) { *m = append(*m, float64(took)/float64(time.Millisecond)) }

// into writes the median and the 99th percentile as values of that name.
func (m ms) into(values map[string]float64, name string) {
	if len(m) == 0 {
		return
	}
	slices.Sort(m)
	values[name+"_median_ms"] = m[len(m)/2]
	values[name+"_p99_ms"] = m[min(len(m)-1, len(m)*99/100)]
}
