"""Clients that do not read: they neither cost the service its memory nor others their pushes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from adsum.proto import user_pb2 as pb
from adsum.wire.frames import CODECS
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import decode_tips, encode_watch
from tests.e2e.rpc import call
from tests.support.client import BINARY, PING, PONG, TEXT, Raw, client, frame, metric_is, metrics, nobody_is_left, raw
from tests.support.service import RunningService

FLAGS = ("--max-unwritten-bytes=262144",)

pytestmark = pytest.mark.asyncio(loop_scope="module")

GO = CODECS[0]
IOS, ANDROID = 1, 2
RECEIVE_BYTES = 4_096
SLOW = 'adsum_connections_closed_total{reason="slow"}'
RSS = "process_resident_memory_bytes"

USERS = [f"{'x' * 200}-{number}" for number in range(500)]
ROUNDS = 60


@pytest.fixture(autouse=True)
async def nothing_leaks(service: RunningService) -> AsyncIterator[None]:
    """After each test nobody is connected or watched."""
    yield
    await nobody_is_left(service)


async def set_all(service: RunningService, *, online: int, offline: int) -> None:
    """One change of each user."""
    platforms = [online] if online else []
    edits = [pb.userOnlineStatus(userID=user_id, online=platforms, offline=[offline]) for user_id in USERS]
    await call(
        service.grpc,
        "setUserOnlineStatus",
        pb.setUserOnlineStatusReq(status=edits),
        pb.setUserOnlineStatusResp.FromString,
    )


async def start_watching(service: RunningService, one: Raw, user_id: str) -> None:
    """Have a bare connection watch all users, and read nothing more than the answers."""
    await one.upgrade(service.url(user_id, 5))
    for start in range(0, len(USERS), 200):
        request = Request(Op.WATCH, "", user_id, "op", "1", encode_watch(USERS[start : start + 200]))
        await one.send(frame(BINARY, GO.encode_request(request)))
        opcode, payload = await one.next_frame()
        assert opcode == BINARY
        assert not GO.decode_response(payload, 1_000_000).err_code


async def test_a_watcher_that_does_not_read_hears_only_the_newest(service: RunningService) -> None:
    """30,000 changes for each of ten who sleep: a part of that is kept for them, and the last word is true.

    One who reads meanwhile hears every round.
    """
    sleepers = [f"sleeper-{number}" for number in range(10)]
    async with contextlib.AsyncExitStack() as stack:
        asleep = [await stack.enter_async_context(raw(service, RECEIVE_BYTES)) for _ in sleepers]
        for one, user_id in zip(asleep, sleepers, strict=True):
            await start_watching(service, one, user_id)
        watcher = await stack.enter_async_context(client(service, "awake"))
        await watcher.watch(*USERS[:200])
        await watcher.watch(*USERS[200:400])
        await watcher.watch(*USERS[400:])
        before = await metrics(service)
        for number in range(ROUNDS):
            platform_id = IOS if number % 2 == 0 else ANDROID
            await set_all(service, online=platform_id, offline=IOS + ANDROID - platform_id)
            await watcher.hears(USERS[-1], platform_id)
        after = await metrics(service)
        assert all(len(watcher.pushes_of(user_id)) == ROUNDS for user_id in (USERS[0], USERS[-1]))
        assert after["adsum_push_merged_total"] > before["adsum_push_merged_total"]
        assert after[SLOW] == before[SLOW]

        offered = ROUNDS * sum(len(user_id) for user_id in USERS)
        # Kept in full it would be ten times that; of each, the kernel may keep some MB more, and the service nothing.
        assert after[RSS] - before[RSS] < offered * len(asleep) / 3
        await set_all(service, online=0, offline=ANDROID)
        taken = await asyncio.gather(*(wake(one) for one in asleep))
        assert max(taken) < offered


async def wake(one: Raw) -> int:
    """Read until all users are heard to be offline, as they are; how many bytes that took."""
    size = 0
    told: dict[str, tuple[int, ...]] = dict.fromkeys(USERS, (IOS,))
    while any(told.values()):
        opcode, payload = await one.next_frame()
        assert opcode == BINARY
        size += len(payload)
        response = GO.decode_response(payload, 1_000_000)
        told.update((status.user_id, status.platform_ids) for status in decode_tips(response.data))
    await one.send(frame(PING, b"the end"))
    assert await one.next_frame() == (PONG, b"the end")
    return size


@pytest.mark.parametrize(
    "sent",
    [
        frame(TEXT, b'{"type":"ping","body":"%b"}' % (b"x" * 40_000)),
        frame(PING, b"x" * 125),
        frame(BINARY, GO.encode_request(Request(Op.NEWEST_SEQ, send_id="greedy", operation_id="x" * 40_000))),
        frame(BINARY, GO.encode_request(Request(Op.SEND_MESSAGE, send_id="greedy", operation_id="x" * 40_000))),
        frame(BINARY, GO.encode_request(Request(Op.WATCH, send_id="greedy", data=encode_watch(USERS[:200])))),
    ],
    ids=["text pings", "pings", "requests", "refused requests", "subscribing"],
)
async def test_one_that_asks_and_does_not_read_the_answers_is_closed(service: RunningService, sent: bytes) -> None:
    """What waits for it is bounded, whatever it is; a bystander is not disturbed."""
    before = (await metrics(service))[SLOW]
    async with client(service, "bystander") as bystander, raw(service, RECEIVE_BYTES) as greedy:
        await greedy.upgrade(service.url("greedy"))
        megabyte = sent * (1_000_000 // len(sent))
        with pytest.raises(ConnectionError):
            await greedy.send(megabyte * 100)
        await metric_is(service, SLOW, before + 1)
        assert not (await bystander.ask(Op.NEWEST_SEQ)).err_code
        await metric_is(service, "adsum_users_online", 1)
