//go:build ignore

// golden writes golden/*.json: frames, frames to decode, protobuf messages, handshake queries and
// calls, with what Go's standard library makes of them. Protobuf is written by the few lines here.
//
//	go run golden.go
//
// Equal runs give equal bytes. A process numbers its gob types in the order it meets them, so each
// struct is encoded by a child process of its own.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// What OpenIM's gateway reads and writes.
type Req struct {
	ReqIdentifier                       int32
	Token, SendID, OperationID, MsgIncr string
	Data                                []byte
}

type Resp struct {
	ReqIdentifier        int32
	MsgIncr, OperationID string
	ErrCode              int
	ErrMsg               string
	Data                 []byte
}

// What OpenIM's Go SDK writes and reads.
type GeneralWsReq struct {
	ReqIdentifier                       int
	Token, SendID, OperationID, MsgIncr string
	Data                                []byte
}

type GeneralWsResp struct {
	ReqIdentifier        int
	ErrCode              int
	ErrMsg               string
	MsgIncr, OperationID string
	Data                 []byte
}

// Takes the first free type number, so that the next struct has another.
type Other struct{ A, B string }

type object = map[string]any

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func name(i int) string { return []string{"empty", "usual", "greatest", "least", "unicode", "long"}[i] }

// Values of the fields: what is left out is zero.
var (
	ops   = []int32{0, 2005, 1<<31 - 1, -1 << 31, 2004, 1001}
	codes = []int{0, 0, 1<<31 - 1, -1, 1504, 90002}
	texts = []string{"", "u1", "\x00", "a b", "用户😀", strings.Repeat("x", 300)}
	datas = [][]byte{nil, {10, 2, 'u', '1'}, {0}, {255, 254}, []byte("用"), bytes.Repeat([]byte{7}, 700)}
)

func values(kind string, i int) (any, object) {
	op, code, text, data := ops[i], codes[i], texts[i], datas[i]
	fields := object{"reqIdentifier": op, "operationID": text, "msgIncr": text + "i", "data": hex.EncodeToString(data)}
	if strings.HasSuffix(kind, "Req") {
		fields["token"], fields["sendID"] = text+"t", text
	} else {
		fields["errCode"], fields["errMsg"] = code, text+"m"
	}
	switch kind {
	case "Req":
		return Req{op, text + "t", text, text, text + "i", data}, fields
	case "GeneralWsReq":
		return GeneralWsReq{int(op), text + "t", text, text, text + "i", data}, fields
	case "Resp":
		return Resp{op, text + "i", text, code, text + "m", data}, fields
	default:
		return GeneralWsResp{int(op), code, text + "m", text + "i", text, data}, fields
	}
}

func inJSON(fields object, data []byte) []byte {
	copied := object{}
	for key, value := range fields {
		copied[key] = value
	}
	copied["data"] = data
	raw, err := json.Marshal(copied)
	must(err)
	return raw
}

// In a child process: the frames of one struct, in hex.
func encode(kind string, others string) {
	if others != "" {
		must(gob.NewEncoder(&bytes.Buffer{}).Encode(Other{}))
	}
	var out []string
	for i := range ops {
		var buffer bytes.Buffer
		value, _ := values(kind, i)
		must(gob.NewEncoder(&buffer).Encode(value))
		out = append(out, hex.EncodeToString(buffer.Bytes()))
	}
	must(json.NewEncoder(os.Stdout).Encode(out))
}

func zipped(data []byte) string {
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	_, err := writer.Write(data)
	must(err)
	must(writer.Close())
	return hex.EncodeToString(buffer.Bytes())
}

func frames() (out []object) {
	for _, kind := range []string{"Req", "GeneralWsReq", "Resp", "GeneralWsResp"} {
		for _, others := range []string{"", "others"} {
			raw, err := exec.Command(os.Args[0], kind, others).Output()
			must(err)
			var hexes []string
			must(json.Unmarshal(raw, &hexes))
			for i, text := range hexes {
				_, fields := values(kind, i)
				data, _ := hex.DecodeString(text)
				out = append(out, object{"name": kind + "_" + name(i) + others, "struct": kind, "sdkType": "go",
					"gob_type_id": 64 + len(others)/6, "fields": fields, "hex": text, "gzip_hex": zipped(data)})
			}
		}
		for i := range ops {
			_, fields := values(kind, i)
			data := inJSON(fields, datas[i])
			out = append(out, object{"name": kind + "_" + name(i) + "_json", "struct": kind, "sdkType": "js",
				"fields": fields, "hex": hex.EncodeToString(data), "gzip_hex": zipped(data)})
		}
	}
	return out
}

