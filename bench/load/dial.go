package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// connection is one to the target, with what was read too far.
type connection struct {
	net.Conn
	reader *bufio.Reader
}

// dial connects through the proxy, or straight where there is none; everything on it ends at the deadline.
func dial(given options, deadline time.Time) (*connection, error) {
	way := given.socks
	if way == "" {
		way = given.target
	}
	raw, err := (&net.Dialer{Deadline: deadline, KeepAlive: -1}).Dial("tcp", way)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(deadline)
	made := &connection{raw, bufio.NewReaderSize(raw, 4096)}
	if given.socks != "" {
		if err = made.greet(given.target); err != nil {
			raw.Close()
			return nil, err
		}
	}
	return made, nil
}

// greet is SOCKS5 without a user, in the steps of RFC 1928: some servers take no early bytes.
func (c *connection) greet(target string) error {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	var reply [10]byte
	if _, err = c.Write([]byte{5, 1, 0}); err != nil {
		return err
	}
	if _, err = io.ReadFull(c.reader, reply[:2]); err != nil {
		return fmt.Errorf("SOCKS greeting: %w", err)
	}
	request := append([]byte{5, 1, 0, 1}, net.ParseIP(host).To4()...)
	if _, err = c.Write(binary.BigEndian.AppendUint16(request, uint16(number))); err != nil {
		return err
	}
	if _, err = io.ReadFull(c.reader, reply[:4]); err != nil {
		return fmt.Errorf("SOCKS reply: %w", err)
	}
	if reply[1] != 0 {
		return fmt.Errorf("SOCKS reply %d", reply[1])
	}
	rest := 4 + 2
	if reply[3] == 4 {
		rest = 16 + 2
	}
	_, err = c.reader.Discard(rest)
	return err
}

// ask sends a request and reads the head of its answer: how long the body is, -1 where only the end tells.
func (c *connection) ask(method, path string, length int64) (int64, error) {
	head := method + " " + path + " HTTP/1.1\r\nHost: target\r\n"
	if length > 0 {
		head += fmt.Sprintf("Content-Length: %d\r\n", length)
	}
	if _, err := io.WriteString(c.Conn, head+"\r\n"); err != nil {
		return 0, err
	}
	if method == "POST" {
		return 0, nil
	}
	return c.answered()
}

// answered reads the head of an answer.
func (c *connection) answered() (int64, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || string(line[9:12]) != "200" {
		return 0, fmt.Errorf("not an answer: %q", line)
	}
	return readHead(c.reader)
}

// rest is what follows the head: what was read too far, then the connection itself.
func (c *connection) rest() io.Reader {
	return io.MultiReader(io.LimitReader(c.reader, int64(c.reader.Buffered())), c.Conn)
}
