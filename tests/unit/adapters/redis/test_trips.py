"""Trips: what one server does is no other's loss, and too much at once is no server's fault."""

import socket
from collections.abc import AsyncIterator, Iterable, Mapping

import pytest

from adsum.adapters.redis import link as link_module
from adsum.adapters.redis.link import Overloaded
from adsum.adapters.redis.server import LinkOptions, Server
from adsum.adapters.redis.servers import SingleServer
from adsum.adapters.redis.trips import Call, Trips
from adsum.adapters.redis.url import parse_store_url
from adsum.domain.errors import StoreError
from tests.support.redis import RedisServer, redis_server

OPTIONS = LinkOptions(limit_ms=300)


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


class Pair:
    """Two servers: the first has the even partitions, the second the odd ones. Counts how often they are looked for."""

    def __init__(self, *urls: str) -> None:
        self.each = [SingleServer(parse_store_url(url), OPTIONS) for url in urls]
        self.refreshed = 0
        self.link = None

    async def of(self, partitions: Iterable[int]) -> Mapping[int, Server]:
        return {p: (await self.each[p % len(self.each)].of([p]))[p] for p in partitions}

    async def all(self) -> list[Server]:
        return [server for each in self.each for server in await each.all()]

    async def refresh(self) -> None:
        self.refreshed += 1

    async def close(self) -> None:
        for each in self.each:
            await each.close()


def put(partition: int) -> Call:
    return Call(partition, "HSET", ("field", partition))


async def test_servers_that_answer_are_heard_though_one_cannot_be_reached(redis: RedisServer) -> None:
    servers = Pair(redis.url, "redis://127.0.0.1:1")
    answers = await Trips(servers, "p", OPTIONS.limit_s).ask([put(0), put(1), put(2)])
    assert (answers[0], answers[2]) == (1, 1)
    assert isinstance(answers[1], StoreError)
    assert servers.refreshed == 1
    await servers.close()


async def test_servers_that_answer_are_heard_though_one_hangs(redis: RedisServer) -> None:
    """Within the time limit the others' outcome is known."""
    # The system accepts for it, and nobody ever reads.
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        servers = Pair(redis.url, f"redis://127.0.0.1:{hanging.getsockname()[1]}")
        answers = await Trips(servers, "p", OPTIONS.limit_s).ask([put(0), put(1), put(2)])
        assert (answers[0], answers[2]) == (1, 1)
        assert isinstance(answers[1], StoreError)
        await servers.close()


async def test_too_much_at_once_is_told_and_nothing_else(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is the right one and its connection is good: neither is given up, and nothing is asked again."""
    servers = Pair(redis.url)
    trips = Trips(servers, "p", OPTIONS.limit_s)
    await trips.run([put(0)])
    (server,) = await servers.all()
    link = server.alive
    monkeypatch.setattr(link_module, "MAX_WAITING", 2)
    with pytest.raises(Overloaded):
        await trips.run([put(0)] * 3)
    assert servers.refreshed == 0
    assert server.alive is link
    assert await trips.run([put(1)] * 2) == [1, 0]
    await servers.close()
