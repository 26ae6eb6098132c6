"""Clients that send all they can: others are served meanwhile, and they are told to go, with a reason that counts."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from adsum.proto import user_pb2 as pb
from adsum.wire.messages import Op
from tests.e2e.rpc import call
from tests.support.client import CLOSE, Raw, client, eventually, http_get, metrics, raw
from tests.support.floods import FLOODS, GRPC, WS, Flood
from tests.support.service import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLOOD = 'adsum_connections_closed_total{reason="flood"}'
TOGGLES = 10
SERIAL = itertools.count()


async def send_without_end(one: Raw, flood: Flood, user_id: str) -> None:
    """Until the service ends the connection."""
    with contextlib.suppress(OSError, TimeoutError):
        for block in flood.blocks(user_id):
            await one.send(block)


async def read_to_the_end(one: Raw, ends: list[bytes]) -> None:
    """Throw away what is answered; the last of it goes to `ends`."""
    last = b""
    with contextlib.suppress(TimeoutError):
        while piece := await one.some():
            last = (last + piece)[-4_096:]
    ends.append(last)


@contextlib.asynccontextmanager
async def flooding(service: RunningService, kind: str, count: int) -> AsyncIterator[list[bytes]]:
    """So many clients that flood; the last that each one heard, once it has ended."""
    flood = FLOODS[kind]
    ends: list[bytes] = []
    async with contextlib.AsyncExitStack() as stack:
        tasks = []
        for _ in range(count):
            one = await stack.enter_async_context(raw(service, address=getattr(service, flood.port)))
            # Another each time: a user's budget outlasts the connection.
            user_id = f"flood {next(SERIAL)}"
            if flood.port == WS:
                await one.upgrade(service.url(user_id, sdk_type=flood.codec.kind, gzip=flood.codec.gzip))
            tasks += [asyncio.create_task(send_without_end(one, flood, user_id))]
            tasks += [asyncio.create_task(read_to_the_end(one, ends))]
        yield ends
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("kind", FLOODS)
async def test_others_are_served(service: RunningService, kind: str) -> None:
    """Calls, answers, pushes and probes go on while four clients flood; all of it within a generous time."""
    async with client(service, "watcher") as watcher, flooding(service, kind, 4):
        await watcher.watch("toggled")
        for number in range(TOGGLES):
            online, offline = ([1], []) if number % 2 == 0 else ([], [1])
            edit = pb.userOnlineStatus(userID="toggled", online=online, offline=offline)
            request = pb.setUserOnlineStatusReq(status=[edit])
            await call(service.grpc, "setUserOnlineStatus", request, pb.setUserOnlineStatusResp.FromString)
            await watcher.hears("toggled", *online)
            assert not (await watcher.ask(Op.NEWEST_SEQ)).err_code
        assert (await http_get(service, "/livez"))[0] == 200
        assert (await http_get(service, "/readyz"))[0] == 200


@pytest.mark.parametrize("kind", ["HTTP/2 DATA of one byte", "HTTP/2 pings"])
async def test_frames_that_ask_nothing_end_their_connection(service: RunningService, kind: str) -> None:
    assert FLOODS[kind].port == GRPC
    before = (await metrics(service))[FLOOD]
    async with flooding(service, kind, 1) as ends:

        async def counted() -> bool:
            return bool(ends) and (await metrics(service))[FLOOD] > before

        await eventually(counted)
        assert b"too many frames that ask nothing" in ends[0]


async def test_a_client_that_never_rests_is_told_to_go(service: RunningService) -> None:
    """Once its share is used up it is slowed, then closed: with 1008, why, and counted."""
    before = (await metrics(service))[FLOOD]
    async with flooding(service, "pings", 1) as ends:

        async def counted() -> bool:
            return bool(ends) and (await metrics(service))[FLOOD] > before

        await eventually(counted)
        goodbye = b"\x03\xf0too much work asked for, for too long: send less"
        assert ends[0].endswith(bytes([0x80 | CLOSE, len(goodbye)]) + goodbye)
