package main

import (
	"flag"
	"fmt"
	"math/rand"
	"time"
)

const warmUp = 200 * time.Millisecond

func getRequest(numbers []int) []byte {
	message := appendText(nil, 1, "asker")
	for _, number := range numbers {
		message = appendText(message, 2, userID(number))
	}
	return message
}

// get: the cost of getUserStatus of users who are all online. With -hot the same users are asked
// for over and over; otherwise each once, in random order, so that whoever remembers what was asked
// before is not helped.
func get(target *Target, arguments []string) (*Result, error) {
	first, end, users, inFlight, channelCount, hot, stock := 0, 0, 0, 0, 0, false, false
	limit := time.Duration(0)
	err := parse("get", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&first, "from", 0, "number of the first user")
		flags.IntVar(&end, "to", 1_000, "number after that of the last user")
		flags.IntVar(&users, "users", 1, "users a call")
		flags.IntVar(&inFlight, "in-flight", 1, "calls at once")
		flags.IntVar(&channelCount, "channels", 1, "gRPC connections")
		flags.BoolVar(&stock, "stock", false, "by grpc-go")
		flags.BoolVar(&hot, "hot", false, "ask for the same users again and again")
		flags.DurationVar(&limit, "for", 3*time.Second, "how long, at most")
	})
	if err != nil {
		return nil, err
	}
	callers, err := target.driver(channelCount, stock)
	if err != nil {
		return nil, err
	}
	requests := shuffled(first, end, users)
	work := plan{
		method: "getUserStatus",
		next: func(number int) ([]byte, bool) {
			if !hot && number >= len(requests) {
				return nil, false
			}
			return requests[number%len(requests)], true
		},
		check: func(_ int, answer []byte) error { return allOnline(answer, users) },
	}
	if hot {
		if _, _, err = callers.drive(work, inFlight, warmUp); err != nil {
			return nil, err
		}
	}
	cost := target.processes.begin()
	made, times, err := callers.drive(work, inFlight, limit)
	if err != nil {
		return nil, err
	}
	phase := cost.end(made)
	values := map[string]float64{}
	times.into(values, "call")
	return &Result{Phases: map[string]Phase{"calls": phase}, Values: values}, nil
}

// shuffled are calls about the users [first, end) in random order, each user once.
func shuffled(first, end, users int) [][]byte {
	numbers := rand.New(rand.NewSource(1)).Perm(end - first)
	for index := range numbers {
		numbers[index] += first
	}
	var requests [][]byte
	for ; len(numbers) >= users; numbers = numbers[users:] {
		requests = append(requests, getRequest(numbers[:users]))
	}
	return requests
}

// allOnline is an error unless a list of onlineStatus has so many users, all online.
func allOnline(answer []byte, users int) error {
	entries, online := 0, 0
	err := each(answer, func(entry field) error {
		if entry.number != 1 {
			return nil
		}
		entries++
		if isOnline(entry.bytes) {
			online++
		}
		return nil
	})
	if err == nil && (entries != users || online != users) {
		err = fmt.Errorf("%d users asked for, %d answered, %d online", users, entries, online)
	}
	return err
}

func isOnline(status []byte) bool {
	online := false
	err := each(status, func(found field) error {
		online = online || found.number == 2 && found.varint == 1
		return nil
	})
	return err == nil && online
}