// What the gateway makes of bytes: Go's own decoders say.
func decodeCase(name, sdk string, data []byte) object {
	var got Req
	var err error
	if sdk == "js" {
		err = json.Unmarshal(data, &got)
	} else {
		err = gob.NewDecoder(bytes.NewReader(data)).Decode(&got)
	}
	found := object{"name": name, "sdkType": sdk, "hex": hex.EncodeToString(data), "ok": err == nil}
	if err == nil {
		found["fields"] = object{"reqIdentifier": got.ReqIdentifier, "token": got.Token, "sendID": got.SendID,
			"operationID": got.OperationID, "msgIncr": got.MsgIncr, "data": hex.EncodeToString(got.Data)}
	}
	return found
}

func decodeCases(all []object) (out []object) {
	good, _ := hex.DecodeString(all[1]["hex"].(string))
	add := func(name, sdk string, data []byte) { out = append(out, decodeCase(name, sdk, data)) }
	add("good", "go", good)
	add("more_behind", "go", append(append([]byte{}, good...), 1, 2, 3))
	add("twice", "go", append(append([]byte{}, good...), good...))
	for at := 0; at < len(good); at += 9 {
		add("cut_"+strconv.Itoa(at), "go", good[:at])
	}
	for _, text := range []string{
		`{"reqIdentifier":2005,"sendID":"u1","data":"CgJ1MQ=="}`, `{"REQIDENTIFIER":2004}`, `{"unknown":[1,{"a":null}]}`,
		`{"sendID":null}`, `{"sendID":"a","sendID":"b"}`, `{}`, `null`, `[]`, ``, `{`, `{"sendID":1}`, `{"reqIdentifier":1.5}`,
		`{"reqIdentifier":2147483648}`, `{"data":"!"}`, `{"data":[1,2,255]}`, `{"data":[256]}`, `{} x`, ` {"token":"\u00e4\n"} `,
	} {
		add("json "+text, "js", []byte(text))
	}
	return out
}

// Protobuf, field by field.
type message struct{ bytes.Buffer }

func (m *message) varint(v uint64) {
	for ; v >= 128; v >>= 7 {
		m.WriteByte(byte(v) | 128)
	}
	m.WriteByte(byte(v))
}

func (m *message) number(field int, v uint64) *message {
	if v != 0 {
		m.varint(uint64(field) << 3)
		m.varint(v)
	}
	return m
}

func (m *message) text(field int, texts ...string) *message {
	for _, text := range texts {
		m.varint(uint64(field)<<3 | 2)
		m.varint(uint64(len(text)))
		m.WriteString(text)
	}
	return m
}

func (m *message) packed(field int, numbers ...int32) *message {
	var inner message
	for _, number := range numbers {
		inner.varint(uint64(int64(number)))
	}
	if len(numbers) > 0 {
		m.text(field, inner.String())
	}
	return m
}

func (m *message) hex() string { return hex.EncodeToString(m.Bytes()) }

func of() *message { return &message{} }

