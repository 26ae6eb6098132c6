//go:build ignore

// generate writes vectors.json: frames and handshake queries, with what Go's own
// encoding/gob, encoding/json and net/url make of them. Standard library only:
//
//	go run generate.go > vectors.json
//
// Equal runs give equal bytes. A process numbers its gob types in the order it
// meets them, so each struct is encoded by a child process of its own, where it
// has the first free number.
package main

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// What OpenIM's gateway reads and writes.
type Req struct {
	ReqIdentifier int32  `json:"reqIdentifier"`
	Token         string `json:"token"`
	SendID        string `json:"sendID"`
	OperationID   string `json:"operationID"`
	MsgIncr       string `json:"msgIncr"`
	Data          []byte `json:"data"`
}

type Resp struct {
	ReqIdentifier int32  `json:"reqIdentifier"`
	MsgIncr       string `json:"msgIncr"`
	OperationID   string `json:"operationID"`
	ErrCode       int    `json:"errCode"`
	ErrMsg        string `json:"errMsg"`
	Data          []byte `json:"data"`
}

// What OpenIM's Go SDK writes and reads.
type GeneralWsReq struct {
	ReqIdentifier int    `json:"reqIdentifier"`
	Token         string `json:"token"`
	SendID        string `json:"sendID"`
	OperationID   string `json:"operationID"`
	MsgIncr       string `json:"msgIncr"`
	Data          []byte `json:"data"`
}

type GeneralWsResp struct {
	ReqIdentifier int    `json:"reqIdentifier"`
	ErrCode       int    `json:"errCode"`
	ErrMsg        string `json:"errMsg"`
	MsgIncr       string `json:"msgIncr"`
	OperationID   string `json:"operationID"`
	Data          []byte `json:"data"`
}

// Senders that a lenient reader must cope with.
type Inner struct {
	A int
	B []string
}

type Tree struct {
	Label    string
	Children []*Tree
	ByName   map[string]*Tree
}

type Loud struct{ Word string }

func (l Loud) MarshalText() ([]byte, error)  { return []byte(l.Word), nil }
func (l *Loud) UnmarshalText(b []byte) error { l.Word = string(b); return nil }

type Deep struct{ Any any }

type Everything struct {
	Flag          bool
	Token         string
	ReqIdentifier int64
	Unsigned      uint16
	Float         float32
	Imaginary     complex128
	SendID        string
	Array         [3]int16
	Bytes         [4]byte
	Slice         []Inner
	Slices        [][]uint64
	Map           map[string]map[int8][]float64
	Struct        Inner
	Pointer       ***Inner
	Tree          *Tree
	Time          time.Time
	Big           *big.Int
	Loud          Loud
	Any           any
	Anys          []any
	OperationID   string
	Blob          []byte
	Data          []byte
}

type Narrow struct {
	Data          []byte
	ReqIdentifier int8
	MsgIncr       string
}

type NoField struct{ Other int }
type WrongText struct{ Token []byte }
type WrongData struct{ Data [2]byte }
type WrongKind struct{ ReqIdentifier float64 }
type WrongStruct struct{ SendID Inner }
type WrongOpaque struct{ Data *big.Int }
type SmallCase struct {
	SendId string
	Token  string
}

const unicode = "用户-ü-😀-\u2028-<&>\"\\\n\x01"

