package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	userService = "/openim.user.user/"
	userAgent   = "grpc-go/1.76.0"

	// What the service may send before it is given more room: on a stream enough for any answer, so that
	// only the connection's room is ever given back, by halves.
	streamBytes     = 64 << 20
	connectionBytes = 256 << 20

	readBytes = 1 << 16

	// So much is written at once, though more might come: grpc-go's measure. With all of it together
	// the service would wait while answers are judged, and then the generator for the service.
	writeBytes = 1_000

	// What a peer takes that has not said otherwise: RFC 9113, sections 6.9.2, 4.2 and 6.5.2.
	defaultWindow = 65_535
	frameBytes    = 16_384
	tableBytes    = 4_096
)

// Before a message: whether it is compressed, and its length.
const prefixBytes = 5

// A Call is one call at a time: it can be made again once it was answered.
type Call struct {
	number int
	start  time.Time
	body   []byte
}

// answer is the message the call was answered with; it is good until the call is made again.
func (c *Call) answer() ([]byte, error) {
	size := len(c.body) - prefixBytes
	if size < 0 || c.body[0] != 0 || binary.BigEndian.Uint32(c.body[1:]) != uint32(size) {
		return nil, fmt.Errorf("%d bytes that are not one message", len(c.body))
	}
	return c.body[prefixBytes:], nil
}

// A Channel makes unary gRPC calls over an HTTP/2 connection of its own, for one goroutine.
//
// grpc-go needs as much of a core for a call as the service, and would be what is measured. So
// nothing here is handed from one goroutine to another, and requests go out together: when there is
// nothing left to read, or at grpc-go's measure. Headers are what grpc-go sends, by the encoder it uses.
type Channel struct {
	socket    net.Conn
	unsent    bytes.Buffer
	frames    *http2.Framer
	authority string
	deadline  time.Time

	lastID   uint32
	underWay map[uint32]*Call // by stream ID
	answered []*Call          // not yet taken

	encoder *hpack.Encoder
	encoded bytes.Buffer
	message []byte // the request being sent, with its prefix

	// What the last header block said, and whether there was a status.
	decoder         *hpack.Decoder
	status, details string

	greeted          bool
	room, streamRoom int    // bytes of requests that the service takes, now and of a new stream
	read             uint32 // bytes of answers that are not given back
}

// openChannel connects, and learns what the service takes; limit is for all that is done then.
func openChannel(address string, limit time.Duration) (*Channel, error) {
	socket, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &Channel{socket: socket, authority: address, underWay: map[uint32]*Call{}}
	c.room, c.streamRoom = defaultWindow, defaultWindow
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.decoder = hpack.NewDecoder(tableBytes, c.heed)
	c.frames = http2.NewFramer(&c.unsent, bufio.NewReaderSize(flushed{c}, readBytes))
	c.frames.SetReuseFrames()
	c.unsent.WriteString(http2.ClientPreface)
	err = errors.Join(
		c.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamBytes}),
		c.frames.WriteWindowUpdate(0, connectionBytes),
		c.within(limit),
	)
	for err == nil && !c.greeted {
		err = c.advance()
	}
	return c, err
}

// flushed is the socket of a channel that writes its requests before it waits for answers.
type flushed struct{ *Channel }

func (f flushed) Read(buffer []byte) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.socket.Read(buffer)
}

func (c *Channel) flush() error {
	_, err := c.unsent.WriteTo(c.socket)
	return err
}

// within sets how long the calls from now on have, all together.
func (c *Channel) within(limit time.Duration) error {
	c.deadline = time.Now().Add(limit)
	return c.socket.SetDeadline(c.deadline)
}

// call makes a call and waits for its answer, which is good until the next call.
func (c *Channel) call(method string, request []byte) ([]byte, error) {
	if err := c.begin(&Call{}, method, request); err != nil {
		return nil, err
	}
	call, err := c.next()
	if err != nil {
		return nil, err
	}
	return call.answer()
}

