package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const (
	userService   = "/openim.user.user/"
	answerTimeout = 30 * time.Second

	// An answer with 10,000 users has several hundred KB; the default limit is 4 MiB.
	maxAnswerBytes = 64 << 20
)

// rawCodec passes messages that are encoded already.
type rawCodec struct{}

func (rawCodec) Name() string                        { return "proto" }
func (rawCodec) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// Channels are gRPC connections to the service; several, so that several workers get some.
type Channels []*grpc.ClientConn

func (t *Target) channels(count int) (Channels, error) {
	channels := make(Channels, count)
	for index := range channels {
		channel, err := grpc.NewClient(
			"passthrough:///"+t.grpc,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		)
		if err != nil {
			return nil, err
		}
		channels[index] = channel
	}
	return channels, nil
}

// callContext is for calls within a time, which has to be enough for the answer to the last; it has
// what OpenIM demands of every call.
func callContext(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "operationid", "load")
	return context.WithTimeout(ctx, limit+answerTimeout)
}

// call makes the number-th call and returns its answer.
func (c Channels) call(ctx context.Context, number int, method string, request []byte) ([]byte, error) {
	var answer []byte
	err := c[number%len(c)].Invoke(ctx, userService+method, &request, &answer)
	return answer, err
}

// A plan is which calls to make: next gives the number-th and false when there are no more; check
// judges its answer.
type plan struct {
	method string
	next   func(number int) ([]byte, bool)
	check  func(number int, answer []byte) error
}

// drive makes calls, so many in flight at once, for at most a time. It returns how many were made
// and how long each took.
func (c Channels) drive(work plan, inFlight int, limit time.Duration) (int, ms, error) {
	var made atomic.Int64
	var waiting sync.WaitGroup
	// One context for all calls: a deadline each would be a good part of what a call costs here.
	ctx, cancel := callContext(limit)
	defer cancel()
	deadline := time.Now().Add(limit)
	times, failures := make([]ms, inFlight), make(chan error, inFlight)
	for lane := range inFlight {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			for start := time.Now(); start.Before(deadline) && len(failures) == 0; {
				number := int(made.Add(1)) - 1
				request, more := work.next(number)
				if !more {
					made.Add(-1)
					return
				}
				answer, err := c.call(ctx, lane, work.method, request)
				if err == nil && work.check != nil {
					err = work.check(number, answer)
				}
				if err != nil {
					failures <- fmt.Errorf("%s, call %d: %w", work.method, number, err)
					return
				}
				now := time.Now()
				times[lane].add(now.Sub(start))
				start = now
			}
		}()
	}
	waiting.Wait()
	if len(failures) > 0 {
		return 0, nil, <-failures
	}
	var all ms
	for _, lane := range times {
		all = append(all, lane...)
	}
	return int(made.Load()), all, nil
}
