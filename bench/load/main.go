// Command load drives a running presence service over OpenIM's wire and measures it from outside.
//
// Each subcommand prints one JSON object: the phases it went through, with what the processes
// named by -service and -redis spent in them, and values of its own.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// Target is the service under load, as every subcommand is told of it.
type Target struct {
	ws, grpc, secret string
	processes        Processes
}

// Result is what a subcommand prints.
type Result struct {
	Command string             `json:"command"`
	Phases  map[string]Phase   `json:"phases"`
	Values  map[string]float64 `json:"values"`
}

const gcPercent = 800

type command func(target *Target, arguments []string) (*Result, error)

var commands = map[string]command{
	"latency":  latency,
	"watch":    watch,
	"crowd":    crowd,
	"requests": requests,
	"set":      setMany,
	"setone":   setOne,
	"get":      get,
	"list":     list,
}

func main() {
	target := &Target{}
	flag.StringVar(&target.ws, "ws", "", "HOST:PORT of the WebSocket server")
	flag.StringVar(&target.grpc, "grpc", "", "HOST:PORT of the gRPC server")
	flag.StringVar(&target.secret, "secret", "", "what tokens are signed with")
	flag.Var(&target.processes.service, "service", "process IDs of the service, with commas")
	flag.Var(&target.processes.redis, "redis", "process IDs of the store, with commas")
	flag.Usage = usage
	flag.Parse()
	// What is collected is small, and the core is needed for the load.
	debug.SetGCPercent(gcPercent)
	run, known := commands[flag.Arg(0)]
	if !known {
		usage()
		os.Exit(2)
	}
	result, err := run(target, flag.Args()[1:])
	if err == nil {
		result.Command = flag.Arg(0)
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "load %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
}

func usage() {
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "usage: load [flags] %s [flags]\n", strings.Join(names, "|"))
	flag.PrintDefaults()
}

// parse reads a subcommand's own flags, which define declares.
func parse(name string, arguments []string, define func(flags *flag.FlagSet)) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	define(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected %q", flags.Args())
	}
	return nil
}
