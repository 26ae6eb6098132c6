package main

import (
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	crowdBufferBytes = 256
	askedAtOnce      = 1_000

	// As OpenIM's Go SDK does.
	pingInterval = 24 * time.Second
)

// crowd: many clients connect at once, stay, and leave.
func crowd(target *Target, arguments []string) (*Result, error) {
	count, dials, idle, pinged := 0, 0, time.Duration(0), time.Duration(0)
	err := parse("crowd", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&count, "connections", 10_000, "connections")
		flags.IntVar(&dials, "dials", 512, "handshakes under way at once")
		flags.DurationVar(&idle, "idle", 0, "how long to look at them while nothing goes on")
		flags.DurationVar(&pinged, "pinged", 0, "how long to look at them while each pings every 24 s")
	})
	if err != nil {
		return nil, err
	}
	handshakes := make([][]byte, count)
	for number := range handshakes {
		handshakes[number] = target.handshake(userID(number), codecGob)
	}
	phases, values := map[string]Phase{}, map[string]float64{}
	before := target.processes.service.rss()
	cost := target.processes.begin()
	sockets, err := connectAll(target, handshakes, dials)
	if err != nil {
		return nil, err
	}
	phases["accept"] = cost.end(count)
	if !target.processes.settle() {
		return nil, errors.New("the service did not come to rest")
	}
	phases["connect"] = cost.end(count) // with what it had put off
	values["rss_per_connection"] = float64(phases["connect"].ServiceBytes-before) / float64(count)
	if idle > 0 {
		cost = target.processes.begin()
		time.Sleep(idle)
		phases["idle"] = cost.end(count)
	}
	if pinged > 0 {
		cost = target.processes.begin()
		pings, err := pingAll(sockets, pinged)
		if err != nil {
			return nil, err
		}
		phases["pinged"] = cost.end(pings)
	}
	if err = askForAll(target, count); err != nil {
		return nil, err
	}
	cost = target.processes.begin()
	for _, socket := range sockets {
		socket.abort()
	}
	target.processes.settle()
	phases["disconnect"] = cost.end(count)
	return &Result{Phases: phases, Values: values}, nil
}

func connectAll(target *Target, handshakes [][]byte, dials int) ([]*Socket, error) {
	sockets, failures := make([]*Socket, len(handshakes)), make(chan error, dials)
	var taken atomic.Int64
	var waiting sync.WaitGroup
	for range dials {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			for number := int(taken.Add(1)) - 1; number < len(sockets); number = int(taken.Add(1)) - 1 {
				socket, err := target.dial(number, crowdBufferBytes)
				if err == nil {
					err = socket.open(handshakes[number])
				}
				if err != nil {
					failures <- fmt.Errorf("connection %d: %w", number, err)
					return
				}
				sockets[number] = socket
			}
		}()
	}
	waiting.Wait()
	if len(failures) > 0 {
		return nil, <-failures
	}
	return sockets, nil
}

// pingAll has clients ping in turn, at the rate at which all would within the interval, and returns
// how many there were. Pongs stay unread: they fit in the sockets' buffers.
func pingAll(sockets []*Socket, long time.Duration) (int, error) {
	ping := frame(opPing, []byte("ping"))
	start, step := time.Now(), pingInterval/time.Duration(len(sockets))
	for number := 0; ; number++ {
		due := time.Duration(number) * step
		if due > long {
			return number, nil
		}
		time.Sleep(due - time.Since(start))
		if _, err := sockets[number%len(sockets)].Write(ping); err != nil {
			return number, err
		}
	}
}

// askForAll makes sure that all of them are known to be online.
func askForAll(target *Target, count int) error {
	channels, err := target.channels(1)
	if err != nil {
		return err
	}
	for first := 0; first < count; first += askedAtOnce {
		end := min(first+askedAtOnce, count)
		numbers := make([]int, 0, end-first)
		for number := first; number < end; number++ {
			numbers = append(numbers, number)
		}
		answer, err := channels[0].call("getUserStatus", getRequest(numbers))
		if err == nil {
			err = allOnline(answer, end-first)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
