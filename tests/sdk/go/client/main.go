// Command client is one app on OpenIM's Go SDK, told what to do by lines of JSON on
// standard input; each thing the SDK reports is a line of JSON on standard output.
//
// The SDK also needs OpenIM's HTTP API, for messages: a stub here answers every call
// with success and no data.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"

	sdk "github.com/openimsdk/openim-sdk-core/v3/open_im_sdk"
)

var output sync.Mutex

func report(event string, data any) {
	line, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

type connection struct{}

func (connection) OnConnecting()                           { report("connecting", nil) }
func (connection) OnConnectSuccess()                       { report("connected", nil) }
func (connection) OnConnectFailed(code int32, text string) { report("failed", []any{code, text}) }
func (connection) OnKickedOffline()                        { report("kicked", nil) }
func (connection) OnUserTokenExpired()                     { report("expired", nil) }
func (connection) OnUserTokenInvalid(text string)          { report("invalid", text) }

type users struct{}

func (users) OnSelfInfoUpdated(string)     {}
func (users) OnUserCommandAdd(string)      {}
func (users) OnUserCommandDelete(string)   {}
func (users) OnUserCommandUpdate(string)   {}
func (users) OnUserStatusChanged(s string) { report("changed", json.RawMessage(s)) }

// answer reports what a call of the SDK came to, under the call's name.
type answer string

func (a answer) OnError(code int32, text string) { report(string(a), []any{code, text}) }

func (a answer) OnSuccess(data string) {
	if json.Valid([]byte(data)) {
		report(string(a), json.RawMessage(data))
	} else {
		report(string(a), nil)
	}
}

type command struct {
	Do     string
	User   string
	Token  string
	Users  []string
	Behind bool
}

func (c command) run() {
	ids, _ := json.Marshal(c.Users)
	call := "adsum-" + c.Do
	switch c.Do {
	case "login":
		sdk.Login(answer(c.Do), call, c.User, c.Token)
	case "subscribe":
		sdk.SubscribeUsersStatus(answer(c.Do), call, string(ids))
	case "unsubscribe":
		sdk.UnsubscribeUsersStatus(answer(c.Do), call, string(ids))
	case "subscribed":
		sdk.GetSubscribeUsersStatus(answer(c.Do), call)
	case "background":
		sdk.SetAppBackgroundStatus(answer(c.Do), call, c.Behind)
	case "logout":
		sdk.Logout(answer(c.Do), call)
	default:
		panic("unknown command " + c.Do)
	}
}

// Arguments: a folder for the SDK's files, the service's WebSocket address, the platform's ID.
func main() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"errCode":0,"errMsg":"","errDlt":"","data":{}}`)
	}))
	defer api.Close()
	platform, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	config, _ := json.Marshal(map[string]any{
		"platformID": platform, "apiAddr": api.URL, "wsAddr": os.Args[2],
		"dataDir": os.Args[1], "logFilePath": os.Args[1], "logLevel": 6,
	})
	if !sdk.InitSDK(connection{}, "adsum-init", string(config)) {
		panic("the SDK refuses its configuration")
	}
	sdk.SetUserListener(users{})
	report("ready", sdk.GetSdkVersion())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var next command
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			panic(err)
		}
		next.run()
	}
}