func frames(name string) []any {
	long := strings.Repeat("x", 300)
	switch name {
	case "Req":
		return []any{
			Req{}, Req{2005, "t", "u1", "op", "1", []byte{10, 2}}, Req{-2147483648, "", unicode, long, "", nil},
			Req{2147483647, "", "", "", "", make([]byte, 130)},
		}
	case "GeneralWsReq":
		return []any{
			GeneralWsReq{}, GeneralWsReq{1001, "", "u1", "1763893837123456789-42", "u1_1_1763893837123", nil},
			GeneralWsReq{2005, "a.b.c", "u1", "op", "7", []byte{10, 2, 'u', '2'}}, GeneralWsReq{-1, unicode, "", long, "", []byte{}},
			GeneralWsReq{63, "", "", "", "", []byte{0}}, GeneralWsReq{64, "", "", "", "", []byte{0}}, GeneralWsReq{-65, "", "", "", "", nil},
			GeneralWsReq{2004, "", "a\xff\xe2\x82\xff", "", "", nil},
		}
	case "Resp":
		return []any{
			Resp{}, Resp{2002, "", "", 0, "", nil}, Resp{2005, "u1_1_1", "op", 0, "", []byte{10, 4, 10, 2, 'u', '1'}},
			Resp{1003, "9", "op", 1004, "RecordNotFoundError", nil}, Resp{-1, unicode, long, -9223372036854775808, unicode, make([]byte, 200)},
			Resp{2147483647, "", "", 9223372036854775807, "", []byte{}},
		}
	case "GeneralWsResp":
		return []any{GeneralWsResp{}, GeneralWsResp{2005, 1001, "ArgsError", "3", "op", []byte{1, 2, 3}}}
	case "Everything":
		inner := &Inner{7, []string{"a", "", "c"}}
		twice := &inner
		tree := &Tree{"root", []*Tree{{"left", nil, nil}, {"", nil, map[string]*Tree{"x": {"leaf", nil, nil}}}}, nil}
		return []any{
			Everything{
				true, "", 2004, 65535, 1.5, complex(-1, 2e300), "u1", [3]int16{-1, 0, 300}, [4]byte{1, 2, 3, 4},
				[]Inner{{1, nil}, {}, {-2, []string{"z"}}}, [][]uint64{{1, 1 << 63}, nil, {}},
				map[string]map[int8][]float64{"k": {-3: {0, 1e-9}}}, Inner{0, []string{"q"}}, &twice, tree,
				time.Unix(1763893837, 5).UTC(), big.NewInt(-123456789), Loud{"hey"}, Inner{5, nil},
				[]any{int64(5), "text", Inner{1, []string{"w"}}, Deep{Inner{2, nil}}}, "op", []byte{9}, []byte{8, 7},
			},
			Everything{SendID: "only"}, Everything{Tree: tree, Data: []byte{1}},
			Everything{Any: Deep{Deep{3}}, OperationID: "nested interfaces"},
		}
	case "NilInterfaces":
		return []any{Everything{Anys: []any{nil, int64(5), nil}, Token: "nil interfaces"}}
	case "Narrow":
		return []any{Narrow{[]byte{1}, -128, "m"}}
	case "NoField":
		return []any{NoField{3}}
	case "NoStruct":
		return []any{map[string]int{"a": 1}, []Inner{{1, nil}}, "text", 5}
	case "Wrong":
		return []any{WrongText{[]byte("t")}, WrongData{[2]byte{1, 2}}, WrongKind{1}, WrongStruct{Inner{1, nil}}, WrongOpaque{big.NewInt(5)}, SmallCase{"a", "t"}}
	}
	panic(name)
}

type frame struct {
	Struct string         `json:"struct"`
	Codec  string         `json:"codec"`
	Hex    string         `json:"hex"`
	Fields map[string]any `json:"fields,omitempty"`
}

