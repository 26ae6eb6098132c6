// One app on OpenIM's JavaScript SDK, told what to do by lines of JSON on standard
// input; each thing the SDK reports is a line of JSON on standard output.
//
// The SDK also needs OpenIM's HTTP API, for messages: a stub here answers every call
// with success and no data.
//
// Arguments: the service's WebSocket address, the platform's ID.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// The package's module for `import` is not one that Node can load; this one is.
const { CbEvents, LogLevel, getSDK } = createRequire(import.meta.url)("@openim/client-sdk");

const [wsAddr, platform] = process.argv.slice(2);
const report = (event, data = null) => process.stdout.write(`${JSON.stringify({ event, data })}\n`);

const api = createServer((_, response) => {
  response.setHeader("Content-Type", "application/json");
  response.end('{"errCode":0,"errMsg":"","errDlt":"","data":{"usersInfo":[{}]}}');
});
await new Promise((listening) => api.listen(0, "127.0.0.1", listening));

const sdk = getSDK();
sdk.on(CbEvents.OnConnecting, () => report("connecting"));
sdk.on(CbEvents.OnConnectSuccess, () => report("connected"));
sdk.on(CbEvents.OnConnectFailed, ({ errCode, errMsg }) => report("failed", [errCode, errMsg]));
sdk.on(CbEvents.OnKickedOffline, () => report("kicked"));
sdk.on(CbEvents.OnUserTokenExpired, () => report("expired"));
sdk.on(CbEvents.OnUserTokenInvalid, ({ errMsg }) => report("invalid", errMsg));
sdk.on(CbEvents.OnUserStatusChanged, ({ data }) => report("changed", data));

const login = ({ user, token }) =>
  sdk.login({
    userID: user,
    token,
    platformID: Number(platform),
    wsAddr,
    apiAddr: `http://127.0.0.1:${api.address().port}`,
    logLevel: LogLevel.Silent,
  });

const commands = {
  login,
  subscribe: ({ users }) => sdk.subscribeUsersStatus(users),
  unsubscribe: ({ users }) => sdk.unsubscribeUsersStatus(users),
  subscribed: () => sdk.getSubscribeUsersStatus(),
  logout: () => sdk.logout(),
};

report("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  commands[command.do](command).then(
    ({ errCode, errMsg, data }) => report(command.do, errCode ? [errCode, errMsg] : data),
    ({ errCode, errMsg }) => report(command.do, [errCode, errMsg]),
  );
}
process.exit(0);