func messages() []object {
	one := func(name, kind string, value object, m *message) object {
		return object{"name": name, "message": kind, "value": value, "hex": m.hex()}
	}
	elem := func(user string, platforms ...int32) string {
		return of().text(1, user).packed(2, platforms...).String()
	}
	const sdk, rpc = "openim.sdkws.", "openim.user."
	return []object{
		one("watch nobody", sdk+"SubUserOnlineStatus", object{"subscribeUserID": nil, "unsubscribeUserID": nil}, of()),
		one("watch two, drop one", sdk+"SubUserOnlineStatus",
			object{"subscribeUserID": []string{"a", "用户"}, "unsubscribeUserID": []string{"b"}}, of().text(1, "a", "用户").text(2, "b")),
		one("nobody", sdk+"SubUserOnlineStatusTips", object{"subscribers": nil}, of()),
		one("one on two, one off", sdk+"SubUserOnlineStatusTips", object{"subscribers": []object{
			{"userID": "a", "onlinePlatformIDs": []int{1, 300}}, {"userID": "b", "onlinePlatformIDs": nil}}},
			of().text(1, elem("a", 1, 300), elem("b"))),
		one("background", sdk+"SetAppBackgroundStatusReq", object{"userID": "a", "isBackground": true}, of().text(1, "a").number(2, 1)),
		one("foreground", sdk+"SetAppBackgroundStatusReq", object{"userID": "", "isBackground": false}, of()),
		one("set one", rpc+"setUserStatusReq",
			object{"userID": "a", "status": 1, "platformID": 2}, of().text(1, "a").number(2, 1).number(3, 2)),
		one("set many", rpc+"setUserOnlineStatusReq", object{"status": []object{
			{"userID": "a", "connID": "c", "online": []int{1, 2}, "offline": []int{5}}}},
			of().text(1, of().text(1, "a").text(2, "c").packed(3, 1, 2).packed(4, 5).String())),
		one("ask", rpc+"getUserStatusReq", object{"userID": "me", "userIDs": []string{"a", "b"}}, of().text(1, "me").text(2, "a", "b")),
		one("answer", rpc+"getUserStatusResp", object{"statusList": []object{{"userID": "a", "status": 1, "platformIDs": []int{1, 5}}}},
			of().text(1, of().text(1, "a").number(2, 1).packed(3, 1, 5).String())),
		one("list", rpc+"getAllOnlineUsersReq", object{"cursor": uint64(1)<<63 + 7}, of().number(1, 1<<63+7)),
		one("listed", rpc+"getAllOnlineUsersResp", object{"StatusList": []object{{"userID": "a", "status": 1, "platformIDs": []int{1}}}, "nextCursor": 9},
			of().text(1, of().text(1, "a").number(2, 1).packed(3, 1).String()).number(2, 9)),
	}
}

// The handshake by OpenIM's rules, of Go's own parts.
func handshake(query string, header object) (object, error) {
	asked, _ := url.ParseQuery(query)
	var info struct {
		Token, UserID, OperationID, Compression, SdkType, SdkVersion string
		PlatformID                                                   int
		SendResponse, Background                                     bool
	}
	if v := asked.Get("v"); v != "" {
		raw, err := base64.RawURLEncoding.DecodeString(v)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &info); err != nil {
			return nil, err
		}
	} else {
		var err error
		info.Token, info.UserID, info.OperationID = asked.Get("token"), asked.Get("sendID"), asked.Get("operationID")
		info.Compression, info.SdkType, info.SdkVersion = asked.Get("compression"), asked.Get("sdkType"), asked.Get("sdkVersion")
		if given, ok := header["compression"].(string); ok && info.Compression == "" {
			info.Compression = given
		}
		if info.PlatformID, err = strconv.Atoi(asked.Get("platformID")); err != nil {
			return nil, err
		}
		if info.Background, err = strconv.ParseBool(asked.Get("isBackground")); err != nil {
			return nil, err
		}
		if text := asked.Get("isMsgResp"); text != "" {
			if info.SendResponse, err = strconv.ParseBool(text); err != nil {
				return nil, err
			}
		}
	}
	if info.SdkType == "" {
		info.SdkType = "go"
	}
	if info.Token == "" || info.UserID == "" || info.OperationID == "" || info.PlatformID < 1 || info.PlatformID > 11 ||
		info.SdkType != "go" && info.SdkType != "js" {
		return nil, errors.New("missing or out of range")
	}
	return object{"background": info.Background, "gzip": info.Compression == "gzip", "operationID": info.OperationID,
		"platformID": info.PlatformID, "sdkType": info.SdkType, "sdkVersion": info.SdkVersion,
		"sendResponse": info.SendResponse, "token": info.Token, "userID": info.UserID}, nil
}

