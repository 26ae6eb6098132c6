"""The command as people use it: real processes against a real service."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as ws_connect

from adsum.client.connection import connect
from adsum.client.protocol import Login
from adsum.client.rpc import RpcClient
from adsum.wire.protobuf import UserStatus
from tests.support.redis import redis_server
from tests.support.service import SECRET, RunningService, running_service

FREE = ("--ws=127.0.0.1:0", "--grpc=127.0.0.1:0", "--http=127.0.0.1:0")


@pytest.fixture
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as running:
        yield running


class Command:
    """A running `adsum`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def event(self) -> dict[str, Any]:
        """The next line, as JSON, without its time."""
        event: dict[str, Any] = json.loads(await self.line())
        assert event.pop("time").endswith("Z")
        return event

    async def end(self) -> tuple[int | None, str, str]:
        """Wait until it ends; its exit code, the rest of its output, its errors."""
        async with asyncio.timeout(30):
            out, err = await self.process.communicate()
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of the commands: none of ours, and a place of its own for the development secret."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADSUM_")}
    return kept | {"XDG_STATE_HOME": str(tmp_path)}


@asynccontextmanager
async def adsum(environment: dict[str, str], *arguments: str) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adsum.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_watch_shows_who_comes_and_goes(service: RunningService, environment: dict[str, str]) -> None:
    """The state first, then each change; the visitors use another client library."""
    environment |= {"ADSUM_GRPC": service.grpc}
    async with adsum(environment, "watch", "--json", "alice", "bob") as watch:
        offline = {"status": "offline", "platformIDs": [], "platforms": []}
        assert await watch.event() == {"event": "state", "userID": "alice", **offline}
        assert await watch.event() == {"event": "state", "userID": "bob", **offline}
        async with ws_connect(service.url("bob", 5)):
            online = {"status": "online", "platformIDs": [5], "platforms": ["Web"]}
            assert await watch.event() == {"event": "change", "userID": "bob", **online}
            async with RpcClient(service.grpc) as rpc:
                pages = [page async for page in rpc.online()]
            assert pages == [[UserStatus("bob", (5,))]], "who watches is not online"
        assert await watch.event() == {"event": "change", "userID": "bob", **offline}
        watch.process.send_signal(signal.SIGINT)
        assert await watch.end() == (130, "", "")


@pytest.mark.parametrize("flags", [(), ("--codec=js", "--no-gzip"), ("--codec=js", "--background")])
async def test_connect_holds_a_user_online(
    service: RunningService, environment: dict[str, str], flags: tuple[str, ...]
) -> None:
    environment |= {"ADSUM_GRPC": service.grpc, "ADSUM_SECRET": SECRET}
    arguments = ("connect", "alice", "--platform", "ios", "--ws", f"ws://{service.ws}/any/path", "--json", *flags)
    async with adsum(environment, *arguments) as holder:
        assert await holder.event() == {"event": "connected", "userID": "alice", "platformID": 1}
        async with adsum(environment, "watch", "alice", "--json") as watch:
            # A connect is answered before it is written to the store.
            while (await watch.event())["platforms"] != ["IOS"]:
                pass
        holder.process.send_signal(signal.SIGINT)
        assert await holder.end() == (130, "", "")


async def test_status_and_online_ask_by_grpc(service: RunningService, environment: dict[str, str]) -> None:
    environment |= {"ADSUM_GRPC": service.grpc}
    async with adsum(environment, "online") as nobody:
        assert await nobody.end() == (0, "nobody is online\n", "")
    hold = ("connect", "alice", "--platform", "5", "--ws", service.ws, "--secret", SECRET)
    async with adsum(environment, *hold) as holder:
        assert (await holder.line()).endswith("alice is connected on Web")
        # A connect is answered before it is written to the store.
        async with adsum(environment, "watch", "alice", "--json") as watch:
            while (await watch.event())["status"] != "online":
                pass
            watch.process.send_signal(signal.SIGINT)
            await watch.end()
        async with adsum(environment, "status", "bob", "alice") as status:
            code, out, err = await status.end()
        assert (code, out.splitlines(), err) == (
            0,
            ["USER   STATUS   PLATFORMS", "bob    offline", "alice  online   Web"],
            "",
        )
        async with adsum(environment, "online", "--json") as online:
            _, out, _ = await online.end()
        listed = {"userID": "alice", "status": "online", "platformIDs": [5], "platforms": ["Web"]}
        assert listed in [json.loads(line) for line in out.splitlines()]
        async with adsum(environment, "online", "--count") as count:
            code, out, _ = await count.end()
        assert code == 0
        assert int(out) >= 1


