package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// Stock makes calls as a user's backend does: by grpc-go with its defaults, a goroutine for each call
// in flight. What grpc-go takes for a call, and its pings that measure bandwidth, are in the figures.
type Stock []*grpc.ClientConn

// driver makes the calls of a plan, so many in flight at once, for at most a time.
type driver interface {
	drive(work plan, inFlight int, limit time.Duration) (int, ms, error)
}

// driver is the generator's own client, or the stock one.
func (t *Target) driver(channels int, stock bool) (driver, error) {
	if !stock {
		return t.channels(channels)
	}
	made := make(Stock, channels)
	for index := range made {
		connection, err := grpc.NewClient(t.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		made[index] = connection
	}
	return made, nil
}

func (s Stock) drive(work plan, inFlight int, limit time.Duration) (int, ms, error) {
	var taken atomic.Int64
	var waiting sync.WaitGroup
	deadline := time.Now().Add(limit)
	times, failures := make([]ms, inFlight), make(chan error, inFlight)
	for lane := range times {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			for time.Now().Before(deadline) && len(failures) == 0 {
				number := int(taken.Add(1)) - 1
				request, found := work.next(number)
				if !found {
					return
				}
				start := time.Now()
				answer, err := call(s[lane%len(s)], work.method, request)
				if err == nil && work.check != nil {
					err = work.check(number, answer)
				}
				if err != nil {
					failures <- fmt.Errorf("%s %d: %w", work.method, number, err)
					return
				}
				times[lane].add(time.Since(start))
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

func call(connection *grpc.ClientConn, method string, request []byte) ([]byte, error) {
	background, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	var answer []byte
	outgoing := metadata.AppendToOutgoingContext(background, "operationid", "load")
	err := connection.Invoke(outgoing, userService+method, request, &answer, grpc.ForceCodecV2(encoded{}))
	return answer, err
}

// encoded is the codec of messages that are bytes already.
type encoded struct{}

func (encoded) Name() string { return "proto" }

func (encoded) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

func (encoded) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}