func queries() (out []object) {
	add := func(query string, header object) {
		decoded, err := handshake(query, header)
		found := object{"name": query, "query": query, "ok": err == nil}
		if err == nil {
			found["decoded"] = decoded
		}
		if header != nil {
			found["header"] = header
		}
		out = append(out, found)
	}
	const good = "sendID=alice&token=t.o.k&platformID=2&operationID=o&isBackground=false"
	for _, more := range []string{"", "&sdkType=js&isMsgResp=true", "&sdkType=go&compression=gzip", "&compression=zip", "&sdkType=c",
		"&isMsgResp=T", "&isMsgResp=maybe", "&sdkVersion=v3.8.9", "&sendID=second"} {
		add(good+more, nil)
	}
	add(good, object{"compression": "gzip"})
	for _, change := range [][2]string{{"platformID=2", "platformID=11"}, {"platformID=2", "platformID=12"}, {"platformID=2", "platformID=0"},
		{"platformID=2", "platformID=-1"}, {"platformID=2", "platformID=web"}, {"alice", ""}, {"alice", "%E7%94%A8+1"}, {"t.o.k", ""},
		{"operationID=o", "operationID="}, {"=false", "=1"}, {"=false", "=no"}, {"&isBackground=false", ""}} {
		add(strings.Replace(good, change[0], change[1], 1), nil)
	}
	for _, text := range []string{
		`{"token":"t","userID":"bob","platformID":5,"operationID":"o","sdkType":"js","background":true,"compression":"gzip","sendResponse":true}`,
		`{"token":"t","userID":"bob","platformID":5,"operationID":"o"}`, `{"Token":"t","USERID":"bob","platformid":5,"operationID":"o"}`,
		`{"token":"t","userID":"bob","platformID":"5","operationID":"o"}`, `{"token":"t","sendID":"bob","platformID":5,"operationID":"o"}`,
		`{"token":"t","userID":"bob","platformID":77,"operationID":"o"}`, `[]`, `what`,
	} {
		add("v="+base64.RawURLEncoding.EncodeToString([]byte(text)), nil)
	}
	add("v=e30%3D", nil)
	add("v=+/", nil)
	add("", nil)
	return out
}

// Calls one after another on one empty store, and who is online after each.
func calls() []object {
	online := func(user string, on, off []int32) string {
		return of().text(1, user).packed(3, on...).packed(4, off...).String()
	}
	state := func(user string, platforms ...int32) string {
		m := of().text(1, user)
		if len(platforms) > 0 {
			m.number(2, 1)
		}
		return m.packed(3, platforms...).String()
	}
	call := func(method string, request, reply *message, after object) object {
		return object{"name": method, "method": method, "request_hex": request.hex(), "reply_hex": reply.hex(), "grpc_code": 0, "after": after}
	}
	bad := func(method string, request *message, after object) object {
		return object{"name": method, "method": method, "request_hex": request.hex(), "grpc_code": 1001, "after": after}
	}
	a15 := object{"a": []int{1, 5}}
	both := object{"a": []int{1, 5}, "b": []int{2}}
	return []object{
		call("getUserStatus", of().text(2, "a"), of().text(1, state("a")), object{}),
		call("setUserOnlineStatus", of().text(1, online("a", []int32{5, 1}, nil)), of(), a15),
		call("setUserOnlineStatus", of().text(1, online("a", []int32{1}, nil)), of(), a15),
		call("setUserStatus", of().text(1, "b").number(2, 1).number(3, 2), of(), both),
		call("getUserStatus", of().text(2, "b", "a", "c"), of().text(1, state("b", 2), state("a", 1, 5), state("c")), both),
		bad("getUserStatus", of(), both),
		bad("setUserStatus", of().text(1, "b").number(2, 2).number(3, 2), both),
		bad("setUserStatus", of().number(2, 1).number(3, 2), both),
		call("setUserStatus", of().text(1, "b").number(3, 2), of(), a15),
		call("getAllOnlineUsers", of(), of().text(1, state("a", 1, 5)), a15),
		call("setUserOnlineStatus", of().text(1, online("a", nil, []int32{1, 5}), online("a", []int32{3}, nil)), of(), object{"a": []int{3}}),
		call("setUserOnlineStatus", of().text(1, online("a", nil, []int32{3})), of(), object{}),
		call("getAllOnlineUsers", of(), of(), object{}),
	}
}

func write(name string, items []object) {
	var out bytes.Buffer
	out.WriteString("[\n")
	for i, item := range items {
		raw, err := json.Marshal(item)
		must(err)
		out.Write(raw)
		if i < len(items)-1 {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
	}
	out.WriteString("]\n")
	must(os.WriteFile("golden/"+name, out.Bytes(), 0o644))
}

func main() {
	if len(os.Args) == 3 {
		encode(os.Args[1], os.Args[2])
		return
	}
	all := frames()
	write("frames.json", all)
	write("decode_cases.json", decodeCases(all))
	write("protobuf.json", messages())
	write("queries.json", queries())
	write("calls.json", calls())
}
