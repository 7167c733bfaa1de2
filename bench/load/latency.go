package main

import (
	"fmt"
	"io"
	"sort"
	"sync"
	"time"
)

// latencies is what many requests come to.
type latencies struct {
	PerS   float64 `json:"per_s"`
	P50Ms  float64 `json:"p50_ms"`
	P99Ms  float64 `json:"p99_ms"`
	MaxMs  float64 `json:"max_ms"`
	Failed int     `json:"failed"`
	Count  int     `json:"count"`
	Reason string  `json:"reason,omitempty"`
}

const requestTimeout = 10 * time.Second

// record collects from many goroutines.
type record struct {
	lock   sync.Mutex
	took   []time.Duration
	failed int
	reason string
}

func (r *record) add(took time.Duration, err error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if err != nil {
		r.failed++
		r.reason = err.Error()
		return
	}
	r.took = append(r.took, took)
}

func (r *record) summary(seconds float64) latencies {
	sort.Slice(r.took, func(a, b int) bool { return r.took[a] < r.took[b] })
	found := latencies{Failed: r.failed, Count: len(r.took), Reason: r.reason}
	if len(r.took) > 0 {
		found.PerS = float64(len(r.took)) / seconds
		found.P50Ms, found.P99Ms, found.MaxMs = r.at(0.5), r.at(0.99), r.at(1)
	}
	return found
}

// at is the nearest-rank percentile.
func (r *record) at(share float64) float64 {
	rank := max(int(share*float64(len(r.took))+0.999999), 1)
	return float64(r.took[rank-1].Microseconds()) / 1000
}

// keepAlive sends requests on a schedule, `rate` a second over `streams` connections that are kept. A latency counts
// from the scheduled time, so that one late answer makes those behind it late too and hides nothing.
func keepAlive(given options) (any, error) {
	var all sync.WaitGroup
	var seen record
	deadline := time.Now().Add(given.limit() + requestTimeout)
	kept := make([]*connection, given.streams)
	for index := range kept {
		made, err := dial(given, deadline)
		if err != nil {
			return nil, err
		}
		defer made.Close()
		if err = again(made, given.bytes); err != nil { // not measured: the first one wakes everything up
			return nil, err
		}
		kept[index] = made
	}
	started := time.Now()
	gap := time.Duration(float64(time.Second) / given.rate)
	for index, made := range kept {
		all.Add(1)
		go func() {
			defer all.Done()
			for at := time.Duration(index) * gap; at < given.limit(); at += gap * time.Duration(len(kept)) {
				due := started.Add(at)
				time.Sleep(time.Until(due))
				err := again(made, given.bytes)
				seen.add(time.Since(due), err)
				if err != nil {
					return
				}
			}
		}()
	}
	all.Wait()
	return seen.summary(time.Since(started).Seconds()), nil
}

func again(made *connection, size int64) error {
	length, err := made.ask("GET", fmt.Sprintf("/bytes/%d", size), 0)
	if err == nil {
		_, err = io.CopyN(io.Discard, made.reader, length)
	}
	return err
}