async def test_a_printed_token_opens_a_connection(service: RunningService, environment: dict[str, str]) -> None:
    async with adsum(environment, "token", "alice", "--platform", "web", "--secret", SECRET) as token:
        _, printed, _ = await token.end()
    async with ws_connect(service.url("alice", 5, token=printed.strip())) as connection:
        assert await (await connection.ping()) >= 0


async def test_errors_of_the_server_are_one_line(service: RunningService, environment: dict[str, str]) -> None:
    environment |= {"ADSUM_WS": service.ws, "ADSUM_GRPC": service.grpc}
    async with adsum(environment, "connect", "alice", "--platform", "1", "--token", "rubbish") as refused:
        code, out, err = await refused.end()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "1503" in err
    async with adsum(environment, "status", "x" * 1_000) as status:
        code, out, err = await status.end()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "ArgsError 1001" in err


async def test_a_kick_ends_connect(environment: dict[str, str]) -> None:
    async with running_service("--login-policy=1") as service:
        environment |= {"ADSUM_WS": service.ws, "ADSUM_SECRET": SECRET}
        async with adsum(environment, "connect", "alice", "--platform", "1") as first:
            await first.line()
            # Of another time of issue, so another token: the same one is never kicked.
            async with adsum(environment, "token", "alice", "--platform=1", "--expires=1h") as token:
                _, other, _ = await token.end()
            async with adsum(environment, "connect", "alice", "--platform=1", "--token", other.strip()) as second:
                await second.line()
                assert (await first.line()).endswith("kicked by another login")
                code, _, err = await first.end()
    assert (code, err) == (1, "adsum: another login ended this connection\n")


async def test_watch_survives_a_restart_of_the_service(environment: dict[str, str]) -> None:
    """It tells of the loss and the return, as JSON too, and of the users only what is different."""
    async with running_service() as service, RpcClient(service.grpc) as rpc:
        await rpc.set_status("alice", 1, online=True)
        environment |= {"ADSUM_GRPC": service.grpc}
        async with (
            adsum(environment, "watch", "alice", "bob", "--json") as watch,
            adsum(environment, "watch", "bob") as text,
        ):
            assert [(await watch.event())["userID"] for _ in range(2)] == ["alice", "bob"]
            assert "offline" in await text.line()
            assert await service.stop() == 0
            lost = await watch.event()
            assert (lost["event"], set(lost)) == ("lost", {"event", "reason"})
            async with running_service("--grpc", service.grpc):
                assert await watch.event() == {"event": "restored"}
                changed = await watch.event()
                assert (changed["event"], changed["userID"], changed["status"]) == ("change", "alice", "offline")
                assert text.process.stderr is not None
                assert (await text.process.stderr.readline()).startswith(b"adsum: connection lost: ")
                assert await text.process.stderr.readline() == b"adsum: connected again\n"
                for command in (watch, text):
                    command.process.send_signal(signal.SIGINT)
                    assert await command.end() == (130, "", "")


async def test_a_reader_that_leaves_ends_the_output_quietly(
    service: RunningService, environment: dict[str, str]
) -> None:
    environment |= {"ADSUM_GRPC": service.grpc}
    users = [f"user-{number}" for number in range(5_000)]
    async with adsum(environment, "watch", *users) as watch:
        await watch.line()
        watch.process.stdout._transport.close()  # type: ignore[union-attr]
        code, _, err = await watch.end()
    assert (code, err) == (1, "")


async def test_health_says_whether_a_service_is_ready(environment: dict[str, str]) -> None:
    async with running_service("--http=0.0.0.0:0", "--shutdown-delay-ms=3600000") as service:
        async with adsum(environment, "health", "--http", service.http) as health:
            assert await health.end() == (0, "ready\n", "")
        service.process.send_signal(signal.SIGTERM)
        while True:
            async with adsum(environment | {"ADSUM_HTTP": service.http}, "health") as health:
                code, out, err = await health.end()
            if code:
                break
        assert (code, out, err) == (1, "gateway: about to stop\n", "")
        async with adsum(environment, "health", "--http", service.http, "--json") as health:
            code, out, _ = await health.end()
        assert (code, json.loads(out)["ready"]) == (1, False)
        async with adsum(environment, "health", "--http", service.ws) as health:
            code, out, err = await health.end()
        assert (code, out) == (1, "")
        assert "is not Adsum's HTTP port" in err
        service.process.send_signal(signal.SIGTERM)
        await service.process.wait()
    async with adsum(environment, "health", "--http", service.http) as health:
        code, out, err = await health.end()
    assert (code, out) == (1, "")
    assert "cannot be asked: Connection refused" in err


