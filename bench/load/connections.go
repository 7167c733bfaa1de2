package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

// One epoll and no goroutines, which took half as much again for each connection: the proxies share the machine with
// the load.

const (
	backOff  = 10 * time.Millisecond // a proxy that is gone is not asked a million times
	lookMs   = 10                    // how often deadlines are looked at where nothing happens
	eventMax = 256
)

// stage of a visit: what it sends when it begins, and how many bytes answer it.
type stage struct {
	name   string
	sends  []byte
	awaits int // 0: until the end
}

// visit is one of `concurrency` places: connect, go through the stages, begin anew.
type visit struct {
	index    int32
	fd       int // -1: none, begins at `due`
	at       int // index of the stage; -1: connecting
	received []byte
	begun    time.Time
	due      time.Time // when it begins, or when it is late
}

// visits is all of them.
type visits struct {
	epoll   int
	way     syscall.SockaddrInet4
	stages  []stage
	size    int
	places  []visit
	seen    record
	scratch []byte
	ends    time.Time
}

// connections makes new ones for some seconds, `concurrency` at a time: connect, ask, read to the end that closes it.
// A latency is a whole one of these.
func connections(given options) (any, error) {
	all, err := newVisits(given)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(all.epoll)
	started := time.Now()
	all.ends = started.Add(given.limit())
	if err = all.run(); err != nil {
		return nil, err
	}
	return all.seen.summary(time.Since(started).Seconds()), nil
}

func newVisits(given options) (*visits, error) {
	target, err := ipv4(given.target)
	if err != nil {
		return nil, err
	}
	all := &visits{way: target, size: int(given.bytes), scratch: make([]byte, 64<<10)}
	if given.socks != "" {
		if all.way, err = ipv4(given.socks); err != nil {
			return nil, err
		}
		request := append([]byte{5, 1, 0, 1}, target.Addr[:]...)
		request = append(request, byte(target.Port>>8), byte(target.Port))
		all.stages = []stage{{"SOCKS greeting", []byte{5, 1, 0}, 2}, {"SOCKS reply", request, 10}}
	}
	ask := fmt.Sprintf("GET /close/%d HTTP/1.1\r\nHost: target\r\n\r\n", given.bytes)
	all.stages = append(all.stages, stage{"answer", []byte(ask), 0})
	for index := range given.concurrency {
		all.places = append(all.places, visit{index: int32(index), fd: -1})
	}
	all.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	return all, err
}

// run goes on until the time is over and every visit has ended.
func (all *visits) run() error {
	events := make([]syscall.EpollEvent, eventMax)
	for all.tend(time.Now()) > 0 {
		count, err := syscall.EpollWait(all.epoll, events, lookMs)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		for _, event := range events[:max(count, 0)] {
			place := &all.places[event.Pad]
			if int(event.Fd) == place.fd {
				all.step(place)
			}
		}
	}
	return nil
}

// tend begins what is due, ends what is late: how many are there or come again.
func (all *visits) tend(now time.Time) (busy int) {
	for index := range all.places {
		place := &all.places[index]
		switch {
		case place.fd >= 0 && now.After(place.due):
			all.end(place, errors.New("no end of "+all.waitsFor(place)))
		case place.fd < 0 && !now.Before(place.due) && now.Before(all.ends):
			if err := all.begin(place, now); err != nil {
				all.end(place, err)
			}
		}
		if place.fd >= 0 || now.Before(all.ends) {
			busy++
		}
	}
	return busy
}

func (all *visits) begin(place *visit, now time.Time) (err error) {
	place.at, place.begun, place.due = -1, now, now.Add(requestTimeout)
	kind := syscall.SOCK_STREAM | syscall.SOCK_NONBLOCK | syscall.SOCK_CLOEXEC
	if place.fd, err = syscall.Socket(syscall.AF_INET, kind, 0); err != nil {
		return err
	}
	if err = syscall.SetsockoptInt(place.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err = syscall.Connect(place.fd, &all.way); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return err
	}
	return all.watch(place, syscall.EPOLL_CTL_ADD, syscall.EPOLLOUT)
}

func (all *visits) watch(place *visit, change int, ready uint32) error {
	event := syscall.EpollEvent{Events: ready, Fd: int32(place.fd), Pad: place.index}
	return syscall.EpollCtl(all.epoll, change, place.fd, &event)
}

// step takes what the socket is ready for.
func (all *visits) step(place *visit) {
	over, err := false, error(nil)
	if place.at < 0 {
		err = all.connected(place)
	} else {
		over, err = all.read(place)
	}
	if over || err != nil {
		all.end(place, err)
	}
}

func (all *visits) connected(place *visit) error {
	failed, err := syscall.GetsockoptInt(place.fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err == nil && failed != 0 {
		err = syscall.Errno(failed)
	}
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	if err = all.watch(place, syscall.EPOLL_CTL_MOD, syscall.EPOLLIN); err != nil {
		return err
	}
	return all.next(place)
}

// next begins a stage. What it sends is small and there is room for it.
func (all *visits) next(place *visit) error {
	place.at++
	place.received = place.received[:0]
	_, err := syscall.Write(place.fd, all.stages[place.at].sends)
	return err
}

func (all *visits) read(place *visit) (over bool, err error) {
	count, err := syscall.Read(place.fd, all.scratch)
	if errors.Is(err, syscall.EAGAIN) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	place.received = append(place.received, all.scratch[:count]...)
	stage := all.stages[place.at]
	switch {
	case stage.awaits == 0 && count == 0:
		return true, all.answered(place.received)
	case count == 0:
		return true, fmt.Errorf("%s: end of the connection", stage.name)
	case stage.awaits == 0 || len(place.received) < stage.awaits:
		return false, nil
	case place.received[1] != 0:
		return true, fmt.Errorf("%s %d", stage.name, place.received[1])
	}
	return false, all.next(place)
}

// answered: whether it is the whole answer.
func (all *visits) answered(received []byte) error {
	head, body, _ := bytes.Cut(received, []byte("\r\n\r\n"))
	if len(head) < 12 || string(head[9:12]) != "200" {
		return fmt.Errorf("not an answer: %q", head)
	}
	if len(body) != all.size {
		return fmt.Errorf("%d bytes in place of %d", len(body), all.size)
	}
	return nil
}

// end of a visit: another one begins with the next look, after an error somewhat later.
func (all *visits) end(place *visit, err error) {
	now := time.Now()
	all.seen.add(now.Sub(place.begun), err)
	if place.fd >= 0 {
		syscall.Close(place.fd)
	}
	place.fd, place.due = -1, now
	if err != nil {
		place.due = now.Add(backOff)
	}
}

func (all *visits) waitsFor(place *visit) string {
	if place.at < 0 {
		return "connecting"
	}
	return all.stages[place.at].name
}

func ipv4(address string) (found syscall.SockaddrInet4, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return found, err
	}
	if found.Port, err = strconv.Atoi(port); err != nil {
		return found, err
	}
	numeric := net.ParseIP(host).To4()
	if numeric == nil {
		return found, fmt.Errorf("not an IPv4 address: %s", host)
	}
	copy(found.Addr[:], numeric)
	return found, nil
}
