//go:build ignore

// check decodes frames with Go's own decoders, as OpenIM's Go SDK and gateway do.
// Each line of standard input is {"struct", "codec", "gzip", "hex"}; the same line
// of standard output is the decoded fields, data in hex, or {"error"}. Standard
// library only.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
)

type request struct {
	ReqIdentifier                       int32
	Token, SendID, OperationID, MsgIncr string
	Data                                []byte
}

type response struct {
	ReqIdentifier, ErrCode       int
	ErrMsg, MsgIncr, OperationID string
	Data                         []byte
}

type order struct {
	Struct, Codec, Hex string
	Gzip               bool
}

func content(o order) ([]byte, error) {
	raw, err := hex.DecodeString(o.Hex)
	if err != nil || !o.Gzip {
		return raw, err
	}
	reader, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

func decode(o order, into any) error {
	raw, err := content(o)
	if err != nil {
		return err
	}
	if o.Codec == "json" {
		return json.Unmarshal(raw, into)
	}
	reader := bytes.NewReader(raw)
	if err := gob.NewDecoder(reader).Decode(into); err != nil {
		return err
	}
	if reader.Len() != 0 {
		return errors.New("bytes left over")
	}
	return nil
}

func run(o order) map[string]any {
	var q request
	var r response
	if o.Struct == "request" {
		if err := decode(o, &q); err != nil {
			return map[string]any{"error": err.Error()}
		}
		return map[string]any{"op": q.ReqIdentifier, "token": q.Token, "send_id": q.SendID, "operation_id": q.OperationID,
			"msg_incr": q.MsgIncr, "data": hex.EncodeToString(q.Data)}
	}
	if err := decode(o, &r); err != nil {
		return map[string]any{"error": err.Error()}
	}
	return map[string]any{"op": r.ReqIdentifier, "msg_incr": r.MsgIncr, "operation_id": r.OperationID, "err_code": r.ErrCode,
		"err_msg": r.ErrMsg, "data": hex.EncodeToString(r.Data)}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			panic(err)
		}
		if err := out.Encode(run(o)); err != nil {
			panic(err)
		}
	}
}