async def test_variables_that_are_empty_or_of_others_keep_nothing_from_starting(environment: dict[str, str]) -> None:
    environment |= {"ADSUM_LOG_LEVEL": "", "ADSUM_COMPILE": "1"}
    async with adsum(environment, "serve", *FREE) as serve:
        assert serve.process.stderr is not None
        log = ""
        while "is ready" not in log:
            line = (await serve.process.stderr.readline()).decode()
            assert line, log
            log += line
        assert "ADSUM_COMPILE is no setting" in log
        serve.process.send_signal(signal.SIGINT)
        assert (await serve.end())[0] == 0


async def test_the_demonstration(environment: dict[str, str]) -> None:
    async with adsum(environment, "demo", "--once", *FREE) as demo:
        code, out, err = await demo.end()
    assert (code, err) == (0, "")
    words = [line.split("  ") for line in out.splitlines() if line.endswith(" ms")]
    heard = [[cell.strip() for cell in cells if cell.strip()][1] for cells in words]
    assert heard == [
        "alice is online: IOS",
        "bob is online: Web",
        "alice is online: IOS, Windows",
        "alice is online: Windows",
        "bob is offline",
        "alice is offline",
    ]


async def test_the_demonstration_ends_at_once_on_an_interrupt(environment: dict[str, str]) -> None:
    """In its midst: nobody else is connected who would need time to go elsewhere."""
    async with adsum(environment, "demo", "--drain-ms=600000", "--shutdown-delay-ms=600000", *FREE) as demo:
        while not (await demo.line()).startswith("  alice connects"):
            pass
        demo.process.send_signal(signal.SIGINT)
        assert (await demo.end())[0] == 0


async def test_the_demonstration_says_where_presence_is_kept(environment: dict[str, str]) -> None:
    async with redis_server() as redis:
        for store, where in (
            ("memory:", "in this process's memory"),
            (redis.url, f"in Redis at 127.0.0.1:{redis.port}"),
        ):
            async with adsum(environment, "demo", "--once", f"--store={store}", *FREE) as demo:
                assert where in await demo.line()
                assert (await demo.end())[0] == 0


async def test_what_the_demonstration_says_to_type_works(environment: dict[str, str]) -> None:
    """With a development secret and ports of its own; Ctrl-C ends it with code 0."""
    async with adsum(environment, "demo", *FREE) as demo:
        while "watch alice bob" not in (line := await demo.line()):
            pass
        _, typed = line.split("-m adsum.cli ")
        async with adsum(environment, *typed.split()) as watch:
            assert (await watch.line()).endswith("alice  offline")
        while await demo.line() != "Serving until Ctrl-C.":
            pass
        demo.process.send_signal(signal.SIGINT)
        assert await demo.end() == (0, "", "")


@pytest.mark.parametrize("port", ["ws", "grpc", "http"])
async def test_a_taken_port_is_named_with_its_flag(
    service: RunningService, environment: dict[str, str], port: str
) -> None:
    taken = getattr(service, port)
    flags = [flag for flag in FREE if not flag.startswith(f"--{port}=")]
    async with adsum(environment, "demo", "--once", *flags, f"--{port}={taken}") as demo:
        code, out, err = await demo.end()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{port} = {taken}" in err
    assert f"--{port} HOST:PORT" in err


async def test_serve_without_a_secret_says_where_it_keeps_one(environment: dict[str, str], tmp_path: Path) -> None:
    async with adsum(environment, "serve", *FREE, "--log-format=json") as serve:
        messages: list[str] = []
        assert serve.process.stderr is not None
        while not any("ready" in message for message in messages):
            messages.append(json.loads(await serve.process.stderr.readline())["message"])
        assert any(str(tmp_path) in message for message in messages)
        serve.process.send_signal(signal.SIGINT)
        code, _, _ = await serve.end()
    assert code == 0


async def test_the_client_hears_what_was_set_and_subscribed_by_call(service: RunningService) -> None:
    """Both halves of the Python client together: gRPC sets and subscribes, the WebSocket hears."""
    login = Login("carol", 5, service.token("carol", 5))
    async with RpcClient(service.grpc) as rpc, connect(f"ws://{service.ws}/", login) as connection:
        assert await rpc.subscribe("carol", ["dave"]) == [UserStatus("dave", ())]
        await rpc.set_status("dave", 2, online=True)
        assert await anext(connection) == UserStatus("dave", (2,))
        assert await rpc.subscribed("carol") == [UserStatus("dave", (2,))]
        await rpc.cancel("carol", ["dave"])
        assert await rpc.subscribed("carol") == []
        assert await connection.watch(["dave"]) == [UserStatus("dave", (2,))]
        await rpc.set_status("dave", 2, online=False)
        assert await anext(connection) == UserStatus("dave", ())
        assert await rpc.statuses(["dave", "nobody"]) == [UserStatus("dave", ()), UserStatus("nobody", ())]
