"""Connections that are silent end; those that beat, in whatever way, live."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from adsum.wire.frames import CODECS
from adsum.wire.messages import Op, Request
from tests.support.client import BINARY, PING, PONG, TEXT, Raw, client, frame, metric_is, metrics, raw
from tests.support.service import RunningService

FLAGS = ("--heartbeat-timeout-ms=1000", "--web-ping-interval-ms=300")

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_silent_client_is_dropped_and_goes_offline(service: RunningService) -> None:
    """So is one that sent half a frame; a watcher that beats hears of it."""
    timeouts = 'adsum_connections_closed_total{reason="timeout"}'
    before = (await metrics(service))[timeouts]
    async with (
        client(service, "watcher") as watcher,
        beating(watcher.ws.ping),
        raw(service) as silent,
        raw(service) as half,
    ):
        await watcher.watch("silent", "half")
        await silent.upgrade(service.url("silent"))
        await half.upgrade(service.url("half", 2))
        await half.send(frame(BINARY, b"x" * 100)[:50])
        await watcher.hears("silent", 1)
        await watcher.hears("half", 2)
        assert await silent.rest() == b""
        assert await half.rest() == b""
        await watcher.hears("silent")
        await watcher.hears("half")
        assert (await metrics(service))[timeouts] == before + 2


async def test_any_frame_is_a_heartbeat(service: RunningService) -> None:
    """Pings and pongs of the protocol and in text, and requests: each keeps a client for two timeouts."""
    ask = CODECS[0].encode_request(Request(Op.NEWEST_SEQ, send_id="asks"))
    beats = {
        "pings": frame(PING, b"x"),
        "pongs": frame(PONG),
        "text-pings": frame(TEXT, b'{"type":"ping"}'),
        "text-pongs": frame(TEXT, b'{"type":"pong"}'),
        "asks": frame(BINARY, ask),
    }

    async def beat(user_id: str, sent: bytes) -> None:
        async with raw(service) as one:
            await one.upgrade(service.url(user_id))
            for _ in range(10):
                await one.send(sent)
                await asyncio.sleep(0.2)
            await one.send(frame(PING, b"still here"))
            while await one.next_frame() != (PONG, b"still here"):
                pass

    await asyncio.gather(*(beat(user_id, sent) for user_id, sent in beats.items()))


async def test_a_service_that_stood_still_drops_nobody_who_beat_meanwhile(service: RunningService) -> None:
    """Suspended for longer than the timeout, it hears what waits in its sockets before it judges anybody's silence."""
    async with client(service, "beats") as one, beating(one.ws.ping):
        await asyncio.sleep(0.5)
        service.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        service.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(1)
        await (await one.ws.ping(b"still here"))


WINDOWS = 3


@pytest.mark.parametrize(("platform_id", "sdk_type"), [(5, "go"), (WINDOWS, "js")])
async def test_web_clients_are_pinged(service: RunningService, platform_id: int, sdk_type: str) -> None:
    """And those that run JavaScript elsewhere. By answering, which browsers do by themselves, they stay."""

    async def answer_pings(one: Raw, count: int) -> None:
        for _ in range(count):
            opcode, payload = await one.next_frame()
            assert opcode == PING
            await one.send(frame(PONG, payload))

    async with raw(service) as web, raw(service) as phone:
        await web.upgrade(service.url("surfer", platform_id, sdk_type=sdk_type))
        await phone.upgrade(service.url("surfer", 1))
        await answer_pings(web, 3)
        # The phone was dropped without ever having been sent a ping.
        assert await phone.rest() == b""
        await answer_pings(web, 1)
        # One that ignores its pings goes as well.
        while True:
            try:
                assert (await web.next_frame())[0] == PING
            except EOFError:
                break
    await metric_is(service, "adsum_users_online", 0)


@contextlib.asynccontextmanager
async def beating(beat: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Call `beat` five times a timeout for as long as the context lasts."""

    async def forever() -> None:
        while True:
            await beat()
            await asyncio.sleep(0.2)

    task = asyncio.create_task(forever())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
