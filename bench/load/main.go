// Command load is the target and the load of `make bench`: light, so that what is measured is the tunnel.
//
// Rules
//   - Standard library only. One subcommand a file, each prints one line of JSON.
//   - The load waits for nothing without a bound: every connection has the deadline of its subcommand.
//   - It never speaks to anything but the addresses that it was given.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

// options of all subcommands; each takes those that it needs.
type options struct {
	listen      string
	socks       string
	target      string
	bytes       int64
	streams     int
	concurrency int
	rate        float64
	seconds     float64
}

func (o options) limit() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }

var commands = map[string]func(options) (any, error){
	"target":      target,
	"download":    download,
	"upload":      upload,
	"connections": connections,
	"keep-alive":  keepAlive,
	"hold":        hold,
	"slow":        slow,
}

func main() {
	runtime.GOMAXPROCS(1) // On two cores more threads only get into the proxies' way.
	command, known := commands[argument(1)]
	if !known {
		fmt.Fprintln(os.Stderr, "load target|download|upload|connections|keep-alive|hold|slow [flags]")
		os.Exit(2)
	}
	var given options
	flags := flag.NewFlagSet(argument(1), flag.ExitOnError)
	flags.StringVar(&given.listen, "listen", "127.0.0.1:0", "where the target listens")
	flags.StringVar(&given.socks, "socks", "", "SOCKS5 proxy; none: straight to the target")
	flags.StringVar(&given.target, "target", "", "address of the target")
	flags.Int64Var(&given.bytes, "bytes", 1000, "size of each body")
	flags.IntVar(&given.streams, "streams", 1, "transfers, or connections held, at once")
	flags.IntVar(&given.concurrency, "concurrency", 16, "new connections at a time")
	flags.Float64Var(&given.rate, "rate", 50, "requests a second, or bytes a second of a slow reader")
	flags.Float64Var(&given.seconds, "seconds", 10, "how long at most")
	_ = flags.Parse(os.Args[2:])
	found, err := command(given)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	say(found)
}

func argument(index int) string {
	if len(os.Args) > index {
		return os.Args[index]
	}
	return ""
}

// say prints one line of JSON.
func say(found any) {
	line, _ := json.Marshal(found)
	fmt.Println(string(line))
}
