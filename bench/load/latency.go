package main

import (
	"bytes"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pushBufferBytes = 512
	toldLimit       = 20 * time.Second
	subject         = "subject"
)

// An event is a connect or disconnect of the subject, on its way to the watchers.
type event struct {
	tip     []byte // how the watchers are told
	start   time.Time
	arrived []time.Duration // by watcher, from start; 0: not yet
	left    atomic.Int32
	told    chan struct{} // closed when nobody is left
}

// arena holds the watchers and the event they wait for.
type arena struct {
	watchers []*Socket
	codec    Codec
	current  atomic.Pointer[event]
	failed   chan error
}

// latency: how long after a user's connect or disconnect each of their watchers is told, and what
// that costs; nothing else goes on.
func latency(target *Target, arguments []string) (*Result, error) {
	count, rounds, pause, codec := 0, 0, time.Duration(0), ""
	err := parse("latency", arguments, func(flags *flag.FlagSet) {
		flags.IntVar(&count, "watchers", 100, "connections that watch the one that comes and goes")
		flags.StringVar(&codec, "codec", string(codecGob), "gob or json")
		flags.IntVar(&rounds, "rounds", 100, "connects, and disconnects")
		flags.DurationVar(&pause, "pause", 20*time.Millisecond, "between one and the next")
	})
	if err != nil {
		return nil, err
	}
	arena, err := gather(target, count, Codec(codec))
	if err != nil {
		return nil, err
	}
	target.processes.settle()
	values := map[string]float64{"pairs": float64(2 * rounds * count)}
	var all, last, came, went, completed ms
	request := target.handshake(subject, codecGob)
	cost := target.processes.begin()
	for range rounds {
		socket, err := target.dial(count, pushBufferBytes)
		if err != nil {
			return nil, err
		}
		connect := arena.begin(tip(subject, platformID))
		if err = socket.open(request); err != nil {
			return nil, err
		}
		opened := time.Since(connect.start)
		if err = arena.await(connect); err != nil {
			return nil, err
		}
		time.Sleep(pause)
		disconnect := arena.begin(tip(subject))
		_ = socket.Close()
		if err = arena.await(disconnect); err != nil {
			return nil, err
		}
		for _, took := range connect.arrived {
			completed.add(took - opened)
		}
		last.add(connect.collect(&all, &came))
		last.add(disconnect.collect(&all, &went))
		time.Sleep(pause)
	}
	phase := cost.end(2 * rounds * count)
	all.into(values, "all")
	last.into(values, "last")
	came.into(values, "connect")
	went.into(values, "disconnect")
	completed.into(values, "handshake_done")
	return &Result{Phases: map[string]Phase{"pushes": phase}, Values: values}, nil
}

// gather connects the watchers and has each watch the subject.
func gather(target *Target, count int, codec Codec) (*arena, error) {
	arena := &arena{watchers: make([]*Socket, count), codec: codec, failed: make(chan error, count)}
	var waiting sync.WaitGroup
	turns := make(chan struct{}, 64)
	for number := range count {
		waiting.Add(1)
		turns <- struct{}{}
		go func() {
			defer func() { <-turns; waiting.Done() }()
			userID := fmt.Sprintf("watcher-%d", number)
			socket, err := target.connect(number, userID, codec, pushBufferBytes)
			if err == nil {
				err = socket.subscribe(codec, userID, []string{subject})
			}
			if err != nil {
				arena.failed <- fmt.Errorf("%s: %w", userID, err)
				return
			}
			arena.watchers[number] = socket
		}()
	}
	waiting.Wait()
	if len(arena.failed) > 0 {
		return nil, <-arena.failed
	}
	for number := range count {
		go arena.read(number)
	}
	return arena, nil
}

// read notes when a watcher is told. A push is known by the bytes of the user's state in it, counted
// and uncompressed: decoding each whole would make the watchers slow.
func (a *arena) read(number int) {
	buffer := make([]byte, pushBufferBytes)
	for {
		push, err := a.watchers[number].message(buffer)
		now := time.Now()
		if err != nil {
			a.failed <- fmt.Errorf("watcher %d: %w", number, err)
			return
		}
		event := a.current.Load()
		if event == nil || event.arrived[number] != 0 || !bytes.Contains(a.codec.data(push), event.tip) {
			continue
		}
		event.arrived[number] = max(now.Sub(event.start), 1)
		if event.left.Add(-1) == 0 {
			close(event.told)
		}
	}
}

// begin makes an event that starts now.
func (a *arena) begin(element []byte) *event {
	event := &event{arrived: make([]time.Duration, len(a.watchers)), told: make(chan struct{})}
	event.tip = appendText(nil, 1, string(element))
	event.left.Store(int32(len(a.watchers)))
	event.start = time.Now()
	a.current.Store(event)
	return event
}

func (a *arena) await(event *event) error {
	select {
	case <-event.told:
		return nil
	case err := <-a.failed:
		return err
	case <-time.After(toldLimit):
		return fmt.Errorf("%d of %d watchers were not told within %s", event.left.Load(), len(a.watchers), toldLimit)
	}
}

// collect adds the event's times, and returns the last watcher's.
func (e *event) collect(lists ...*ms) time.Duration {
	last := time.Duration(0)
	for _, took := range e.arrived {
		for _, list := range lists {
			list.add(took)
		}
		last = max(last, took)
	}
	return last
}