// begin makes a call; next returns it when it is answered.
func (c *Channel) begin(call *Call, method string, request []byte) error {
	c.message = binary.BigEndian.AppendUint32(append(c.message[:0], 0), uint32(len(request)))
	c.message = append(c.message, request...)
	if len(c.message) > c.streamRoom {
		return fmt.Errorf("a request of %d bytes, and the service takes %d", len(c.message), c.streamRoom)
	}
	for len(c.message) > c.room {
		if err := c.advance(); err != nil {
			return err
		}
	}
	c.room -= len(c.message)
	// Clients' streams have odd numbers.
	id := c.lastID + 1
	c.lastID += 2
	call.body = call.body[:0]
	c.underWay[id] = call
	block, err := c.headers(method)
	if err == nil {
		err = c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
	}
	for rest := c.message; err == nil && len(rest) > 0; {
		size := min(len(rest), frameBytes)
		err = c.frames.WriteData(id, size == len(rest), rest[:size])
		rest = rest[size:]
	}
	if err == nil && c.unsent.Len() >= writeBytes {
		err = c.flush()
	}
	return err
}

// headers are those of a call; OpenIM demands an operation ID.
func (c *Channel) headers(method string) ([]byte, error) {
	c.encoded.Reset()
	for _, field := range [...]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: userService + method},
		{Name: ":authority", Value: c.authority},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: userAgent},
		{Name: "te", Value: "trailers"},
		{Name: "grpc-timeout", Value: timeout(time.Until(c.deadline))},
		{Name: "operationid", Value: "load"},
	} {
		if err := c.encoder.WriteField(field); err != nil {
			return nil, err
		}
	}
	return c.encoded.Bytes(), nil
}

// timeout is in the finest unit that has at most 8 digits, for what takes up to a day.
func timeout(left time.Duration) string {
	if micros := left.Microseconds(); micros < 100_000_000 {
		return strconv.FormatInt(max(micros, 1), 10) + "u"
	}
	return strconv.FormatInt(left.Milliseconds(), 10) + "m"
}

// next waits for a call whose answer is there, to the end, and was no failure.
func (c *Channel) next() (*Call, error) {
	for len(c.answered) == 0 {
		if err := c.advance(); err != nil {
			return nil, err
		}
	}
	call := c.answered[0]
	c.answered = c.answered[:copy(c.answered, c.answered[1:])]
	return call, nil
}

// advance takes one frame of the service.
func (c *Channel) advance() error {
	next, err := c.frames.ReadFrame()
	if err != nil {
		return err
	}
	id := next.Header().StreamID
	switch frame := next.(type) {
	case *http2.DataFrame:
		if call := c.underWay[id]; call != nil {
			call.body = append(call.body, frame.Data()...)
		}
		if c.read += frame.Length; c.read > connectionBytes/2 {
			err, c.read = c.frames.WriteWindowUpdate(0, c.read), 0
		}
		if frame.StreamEnded() {
			return errors.New("an answer without trailers")
		}
	case *http2.HeadersFrame:
		if !frame.HeadersEnded() {
			return errors.New("headers too long for one frame")
		}
		c.status, c.details = "", ""
		if _, err = c.decoder.Write(frame.HeaderBlockFragment()); err == nil {
			err = c.decoder.Close()
		}
		if err == nil && frame.StreamEnded() {
			err = c.end(id)
		}
	case *http2.RSTStreamFrame:
		return fmt.Errorf("the call was reset: %s", frame.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Errorf("the service is leaving: %s %s", frame.ErrCode, frame.DebugData())
	case *http2.WindowUpdateFrame:
		if id == 0 {
			c.room += int(frame.Increment)
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			err = c.frames.WritePing(true, frame.Data)
		}
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			if window, said := frame.Value(http2.SettingInitialWindowSize); said {
				c.streamRoom = int(window)
			}
			c.greeted = true
			err = c.frames.WriteSettingsAck()
		}
	}
	return err
}

// heed notes a field of a header block.
func (c *Channel) heed(field hpack.HeaderField) {
	switch field.Name {
	case "grpc-status":
		c.status = field.Value
	case "grpc-message":
		c.details = field.Value
	}
}

// end is that of a stream, whose trailers were the last header block.
func (c *Channel) end(id uint32) error {
	call := c.underWay[id]
	if call == nil {
		return fmt.Errorf("an answer on stream %d, where nothing was asked", id)
	}
	if c.status != "0" {
		return fmt.Errorf("status %q: %s", c.status, c.details)
	}
	delete(c.underWay, id)
	c.answered = append(c.answered, call)
	return nil
}
