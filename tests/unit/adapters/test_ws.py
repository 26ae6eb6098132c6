"""The WebSocket server's own duties: what its gateway cannot know."""

import contextlib
import logging
import resource
import socket
from collections.abc import Callable

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from adsum.adapters.ws import WsOptions, WsServer
from adsum.core.session import Session
from adsum.domain.errors import AdsumError
from adsum.wire.handshake import Handshake, build_query
from tests.support.sessions import PLATFORMS, make_session
from tests.support.waiting import until

QUERY = build_query(Handshake(user_id="u", token="good", platform_id=1, operation_id="op"))


class BrokenGateway:
    """A gateway with a defect in the callback named."""

    def __init__(self, defect: str) -> None:
        self._defect = defect
        self.closed_sessions = self.refusals = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*_args: object) -> None:
            if name == self._defect:
                raise RuntimeError("a defect of ours")

        return call

    def admit(self, *_args: object) -> Session:
        return make_session("u")

    def refused(self, _error: AdsumError) -> None:
        self.refusals += 1

    def closed(self, _session: Session) -> None:
        self.closed_sessions += 1


@pytest.mark.parametrize("defect", ["opened", "binary", "text", "ping"])
async def test_a_defect_in_a_callback_is_logged_and_ends_the_connection(
    defect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The library closes with 1011; what was wrong must not be lost with the connection."""
    gateway = BrokenGateway(defect)
    server = WsServer(gateway, PLATFORMS, WsOptions())  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    with caplog.at_level(logging.DEBUG):
        async with connect(f"ws://127.0.0.1:{port}/?{QUERY}", ping_interval=None) as client:
            with contextlib.suppress(ConnectionClosed):
                await client.ping(b"x")  # type: ignore[unused-awaitable]  # no pong will come
                await client.send("text")
                await client.send(b"bytes")
            await client.wait_closed()
    server.stop_accepting()
    assert client.close_code == 1011
    records = [record for record in caplog.records if record.name.startswith("adsum")]
    assert any(record.exc_info and "a defect of ours" in str(record.exc_info[1]) for record in records)


async def test_a_broken_frame_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """What clients do wrong is for the meter: a log that clients can fill is one that nobody reads."""
    server = WsServer(BrokenGateway(""), PLATFORMS, WsOptions())  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    with caplog.at_level(logging.DEBUG):
        async with connect(f"ws://127.0.0.1:{port}/?{QUERY}", ping_interval=None) as client:
            await client.send(b"x" * 60_000)
            await client.wait_closed()
    server.stop_accepting()
    assert client.close_code == 1009
    assert not [record for record in caplog.records if record.name.startswith(("adsum", "picows"))]
    assert "good" not in "".join(record.getMessage() for record in caplog.records if "websockets" not in record.name)


async def test_clients_beyond_the_file_descriptors_are_turned_away_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """At the process's limit each further client is dropped at once; with room again, clients get in again."""
    gateway = BrokenGateway("")
    server = WsServer(gateway, PLATFORMS, WsOptions())  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    waiting = [socket.socket() for _ in range(20)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(one.fileno() for one in waiting)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 5, before[1]))
    try:
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - the library's signature
            one.connect_ex(("127.0.0.1", port))
        await until(lambda: gateway.refusals > 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in waiting:
            one.close()
    assert not caplog.records
    async with connect(f"ws://127.0.0.1:{port}/?{QUERY}") as client:
        await client.send("text")
    server.stop_accepting()
