package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// moved is what bulk comes to: bytes of all transfers together, and the time from the first connect to the last byte.
type moved struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	Whole   bool    `json:"whole"`
}

// download gets `streams` bodies at once; `seconds` cuts them off, and what arrived until then counts.
func download(given options) (any, error) { return bulk(given, receive) }

// upload sends `streams` bodies at once. What counts is what the target has read, so it is never cut off.
func upload(given options) (any, error) { return bulk(given, send) }

func bulk(given options, move func(options, time.Time, *atomic.Int64) error) (any, error) {
	var all sync.WaitGroup
	var count atomic.Int64
	problems := make(chan error, given.streams)
	started := time.Now()
	for range given.streams {
		all.Add(1)
		go func() {
			defer all.Done()
			problems <- move(given, started.Add(given.limit()), &count)
		}()
	}
	all.Wait()
	seconds := time.Since(started).Seconds()
	close(problems)
	for problem := range problems {
		if problem != nil {
			return nil, fmt.Errorf("after %d bytes and %.1f s: %w", count.Load(), seconds, problem)
		}
	}
	return moved{count.Load(), seconds, count.Load() == given.bytes*int64(given.streams)}, nil
}

func receive(given options, deadline time.Time, count *atomic.Int64) error {
	made, err := dial(given, deadline)
	if err != nil {
		return err
	}
	defer made.Close()
	left, err := made.ask("GET", fmt.Sprintf("/bytes/%d", given.bytes), 0)
	if err != nil {
		return err
	}
	buffer := make([]byte, pieceBytes)
	for reader := made.rest(); left > 0; {
		got, err := reader.Read(buffer)
		count.Add(int64(got))
		left -= int64(got)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil && left > 0 {
			return err
		}
	}
	return nil
}

func send(given options, deadline time.Time, count *atomic.Int64) error {
	made, err := dial(given, deadline)
	if err != nil {
		return err
	}
	defer made.Close()
	if _, err = made.ask("POST", "/sink", given.bytes); err != nil {
		return err
	}
	for left := given.bytes; left > 0; {
		sent, err := made.Write(zeros[:min(left, pieceBytes)])
		left -= int64(sent)
		if err != nil {
			return err
		}
	}
	length, err := made.answered()
	if err != nil {
		return err
	}
	if _, err = io.CopyN(io.Discard, made.reader, length); err != nil {
		return err
	}
	count.Add(given.bytes)
	return nil
}
