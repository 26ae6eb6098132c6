"""One connection: answers to whom they belong, limits on every wait, and nothing sent twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from hiredis import pack_command

from adsum.adapters.redis import link as link_module
from adsum.adapters.redis.link import Link, Refused, open_link, pack_parts
from adsum.domain.errors import StoreError


class Redis:
    """A server on this loop that answers what a test writes."""

    def __init__(self) -> None:
        self.received = b""
        self.writers: list[asyncio.StreamWriter] = []
        self.arrived = asyncio.Event()
        self.answer: Callable[[bytes], bytes] = lambda data: b"+PONG\r\n" * data.count(b"PING")
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(65_536):
            self.received += data
            self.arrived.set()
            writer.write(self.answer(data))
        writer.close()

    def send(self, data: bytes) -> None:
        self.writers[-1].write(data)


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    redis = Redis()
    server = await asyncio.start_server(redis.serve, "127.0.0.1", 0)
    redis.port = server.sockets[0].getsockname()[1]
    yield redis
    for writer in redis.writers:
        writer.transport.abort()
    server.close()
    await server.wait_closed()


async def connect(redis: Redis, limit_s: float = 30, heard: Callable[[list[object]], None] | None = None) -> Link:
    return await open_link(("127.0.0.1", redis.port), None, limit_s, (("PING",),), heard)


async def test_answers_go_to_those_who_asked(redis: Redis) -> None:
    """In order, however they arrive, also to callers who ask for several things."""
    link = await connect(redis)
    redis.answer = lambda _: b""
    first = asyncio.create_task(link.run([("A",), ("B",)]))
    second = asyncio.create_task(link.run([("C",)]))
    await asyncio.sleep(0)
    for byte in b":1\r\n$1\r\n2\r\n-ERR no\r\n":
        redis.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await first == [1, b"2"]
    (refused,) = await second
    assert isinstance(refused, Refused)
    assert str(refused) == "ERR no"
    link.close()


async def test_one_who_gives_up_gets_nobody_elses_answer(redis: Redis) -> None:
    """Nor does anybody get theirs."""
    link = await connect(redis)
    redis.answer = lambda _: b""
    impatient = asyncio.create_task(link.run([("A",)]))
    patient = asyncio.create_task(link.run([("B",)]))
    await asyncio.sleep(0)
    impatient.cancel()
    redis.send(b":1\r\n:2\r\n")
    assert await patient == [2]
    assert impatient.cancelled()
    link.close()


async def test_a_server_that_does_not_answer_is_given_up(redis: Redis) -> None:
    """All who wait on the connection fail, and it is known to be overdue."""
    link = await connect(redis, limit_s=0.05)
    redis.answer = lambda _: b""
    outcomes = await asyncio.gather(*(link.run([("A",)]) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [f"127.0.0.1:{redis.port}: no answer within 0.05 s"] * 3
    assert link.overdue
    assert not link.alive


async def test_a_quiet_connection_is_no_overdue_one(redis: Redis) -> None:
    """The limit is on answers, not on silence."""
    link = await connect(redis, limit_s=0.05)
    await asyncio.sleep(0.2)
    assert await link.run([("PING",)]) == [b"PONG"]
    await asyncio.sleep(0.1)
    assert link.alive
    link.close()


async def test_what_is_under_way_fails_with_the_connection(redis: Redis) -> None:
    """Its outcome is unknown: it is not sent again. What comes later fails at once."""
    link = await connect(redis)
    redis.answer = lambda _: b""
    redis.arrived.clear()
    waiting = asyncio.create_task(link.run([("A",)]))
    await redis.arrived.wait()
    redis.writers[-1].transport.abort()
    with pytest.raises(StoreError, match=r"closed|lost"):
        await waiting
    await link.lost
    with pytest.raises(StoreError, match=r"closed|lost"):
        await link.run([("B",)])
    assert b"B" not in redis.received


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n", b":1\r\n"])
async def test_what_is_not_understood_ends_the_connection(redis: Redis, noise: bytes) -> None:
    """Bytes that are no RESP, and answers to nothing."""
    link = await connect(redis)
    redis.send(noise)
    await link.lost
    assert not link.alive


async def test_what_comes_unasked_is_heard(redis: Redis) -> None:
    """Messages among answers are no answers."""
    heard: list[list[object]] = []
    link = await connect(redis, heard=heard.append)
    redis.answer = lambda _: b"*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$1\r\nx\r\n+PONG\r\n"
    assert await link.run([("PING",)]) == [b"PONG"]
    assert heard == [[b"smessage", b"c", b"x"]]
    link.close()


async def test_too_many_unanswered_is_told_at_once(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever the callers do."""
    monkeypatch.setattr(link_module, "MAX_WAITING", 10)
    link = await connect(redis)
    redis.answer = lambda _: b""
    waiting = asyncio.create_task(link.run([("A",)] * 10))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="10 commands are unanswered"):
        await link.run([("B",)])
    link.close()
    with pytest.raises(StoreError):
        await waiting


async def test_a_server_that_refuses_the_greeting_is_not_connected_to(redis: Redis) -> None:
    """Such as one that is loading its data."""
    redis.answer = lambda _: b"-LOADING Redis is loading the dataset in memory\r\n"
    with pytest.raises(StoreError, match="LOADING"):
        await connect(redis)
    await asyncio.sleep(0)


async def test_a_server_that_accepts_and_hangs_is_told(redis: Redis) -> None:
    """Accepting a connection is the system's doing, and no sign of life."""
    redis.answer = lambda _: b""
    with pytest.raises(StoreError, match=r"no answer within 0\.05 s"):
        await connect(redis, limit_s=0.05)


async def test_nobody_there_is_told() -> None:
    """By address and reason, nothing else."""
    with pytest.raises(StoreError, match=r"^127\.0\.0\.1:1: connection refused$"):
        await open_link(("127.0.0.1", 1), None, 5, ())


def test_parts_are_packed_as_hiredis_does() -> None:
    """Whatever is in them, and however long they are."""
    for parts in ([b"PING"], [b"HMGET", b"%s", b"", bytes(range(256)), "né%d".encode(), b"%" * 5_000]):
        assert b"*%d\r\n" % len(parts) + pack_parts(parts) == pack_command(cast("Any", tuple(parts)))