func fields(v any) map[string]any {
	switch r := v.(type) {
	case Req:
		return map[string]any{"op": r.ReqIdentifier, "token": r.Token, "send_id": r.SendID, "operation_id": r.OperationID, "msg_incr": r.MsgIncr, "data": hex.EncodeToString(r.Data)}
	case GeneralWsReq:
		return map[string]any{"op": r.ReqIdentifier, "token": r.Token, "send_id": r.SendID, "operation_id": r.OperationID, "msg_incr": r.MsgIncr, "data": hex.EncodeToString(r.Data)}
	case Resp:
		return map[string]any{"op": r.ReqIdentifier, "msg_incr": r.MsgIncr, "operation_id": r.OperationID, "err_code": r.ErrCode, "err_msg": r.ErrMsg, "data": hex.EncodeToString(r.Data)}
	case GeneralWsResp:
		return map[string]any{"op": r.ReqIdentifier, "msg_incr": r.MsgIncr, "operation_id": r.OperationID, "err_code": r.ErrCode, "err_msg": r.ErrMsg, "data": hex.EncodeToString(r.Data)}
	}
	return nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func encodeAll(name string) {
	gob.Register(Inner{})
	gob.Register(Deep{})
	var out []frame
	for _, v := range frames(name) {
		var b bytes.Buffer
		must(gob.NewEncoder(&b).Encode(v))
		out = append(out, frame{name, "gob", hex.EncodeToString(b.Bytes()), fields(v)})
		if fields(v) != nil {
			j, err := json.Marshal(v)
			must(err)
			out = append(out, frame{name, "json", hex.EncodeToString(j), fields(v)})
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(out))
}

// A case is a frame, or another case's frame with some bytes replaced, and what
// Go decodes it to as the gateway's Req: null if it refuses.
type decodeCase struct {
	Codec  string         `json:"codec"`
	Hex    string         `json:"hex,omitempty"`
	Base   int            `json:"base,omitempty"`
	Edits  [][2]int       `json:"edits,omitempty"`
	Fields map[string]any `json:"fields"`
}

func decode(codec string, data []byte) (result map[string]any) {
	defer func() {
		if recover() != nil {
			result = nil
		}
	}()
	var r Req
	var err error
	if codec == "gob" {
		err = gob.NewDecoder(bytes.NewReader(data)).Decode(&r)
	} else {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return nil
	}
	return fields(r)
}

var jsonTexts = []string{
	``, ` `, `null`, ` null `, `nul`, `true`, `3`, `"x"`, `[]`, `{}`, ` {	} `, `{}x`, `{},`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{'a':1}`, `{a:1}`,
	"\xef\xbb\xbf{}", `{"SENDID":"a"}`, `{"sendid":"a","sendID":"b","SendId":"c"}`, `{"sendID":"b","sendID":null}`, `{"ſendID":"long s"}`,
	"{\"to\u212Aen\":\"Kelvin\"}", `{"to\u212aen":"escaped Kelvin"}`, `{"reqIdentiﬁer":1}`, `{"send\u0049D":"escaped key"}`, `{"":1,"sendID":"x"}`,
	`{"reqIdentifier":-0}`, `{"reqIdentifier":00}`, `{"reqIdentifier":-1}`, `{"reqIdentifier":+1}`, `{"reqIdentifier":1.0}`, `{"reqIdentifier":1e0}`,
	`{"reqIdentifier":1E2}`, `{"reqIdentifier":2147483647}`, `{"reqIdentifier":2147483648}`, `{"reqIdentifier":-2147483648}`, `{"reqIdentifier":-2147483649}`,
	`{"reqIdentifier":99999999999999999999}`, `{"reqIdentifier":true}`, `{"reqIdentifier":"1"}`, `{"reqIdentifier":[1]}`, `{"reqIdentifier":{}}`, `{"reqIdentifier":null}`,
	`{"reqIdentifier":0x10}`, `{"reqIdentifier":1_0}`, `{"reqIdentifier":NaN}`, `{"reqIdentifier":Infinity}`, `{"reqIdentifier":-}`, `{"reqIdentifier":.5}`, `{"reqIdentifier":1.}`,
	`{"x":1.5e300,"y":[1,{"z":[null,true,false,"",-0.0]}],"sendID":"u"}`, `{"x":1e999999,"sendID":"huge number skipped"}`, `{"x":NaN}`, `{"x":-Infinity}`, `{"x":01}`,
	`{"token":"\ud83d\ude00"}`, `{"token":"\ud83d"}`, `{"token":"\ude00\ud83d"}`, `{"token":"\ud83dx"}`, `{"token":"\ud83d\u0041"}`, `{"token":"\u00e9\/\b\f\n\r\t\\\""}`, `{"token":"\x41"}`, `{"token":"\u12"}`,
	`{"token":"\u12G4"}`, `{"token":"\'"}`, "{\"token\":\"a\nb\"}", "{\"token\":\"a\x00b\"}", "{\"token\":\"a\x7fb\"}", "{\"token\":\"\xff\"}", "{\"token\":\"\xe2\x82\"}", "{\"token\":\"\xed\xa0\x80\"}", "{\"token\":\"\xf0\x9f\x98\"}",
	"{\"\xff\":1}", "\xff{}", "{}\xff", "{\"token\"\xff:1}", `{"token":"unterminated`, `{"token":3}`, `{"token":[]}`, `{"token":{}}`, `{"token":false}`,
	`{"data":""}`, `{"data":"AA=="}`, `{"data":"AB=="}`, `{"data":"AAA="}`, `{"data":"AAB="}`, `{"data":"AAAA"}`, `{"data":"AA"}`, `{"data":"AA="}`, `{"data":"A"}`, `{"data":"A==="}`, `{"data":"===="}`, `{"data":"AA==AA=="}`, `{"data":"AA==\n"}`,
	`{"data":"A\r\nA=\n=\r\n"}`, `{"data":"\n"}`, `{"data":" AA=="}`, `{"data":"AA= ="}`, `{"data":"+/+/"}`, `{"data":"-_-_"}`, `{"data":"\u0041A=="}`, `{"data":"Aé=="}`, "{\"data\":\"AA\xff=\"}", `{"data":"=AAA"}`, `{"data":"AAAAA=="}`, `{"data":"AA==="}`,
	`{"data":[]}`, `{"data":[0,255]}`, `{"data":[256]}`, `{"data":[-1]}`, `{"data":[-0]}`, `{"data":[1.0]}`, `{"data":["1"]}`, `{"data":[null]}`, `{"data":[[1]]}`, `{"data":[true]}`, `{"data":[1,]}`, `{"data":[9999999999999999999999]}`,
	`{"data":{}}`, `{"data":1}`, `{"data":true}`, `{"data":"AA==","data":null}`, `{"data":null,"data":"AA=="}`, `{"data":"AA==","data":[1]}`, `{"DATA":"AA=="}`,
	`[{"sendID":"a"}]`, `{"sendID":"a"}{"sendID":"b"}`, "{\"sendID\":\"a\"}\n\n", "{\"sendID\":\"a\"}\u00a0", "\v{}", "{\"sendID\":\"a\"}\x00", `{"sendID":"a"/**/}`, `{"sendID":"a"} //`,
	strings.Repeat("[", 200) + strings.Repeat("]", 200), `{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `,"sendID":"deep"}`, `{"x":` + strings.Repeat("[", 200) + `}`,
}

func mutants(bases []decodeCase, count int) []decodeCase {
	rng := rand.New(rand.NewSource(1))
	var out []decodeCase
	for range count {
		base := rng.Intn(len(bases))
		data, err := hex.DecodeString(bases[base].Hex)
		must(err)
		if len(data) == 0 {
			continue
		}
		var edits [][2]int
		for range 1 + rng.Intn(3) {
			at := rng.Intn(len(data))
			value := rng.Intn(256)
			switch rng.Intn(4) {
			case 0:
				value = int(data[at]) ^ 1<<rng.Intn(8)
			case 1:
				value = (int(data[at]) + 1 - 2*rng.Intn(2)) & 255
			case 2:
				value = []int{0, 1, 2, 0x7f, 0x80, 0xff, 0xfe, 0xf8, 0xf7, '"', '\\', '{', '}', ',', ':', '='}[rng.Intn(16)]
			}
			data[at] = byte(value)
			edits = append(edits, [2]int{at, value})
		}
		out = append(out, decodeCase{Codec: bases[base].Codec, Base: base, Edits: edits, Fields: decode(bases[base].Codec, data)})
	}
	return out
}

var queries = []string{
	"", "a=1", "a=1&a=2", "a", "a=", "=1", "&&a=1&", "a=1;b=2", "a=1;&b=2", "a=%zz&b=2", "a=%zz&a=2", "a=%4", "a=%", "%zz=1&b=2", "send%49D=u1", "a=%41%e7%94%a8",
	"a+b=c+d", "a=%2B%26%3D", "a=b=c", "a==", "a=%00", "a=用户", "A=1&a=2", "a=1#b", "a=1?b=2", "%=1&x=2", "a=%2", "a%3D=1", "+=1", "a=1&b=%E7%94", "a=1&b=%e7%94%a8%+",
}

func main() {
	if len(os.Args) == 2 {
		encodeAll(os.Args[1])
		return
	}
	var all []frame
	for _, name := range []string{"Req", "GeneralWsReq", "Resp", "GeneralWsResp", "Everything", "Narrow", "NoField", "NoStruct", "Wrong", "NilInterfaces"} {
		raw, err := exec.Command(os.Args[0], name).Output()
		must(err)
		var some []frame
		reader := json.NewDecoder(bytes.NewReader(raw))
		reader.UseNumber()
		must(reader.Decode(&some))
		all = append(all, some...)
	}
	var cases []decodeCase
	add := func(codec string, data []byte) {
		cases = append(cases, decodeCase{Codec: codec, Hex: hex.EncodeToString(data), Fields: decode(codec, data)})
	}
	for _, f := range all {
		if f.Struct == "NilInterfaces" {
			continue // Go writes such a value, but cannot step over it
		}
		data, err := hex.DecodeString(f.Hex)
		must(err)
		add(f.Codec, data)
	}
	for _, text := range jsonTexts {
		add("json", []byte(text))
	}
	cases = append(cases, mutants(cases, 1200)...)
	type query struct {
		Raw    string            `json:"raw"`
		Values map[string]string `json:"values"`
	}
	var parsed []query
	for _, raw := range queries {
		values, _ := url.ParseQuery(raw)
		first := map[string]string{}
		for k, v := range values {
			first[k] = hex.EncodeToString([]byte(v[0]))
		}
		parsed = append(parsed, query{raw, first})
	}
	lines := func(name string, count int, item func(int) any, last string) {
		fmt.Printf(" %q: [\n", name)
		for i := range count {
			raw, err := json.Marshal(item(i))
			must(err)
			comma := ","
			if i == count-1 {
				comma = ""
			}
			fmt.Printf("  %s%s\n", raw, comma)
		}
		fmt.Printf(" ]%s\n", last)
	}
	fmt.Println("{")
	lines("frames", len(all), func(i int) any { return all[i] }, ",")
	lines("decode", len(cases), func(i int) any { return cases[i] }, ",")
	lines("queries", len(parsed), func(i int) any { return parsed[i] }, "")
	fmt.Println("}")
}
