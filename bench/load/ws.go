package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// RFC 6455, section 5.2.
const (
	final     = 0x80
	masked    = 0x80
	opBinary  = 0x2
	opClose   = 0x8
	opPing    = 0x9
	opPong    = 0xA
	sevenBits = 0x7F
)

// From one address there are about 28,000 ports to one of the service's, so 10,000 and their
// predecessors, which TIME_WAIT may hold, fit.
const connectionsPerSource = 10_000

// A mask that changes bytes, so that the server does its whole work, and makes frames that can be
// prepared once.
var mask = [4]byte{0x5A, 0xC3, 0x17, 0x8E}

// Socket is one WebSocket connection to the service.
type Socket struct {
	net.Conn
	reader *bufio.Reader
}

// dial opens the number-th TCP connection, without the handshake.
func (t *Target) dial(number, bufferBytes int) (*Socket, error) {
	source := net.IPv4(127, 0, 1, byte(1+number/connectionsPerSource))
	// A time limit would cost a goroutine a connection, keep-alive some system calls.
	dialer := net.Dialer{KeepAlive: -1, LocalAddr: &net.TCPAddr{IP: source}}
	connection, err := dialer.Dial("tcp", t.ws)
	if err != nil {
		return nil, err
	}
	return &Socket{connection, bufio.NewReaderSize(connection, bufferBytes)}, nil
}

// upgrade prepares the opening request.
func (t *Target) upgrade(query string) []byte {
	// A key need only be fresh to keep caches away, and there are none.
	return []byte("GET /?" + query + " HTTP/1.1\r\nHost: " + t.ws + "\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
}

// open does the handshake.
func (s *Socket) open(request []byte) error {
	if _, err := s.Write(request); err != nil {
		return err
	}
	line, err := s.line()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("refused: %s", s.refusal(string(line)))
	}
	for len(line) > 0 {
		if line, err = s.line(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Socket) line() ([]byte, error) {
	line, err := s.reader.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// refusal is the answer to a handshake that failed, in words; OpenIM's has its reason in the body.
func (s *Socket) refusal(line string) string {
	rest := io.MultiReader(strings.NewReader(line+"\r\n"), s.reader)
	response, err := http.ReadResponse(bufio.NewReader(rest), nil)
	if err != nil {
		return line
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 300))
	return line + " " + string(body)
}

// message is the payload of the next binary message, valid until the next call. Pings are answered.
func (s *Socket) message(buffer []byte) ([]byte, error) {
	for {
		opcode, payload, err := s.frame(buffer)
		if err != nil {
			return nil, err
		}
		switch opcode {
		case opBinary:
			return payload, nil
		case opPing:
			if _, err := s.Write(frame(opPong, payload)); err != nil {
				return nil, err
			}
		case opPong:
		case opClose:
			return nil, fmt.Errorf("closed by the service: % x %q", payload[:min(2, len(payload))], payload[min(2, len(payload)):])
		default:
			return nil, fmt.Errorf("frame of kind %#x: %q", opcode, payload)
		}
	}
}

func (s *Socket) frame(buffer []byte) (byte, []byte, error) {
	head, err := s.reader.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	if head[0]&final == 0 || head[1]&masked != 0 {
		return 0, nil, errors.New("a fragmented or masked frame")
	}
	opcode, length, skip := head[0]&0x0F, int(head[1]&sevenBits), 2
	switch length {
	case 126:
		skip = 4
	case 127:
		skip = 10
	}
	if head, err = s.reader.Peek(skip); err != nil {
		return 0, nil, err
	}
	switch length {
	case 126:
		length = int(binary.BigEndian.Uint16(head[2:]))
	case 127:
		length = int(binary.BigEndian.Uint64(head[2:]))
	}
	if _, err = s.reader.Discard(skip); err != nil {
		return 0, nil, err
	}
	if cap(buffer) < length {
		buffer = make([]byte, length)
	}
	_, err = io.ReadFull(s.reader, buffer[:length])
	return opcode, buffer[:length], err
}

// frame is a client's frame with this payload.
func frame(opcode byte, payload []byte) []byte {
	framed := []byte{final | opcode}
	switch length := len(payload); {
	case length < 126:
		framed = append(framed, masked|byte(length))
	case length < 1<<16:
		framed = binary.BigEndian.AppendUint16(append(framed, masked|126), uint16(length))
	default:
		framed = binary.BigEndian.AppendUint64(append(framed, masked|127), uint64(length))
	}
	framed = append(framed, mask[:]...)
	for index, value := range payload {
		framed = append(framed, value^mask[index%4])
	}
	return framed
}

// abort drops the connection without leaving its port in TIME_WAIT.
func (s *Socket) abort() {
	if tcp, ok := s.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = s.Close()
}
