package main

import (
	"bytes"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const answerBufferBytes = 1_024

// requests: the cost of answering clients, one request in flight each. The request is
// 2004: it sets whether the app is in the background, and is answered with no data.
func requests(target *Target, arguments []string) (*Result, error) {
	count, limit, codec := 0, time.Duration(0), ""
	err := parse("requests", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&count, "connections", 50, "connections")
		flags.StringVar(&codec, "codec", string(codecGob), "gob, gob-gzip or json")
		flags.DurationVar(&limit, "for", 4*time.Second, "how long")
	})
	if err != nil {
		return nil, err
	}
	askers := make([]*asker, count)
	for number := range askers {
		if askers[number], err = newAsker(target, number, Codec(codec)); err != nil {
			return nil, err
		}
	}
	var answered atomic.Int64
	var waiting sync.WaitGroup
	failures := make(chan error, count)
	cost := target.processes.begin()
	deadline := time.Now().Add(limit)
	for _, asker := range askers {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			made, err := asker.ask(deadline)
			answered.Add(int64(made))
			if err != nil {
				failures <- err
			}
		}()
	}
	waiting.Wait()
	if len(failures) > 0 {
		return nil, <-failures
	}
	phase := cost.end(int(answered.Load()))
	return &Result{Phases: map[string]Phase{"requests": phase}, Values: map[string]float64{}}, nil
}

// asker is a client with its requests, in and out of the background, ready to be sent.
type asker struct {
	socket   *Socket
	codec    Codec
	requests [2][]byte
	answer   []byte // as the first one was; the same request has the same answer
}

func newAsker(target *Target, number int, codec Codec) (*asker, error) {
	userID := fmt.Sprintf("asker-%d", number)
	socket, err := target.connect(number, userID, codec, answerBufferBytes)
	if err != nil {
		return nil, err
	}
	made := &asker{socket: socket, codec: codec}
	for background := range made.requests {
		data := appendText(nil, 1, userID)
		if background == 1 {
			data = appendVarint(data, 2, 1)
		}
		request := &Request{opSetBackground, "", userID, "1763893837123456789", userID + "_1_1763893837123", data}
		if made.requests[background], err = codec.pack(request); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func (a *asker) ask(deadline time.Time) (int, error) {
	buffer := make([]byte, answerBufferBytes)
	for made := 0; ; made++ {
		if time.Now().After(deadline) {
			return made, nil
		}
		if _, err := a.socket.Write(a.requests[made%2]); err != nil {
			return made, err
		}
		answer, err := a.socket.message(buffer)
		if err != nil {
			return made, err
		}
		if !bytes.Equal(answer, a.answer) {
			// The first, or one with something that changes in it, such as a time in the compression.
			if _, err = a.codec.unpack(answer); err != nil {
				return made, err
			}
			a.answer = bytes.Clone(answer)
		}
	}
}
