// Command rpc calls a user service with OpenIM's own generated client and client
// interceptor; what each call came to is a line of JSON on standard output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/openimsdk/protocol/constant"
	"github.com/openimsdk/protocol/user"
	"github.com/openimsdk/tools/errs"
	"github.com/openimsdk/tools/mw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const person = "erin"

// report prints the answer, or the code that OpenIM's own error type gives it.
func report(call string, answer any, err error) {
	line := map[string]any{"event": call, "data": answer}
	if err != nil {
		var coded errs.CodeError
		if !errors.As(err, &coded) {
			panic(fmt.Sprintf("%s: an error without a code: %v", call, err))
		}
		line["data"] = []any{coded.Code(), coded.Msg(), coded.Detail() != ""}
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// Argument: the service's gRPC address.
func main() {
	channel, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()), mw.GrpcClient())
	if err != nil {
		panic(err)
	}
	defer channel.Close()
	users := user.NewUserClient(channel)
	ctx := context.WithValue(context.Background(), constant.OperationID, "adsum-rpc")

	set, err := users.SetUserStatus(ctx, &user.SetUserStatusReq{UserID: person, Status: constant.Online, PlatformID: constant.IOSPlatformID})
	report("set", set, err)
	many, err := users.SetUserOnlineStatus(ctx, &user.SetUserOnlineStatusReq{Status: []*user.UserOnlineStatus{
		{UserID: person, ConnID: "c1", Online: []int32{constant.WebPlatformID}},
	}})
	report("set many", many, err)
	status, err := users.GetUserStatus(ctx, &user.GetUserStatusReq{UserID: "frank", UserIDs: []string{person, "nobody"}})
	report("get", status.GetStatusList(), err)
	all, err := users.GetAllOnlineUsers(ctx, &user.GetAllOnlineUsersReq{})
	report("all", []any{all.GetStatusList(), all.GetNextCursor()}, err)
	subscribed, err := users.SubscribeOrCancelUsersStatus(ctx, &user.SubscribeOrCancelUsersStatusReq{UserID: "frank", UserIDs: []string{person}, Genre: constant.SubscriberUser})
	report("subscribe", subscribed.GetStatusList(), err)
	watched, err := users.GetSubscribeUsersStatus(ctx, &user.GetSubscribeUsersStatusReq{UserID: "frank"})
	report("watched", watched.GetStatusList(), err)
	cancelled, err := users.SubscribeOrCancelUsersStatus(ctx, &user.SubscribeOrCancelUsersStatusReq{UserID: "frank", UserIDs: []string{person}, Genre: constant.Unsubscribe})
	report("cancel", cancelled.GetStatusList(), err)
	watched, err = users.GetSubscribeUsersStatus(ctx, &user.GetSubscribeUsersStatusReq{UserID: "frank"})
	report("watched no more", watched.GetStatusList(), err)
	_, err = users.SubscribeOrCancelUsersStatus(ctx, &user.SubscribeOrCancelUsersStatusReq{UserID: "frank", UserIDs: []string{person}, Genre: 7})
	report("bad genre", nil, err)
	_, err = users.GetUserStatus(ctx, &user.GetUserStatusReq{UserID: "frank"})
	report("no users", nil, err)
}
