package main

import (
	"flag"
	"fmt"
	"time"
)

const walkLimit = time.Minute

// list: the cost of walking over everybody online by getAllOnlineUsers, and who is shown.
func list(target *Target, arguments []string) (*Result, error) {
	online, walks := 0, 0
	err := parse("list", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&online, "online", 100_000, "how many users are online: those numbered up to this")
		flags.IntVar(&walks, "walks", 3, "how often to walk")
	})
	if err != nil {
		return nil, err
	}
	channels, err := target.channels(1)
	if err != nil {
		return nil, err
	}
	var times ms
	values := map[string]float64{}
	cost := target.processes.begin()
	for range walks {
		start := target.processes.begin()
		shown, pages, err := walk(channels[0])
		if err != nil {
			return nil, err
		}
		times = append(times, start.end(0).TookS*1_000)
		missing := 0
		for number := range online {
			if !shown[userID(number)] {
				missing++
			}
		}
		values["pages"] = float64(pages)
		values["missing"] += float64(missing)
		values["wrongly_shown"] += float64(len(shown) - (online - missing))
	}
	phase := cost.end(walks * online)
	times.into(values, "walk")
	return &Result{Phases: map[string]Phase{"walks": phase}, Values: values}, nil
}

// walk is everybody shown as online, and the number of pages.
func walk(channel *Channel) (map[string]bool, int, error) {
	shown := map[string]bool{}
	if err := channel.within(walkLimit); err != nil {
		return nil, 0, err
	}
	cursor := uint64(0)
	for pages := 1; ; pages++ {
		answer, err := channel.call("getAllOnlineUsers", appendVarint(nil, 1, cursor))
		if err != nil {
			return nil, 0, fmt.Errorf("page %d: %w", pages, err)
		}
		cursor = 0
		err = each(answer, func(found field) error {
			switch found.number {
			case 1:
				if isOnline(found.bytes) {
					return each(found.bytes, func(status field) error {
						if status.number == 1 {
							shown[string(status.bytes)] = true
						}
						return nil
					})
				}
			case 2:
				cursor = found.varint
			}
			return nil
		})
		if err != nil || cursor == 0 {
			return shown, pages, err
		}
	}
}
