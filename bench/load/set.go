package main

import (
	"flag"
	"fmt"
	"time"
)

// Many more than there are calls in flight, so that a user's next change never overtakes the last.
const setOneUsers = 8_192

func userID(number int) string { return fmt.Sprintf("user-%d", number) }

// setRequest is one setUserOnlineStatus call about the users [first, end).
func setRequest(first, end int, online bool) []byte {
	var message []byte
	for number := first; number < end; number++ {
		status := appendText(appendText(nil, 1, userID(number)), 2, "0123456789abcdef")
		if online {
			status = appendText(status, 3, string([]byte{platformID}))
		} else {
			status = appendText(status, 4, string([]byte{platformID}))
		}
		message = appendText(message, 1, string(status))
	}
	return message
}

// setOneRequest is one setUserStatus call.
func setOneRequest(number int, online bool) []byte {
	message := appendText(nil, 1, userID(number))
	if online {
		message = appendVarint(message, 2, 1)
	}
	return appendVarint(message, 3, platformID)
}

// set: the cost of setUserOnlineStatus. With -once each user is set once; otherwise they come and go
// in turns, so that every write is a change.
func setMany(target *Target, arguments []string) (*Result, error) {
	first, end, batch, inFlight, channelCount, once := 0, 0, 0, 0, 0, ""
	limit := time.Duration(0)
	err := parse("set", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&first, "from", 0, "number of the first user")
		flags.IntVar(&end, "to", 32_000, "number after that of the last user")
		flags.IntVar(&batch, "batch", 100, "users a call")
		flags.IntVar(&inFlight, "in-flight", 1, "calls at once")
		flags.IntVar(&channelCount, "channels", 1, "gRPC connections")
		flags.StringVar(&once, "once", "", "set each user once: online or offline")
		flags.DurationVar(&limit, "for", 4*time.Second, "how long")
	})
	if err != nil {
		return nil, err
	}
	var turns [2][][]byte // online, offline
	for ; first < end; first += batch {
		turns[0] = append(turns[0], setRequest(first, min(first+batch, end), once != "offline"))
		if once == "" {
			turns[1] = append(turns[1], setRequest(first, min(first+batch, end), false))
		}
	}
	callers, err := target.channels(channelCount)
	if err != nil {
		return nil, err
	}
	return target.writes(callers, "setUserOnlineStatus", turns, once != "", batch, inFlight, limit)
}

// setone: the cost of setUserStatus; every call is a change.
func setOne(target *Target, arguments []string) (*Result, error) {
	first, inFlight, channelCount, stock, limit := 0, 0, 0, false, time.Duration(0)
	err := parse("setone", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&first, "from", 0, "number of the first user")
		flags.IntVar(&inFlight, "in-flight", 1, "calls at once")
		flags.IntVar(&channelCount, "channels", 1, "gRPC connections")
		flags.BoolVar(&stock, "stock", false, "by grpc-go")
		flags.DurationVar(&limit, "for", 4*time.Second, "how long")
	})
	if err != nil {
		return nil, err
	}
	var turns [2][][]byte
	for number := first; number < first+setOneUsers; number++ {
		turns[0] = append(turns[0], setOneRequest(number, true))
		turns[1] = append(turns[1], setOneRequest(number, false))
	}
	callers, err := target.driver(channelCount, stock)
	if err != nil {
		return nil, err
	}
	return target.writes(callers, "setUserStatus", turns, false, 1, inFlight, limit)
}

// writes makes the calls of the first turn, then of the second, and again until the time is over;
// but once, the first alone.
func (t *Target) writes(
	callers driver, method string, turns [2][][]byte, once bool, batch, inFlight int, limit time.Duration,
) (*Result, error) {
	calls := len(turns[0])
	next := func(number int) ([]byte, bool) {
		return turns[number/calls%2][number%calls], true
	}
	if once {
		limit = time.Hour
		next = func(number int) ([]byte, bool) {
			if number >= calls {
				return nil, false
			}
			return turns[0][number], true
		}
	}
	cost := t.processes.begin()
	made, times, err := callers.drive(plan{method, next, nil}, inFlight, limit)
	if err != nil {
		return nil, err
	}
	phase := cost.end(made * batch)
	values := map[string]float64{}
	times.into(values, "call")
	return &Result{Phases: map[string]Phase{"writes": phase}, Values: values}, nil
}
