package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// What a target answers:
//
//	GET /bytes/N   N zeros with a Content-Length; the connection is kept
//	GET /close/N   N zeros, delimited by the end of the connection
//	POST /sink     reads Content-Length bytes, then says so
const pieceBytes = 256 << 10

var zeros = make([]byte, pieceBytes)

// target serves until its standard input ends.
func target(given options) (any, error) {
	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", given.listen)
	if err != nil {
		return nil, err
	}
	say(map[string]string{"listening": listener.Addr().String()})
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(connection)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return map[string]string{"stopped": "end of input"}, nil
}

func serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 4096)
	for {
		method, path, length, err := readRequest(reader)
		if err != nil {
			return
		}
		size, _ := strconv.ParseInt(path[strings.LastIndexByte(path, '/')+1:], 10, 64)
		switch {
		case method == "POST":
			if discard(io.MultiReader(io.LimitReader(reader, int64(reader.Buffered())), connection), length) != nil {
				return
			}
			_, err = io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		case strings.HasPrefix(path, "/close/"):
			_ = answer(connection, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", size)
			return
		default:
			err = answer(connection, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), size)
		}
		if err != nil {
			return
		}
	}
}

// answer sends the head with the first of the body in one write, then the rest.
func answer(connection net.Conn, head string, size int64) error {
	first := min(size, 16<<10)
	if _, err := connection.Write(append([]byte(head), zeros[:first]...)); err != nil {
		return err
	}
	for left := size - first; left > 0; {
		sent, err := connection.Write(zeros[:min(left, pieceBytes)])
		if err != nil {
			return err
		}
		left -= int64(sent)
	}
	return nil
}

// readRequest takes a head: method, path, and how long its body is.
func readRequest(reader *bufio.Reader) (method, path string, length int64, err error) {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return "", "", 0, err
	}
	words := strings.Fields(string(line))
	if len(words) < 2 {
		return "", "", 0, fmt.Errorf("not a request: %q", line)
	}
	length, err = readHead(reader)
	return words[0], words[1], length, err
}

// readHead reads the fields up to the empty line; -1 where there is no Content-Length.
func readHead(reader *bufio.Reader) (length int64, err error) {
	length = -1
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			if err != nil {
				return 0, err
			}
		}
	}
}

// discard reads exactly size bytes.
func discard(reader io.Reader, size int64) error {
	buffer := make([]byte, pieceBytes)
	for size > 0 {
		count, err := reader.Read(buffer[:min(size, pieceBytes)])
		size -= int64(count)
		if err != nil && size > 0 {
			return err
		}
	}
	return nil
}
