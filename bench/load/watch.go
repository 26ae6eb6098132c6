package main

import (
	"flag"
	"fmt"
	"time"
)

const (
	// Longer ones are refused: a request has at most 51,200 bytes.
	watchedPerRequest = 2_000

	watchBufferBytes = 1 << 16
	burstInFlight    = 8
	burstBatch       = 100
)

// watch: one client watches many users, who then all come online. With -stall it reads only when
// all are online.
func watch(target *Target, arguments []string) (*Result, error) {
	users, stall := 0, false
	err := parse("watch", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&users, "users", 10_000, "watched users")
		flags.BoolVar(&stall, "stall", false, "read nothing until all are online")
	})
	if err != nil {
		return nil, err
	}
	const watcher = "watcher"
	socket, err := target.connect(0, watcher, codecGob, watchBufferBytes)
	if err != nil {
		return nil, err
	}
	watched := make([]string, users)
	for number := range watched {
		watched[number] = userID(number)
	}
	for first := 0; first < users; first += watchedPerRequest {
		if err = socket.subscribe(codecGob, watcher, watched[first:min(first+watchedPerRequest, users)]); err != nil {
			return nil, err
		}
	}
	channels, err := target.channels(1)
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	for first := 0; first < users; first += burstBatch {
		requests = append(requests, setRequest(first, min(first+burstBatch, users), true))
	}
	next := func(number int) ([]byte, bool) {
		if number >= len(requests) {
			return nil, false
		}
		return requests[number], true
	}
	burst := make(chan error, 1)
	cost := target.processes.begin()
	start := time.Now()
	go func() {
		_, _, err := channels.drive(plan{"setUserOnlineStatus", next, nil}, burstInFlight, toldLimit)
		burst <- err
	}()
	if stall {
		if err = <-burst; err != nil {
			return nil, err
		}
		burst <- nil
	}
	told, frames, readErr := hear(socket, users, start.Add(toldLimit))
	took := time.Since(start)
	if err = <-burst; err != nil {
		return nil, err
	}
	values := map[string]float64{
		"told": float64(told), "frames": float64(frames), "took_ms": float64(took) / float64(time.Millisecond),
	}
	if told < users {
		return nil, fmt.Errorf("told of %d of %d users in %d frames, then: %w", told, users, frames, readErr)
	}
	return &Result{Phases: map[string]Phase{"burst": cost.end(users)}, Values: values}, nil
}

// hear reads pushes until so many users are online; it returns how many are, in how many frames.
func hear(socket *Socket, users int, deadline time.Time) (int, int, error) {
	online, frames := map[string]bool{}, 0
	if err := socket.SetReadDeadline(deadline); err != nil {
		return 0, 0, err
	}
	for len(online) < users {
		push, err := socket.message(nil)
		if err != nil {
			return len(online), frames, err
		}
		frames++
		response, err := codecGob.unpack(push)
		if err != nil {
			return len(online), frames, err
		}
		err = tips(response.Data, func(userID string, isOnline bool) {
			if isOnline {
				online[userID] = true
			} else {
				delete(online, userID)
			}
		})
		if err != nil {
			return len(online), frames, err
		}
	}
	return len(online), frames, nil
}
