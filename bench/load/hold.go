package main

import (
	"io"
	"net"
	"os"
	"time"
)

// hold opens `streams` connections, sends one request on each, says "ready", and keeps them until its input ends.
func hold(given options) (any, error) {
	deadline := time.Now().Add(given.limit())
	for held := 0; held < given.streams; held++ {
		made, err := dial(given, deadline)
		if err != nil {
			return nil, err
		}
		defer made.Close()
		if err = again(made, given.bytes); err != nil {
			return nil, err
		}
	}
	return untilTold()
}

// slow downloads at `rate` bytes a second, with a small receive buffer, until its input ends. Zero: never reads.
func slow(given options) (any, error) {
	made, err := dial(given, time.Now().Add(given.limit()))
	if err != nil {
		return nil, err
	}
	defer made.Close()
	if tcp, is := made.Conn.(*net.TCPConn); is {
		_ = tcp.SetReadBuffer(64 << 10)
	}
	if _, err = made.ask("GET", "/bytes/1000000000", 0); err != nil {
		return nil, err
	}
	go func() {
		const pause = 100 * time.Millisecond
		piece := make([]byte, max(int(given.rate*pause.Seconds()), 1))
		for given.rate > 0 {
			if _, err := io.ReadFull(made.reader, piece); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}()
	return untilTold()
}

func untilTold() (any, error) {
	say(map[string]bool{"ready": true})
	_, _ = io.Copy(io.Discard, os.Stdin)
	return map[string]bool{"stopped": true}, nil
}
