package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// answerTimeout is enough for the answer to the last call.
const answerTimeout = 30 * time.Second

// Channels are gRPC connections to the service; several, so that several workers get some.
type Channels []*Channel

func (t *Target) channels(count int) (Channels, error) {
	channels := make(Channels, count)
	for index := range channels {
		channel, err := openChannel(t.grpc, answerTimeout)
		if err != nil {
			return nil, err
		}
		channels[index] = channel
	}
	return channels, nil
}

// A plan is which calls to make: next gives the number-th and false when there are no more; check
// judges its answer.
type plan struct {
	method string
	next   func(number int) ([]byte, bool)
	check  func(number int, answer []byte) error
}

// drive makes calls, so many in flight at once, for at most a time. It returns how many were made
// and how long each took: from before its request was written until its whole answer was read.
func (c Channels) drive(work plan, inFlight int, limit time.Duration) (int, ms, error) {
	var made atomic.Int64
	var waiting sync.WaitGroup
	deadline := time.Now().Add(limit)
	times, failures := make([]ms, len(c)), make(chan error, len(c))
	for index, channel := range c {
		lanes := inFlight / len(c)
		if index < inFlight%len(c) {
			lanes++
		}
		more := func() bool { return time.Now().Before(deadline) && len(failures) == 0 }
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			err := channel.within(limit + answerTimeout)
			if err == nil {
				times[index], err = channel.drive(work, lanes, &made, more)
			}
			if err != nil {
				failures <- fmt.Errorf("%s: %w", work.method, err)
			}
		}()
	}
	waiting.Wait()
	if len(failures) > 0 {
		return 0, nil, <-failures
	}
	var all ms
	for _, some := range times {
		all = append(all, some...)
	}
	return len(all), all, nil
}

// drive makes calls on one channel, each after another was answered, as long as there are more; taken
// counts those of all channels.
func (c *Channel) drive(work plan, lanes int, taken *atomic.Int64, more func() bool) (ms, error) {
	var times ms
	underWay := 0
	again := func(call *Call) error {
		if !more() {
			return nil
		}
		call.number = int(taken.Add(1)) - 1
		request, found := work.next(call.number)
		if !found {
			return nil
		}
		underWay++
		return c.begin(call, work.method, request)
	}
	for range lanes {
		if err := again(&Call{start: time.Now()}); err != nil {
			return nil, err
		}
	}
	for underWay > 0 {
		call, err := c.next()
		if err != nil {
			return nil, err
		}
		underWay--
		answer, err := call.answer()
		if err == nil && work.check != nil {
			err = work.check(call.number, answer)
		}
		if err != nil {
			return nil, fmt.Errorf("call %d: %w", call.number, err)
		}
		now := time.Now()
		times.add(now.Sub(call.start))
		call.start = now
		if err = again(call); err != nil {
			return nil, err
		}
	}
	return times, nil
}
