package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
)

// Request identifiers of OpenIM's wire.
const (
	opSetBackground = 2004
	opWatch         = 2005
)

// The platform of every client here; the service pings none but Web clients (5).
const platformID = 1

// Codec is how the frames of a connection are written.
type Codec string

const (
	codecGob     Codec = "gob"
	codecGobGzip Codec = "gob-gzip"
	codecJSON    Codec = "json"
)

// Request is what OpenIM's Go SDK sends; gob names its fields on the wire.
type Request struct {
	ReqIdentifier int    `json:"reqIdentifier"`
	Token         string `json:"token"`
	SendID        string `json:"sendID"`
	OperationID   string `json:"operationID"`
	MsgIncr       string `json:"msgIncr"`
	Data          []byte `json:"data"`
}

// Response is what it reads.
type Response struct {
	ReqIdentifier int    `json:"reqIdentifier"`
	ErrCode       int    `json:"errCode"`
	ErrMsg        string `json:"errMsg"`
	MsgIncr       string `json:"msgIncr"`
	OperationID   string `json:"operationID"`
	Data          []byte `json:"data"`
}

// handshake prepares the opening request of a user.
func (t *Target) handshake(userID string, codec Codec) []byte {
	query := url.Values{
		"sendID": {userID}, "token": {t.token(userID, platformID)}, "platformID": {strconv.Itoa(platformID)},
		"operationID": {"load"}, "isBackground": {"false"}, "sdkType": {"go"},
	}
	switch codec {
	case codecJSON:
		query.Set("sdkType", "js")
	case codecGobGzip:
		query.Set("compression", "gzip")
	}
	return t.upgrade(query.Encode())
}

// pack is the frame of a request.
func (c Codec) pack(request *Request) ([]byte, error) {
	var payload bytes.Buffer
	var err error
	switch c {
	case codecJSON:
		err = json.NewEncoder(&payload).Encode(request)
	case codecGob:
		err = gob.NewEncoder(&payload).Encode(request)
	case codecGobGzip:
		member := gzip.NewWriter(&payload)
		if err = gob.NewEncoder(member).Encode(request); err == nil {
			err = member.Close()
		}
	default:
		err = fmt.Errorf("no codec %q", c)
	}
	return frame(opBinary, payload.Bytes()), err
}

// unpack is the response in a message; one that is an error is an error.
func (c Codec) unpack(payload []byte) (*Response, error) {
	var source io.Reader = bytes.NewReader(payload)
	var err error
	if c == codecGobGzip {
		if source, err = gzip.NewReader(source); err != nil {
			return nil, err
		}
	}
	response := &Response{}
	if c == codecJSON {
		err = json.NewDecoder(source).Decode(response)
	} else {
		err = gob.NewDecoder(source).Decode(response)
	}
	if err == nil && response.ErrCode != 0 {
		err = fmt.Errorf("answered with %d: %s", response.ErrCode, response.ErrMsg)
	}
	return response, err
}

// data is a part of an uncompressed message in which its data is as it was before it was packed. JSON has
// it in base64.
func (c Codec) data(payload []byte) []byte {
	if c != codecJSON {
		return payload
	}
	_, rest, _ := bytes.Cut(payload, []byte(`"data":"`))
	packed, _, _ := bytes.Cut(rest, []byte(`"`))
	data, _ := base64.StdEncoding.AppendDecode(nil, packed)
	return data
}

// connect opens the number-th connection.
func (t *Target) connect(number int, userID string, codec Codec, bufferBytes int) (*Socket, error) {
	socket, err := t.dial(number, bufferBytes)
	if err != nil {
		return nil, err
	}
	if err = socket.open(t.handshake(userID, codec)); err != nil {
		socket.abort()
		return nil, err
	}
	return socket, nil
}

// subscribe watches users, and returns when the service has told their present state.
func (s *Socket) subscribe(codec Codec, userID string, watched []string) error {
	var data []byte
	for _, watchedID := range watched {
		data = appendText(data, 1, watchedID)
	}
	request, err := codec.pack(&Request{opWatch, "", userID, "load", "subscribe", data})
	if err != nil {
		return err
	}
	if _, err = s.Write(request); err != nil {
		return err
	}
	for {
		payload, err := s.message(nil)
		if err != nil {
			return err
		}
		response, err := codec.unpack(payload)
		if err != nil || response.MsgIncr != "" { // without: a push
			return err
		}
	}
}
