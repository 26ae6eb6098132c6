"""The Redis engine against the original's commands, on one server in one run.

Both go over the same kind of connection of ours, so what differs is the commands and
how many are awaited one after another. The original (OpenIM v3.8) keeps a sorted set
a user; a write is one script and one publish a user, each awaited before the next; a
query is one command a user likewise; the listing scans the keys and asks for each.

CPU is the server process's, user and system, from /proc: what it really takes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from adsum.adapters.redis.link import Link, open_link
from adsum.adapters.redis.store import RedisOptions, RedisStore
from adsum.adapters.redis.url import parse_store_url
from adsum.core.opids import OpIds
from adsum.core.writer import Writer, WriterOptions
from adsum.domain.presence import Cause, HoldBatch, HoldState
from bench import machine
from bench.record import Record
from tests.support.redis import RedisServer, redis_server

LISTED = 100_000
WRITTEN_BY_ORIGINAL = 5_000
QUERIED = 1_000
QUERIES = 20
BATCH = 100
LANES = 8
"""Batches in flight, as a gateway has by default."""

HOUR_S = 3_600
CONN_ID = "0123456789abcdef"

ORIGINAL = """
local key = KEYS[1]
local score = ARGV[3]
local num1 = redis.call('ZCARD', key)
redis.call('ZREMRANGEBYSCORE', key, '-inf', ARGV[2])
for i = 5, tonumber(ARGV[4]) + 4 do
  redis.call('ZREM', key, ARGV[i])
end
local num2 = redis.call('ZCARD', key)
for i = 5 + tonumber(ARGV[4]), #ARGV do
  redis.call('ZADD', key, score, ARGV[i])
end
redis.call('EXPIRE', key, ARGV[1])
local num3 = redis.call('ZCARD', key)
local change = (num1 ~= num2) or (num2 ~= num3)
if change then
  local members = redis.call('ZRANGE', key, 0, -1)
  table.insert(members, '1')
  return members
end
return {'0'}
"""


@dataclass
class Figures:
    """What was measured of one of the two."""

    written_a_second: float = 0
    cpu_a_write_us: float = 0
    script_a_write_us: float = 0
    query_ms: float = 0
    listing_us: float = 0
    bytes_a_user: float = 0


async def measure(record: Record) -> None:
    """Measure both; neither depends on the load generator."""
    async with record.step("redis", 240), redis_server() as redis:
        figures = {"ours": await measure_ours(redis)}
        await redis.run("FLUSHALL")
        figures["original"] = await measure_original(redis)
        for whose, found in figures.items():
            record.figure(f"redis.{whose}.written.per_s", found.written_a_second, "/s")
            record.figure(f"redis.{whose}.written.redis_us", found.cpu_a_write_us, "µs")
            record.figure(f"redis.{whose}.written.script_us", found.script_a_write_us, "µs")
            record.figure(f"redis.{whose}.query_ms", found.query_ms, "ms")
            record.figure(f"redis.{whose}.listing_us", found.listing_us, "µs")
            record.figure(f"redis.{whose}.bytes", found.bytes_a_user, "B")


@asynccontextmanager
async def server_cost(redis: RedisServer) -> AsyncIterator[list[float]]:
    """CPU seconds of the server, and of these in commands, spent within; known at the end."""
    cost: list[float] = []
    cpu, commands = machine.cpu_s([redis.pid]), await command_s(redis)
    yield cost
    cost += [machine.cpu_s([redis.pid]) - cpu, await command_s(redis) - commands]


async def command_s(redis: RedisServer) -> float:
    """Seconds the server has spent in commands so far; what scripts call is in the scripts' time."""
    stats = await redis.run("INFO", "commandstats")
    names = ("cmdstat_eval", "cmdstat_evalsha", "cmdstat_publish")
    return sum(float(stats[name]["usec"]) for name in names if name in stats) / 1e6


async def bytes_used(redis: RedisServer) -> int:
    """Memory in use."""
    return int((await redis.run("INFO", "memory"))["used_memory"])


async def timed(job: Callable[[], Awaitable[Any]]) -> float:
    """Seconds a job takes."""
    start = perf_counter()
    await job()
    return perf_counter() - start


async def measure_ours(redis: RedisServer) -> Figures:
    """This engine, at its defaults."""
    store = RedisStore(parse_store_url(redis.url), RedisOptions(timeout_ms=60_000))
    await store.open()
    await store.grant("bench", HOUR_S * 1_000)
    figures = Figures()
    # Entries are kept for catch-up up to a fixed number: they are no cost of a user.
    before = await bytes_used(redis)
    # As a gateway's writer shares users out.
    writer = Writer("bench", WriterOptions(lanes=LANES), 0, OpIds("bench"))
    lanes: list[list[str]] = [[] for _ in range(LANES)]
    for number in range(LISTED):
        lanes[writer.lane_of(f"user-{number}")].append(f"user-{number}")

    async def lane(number: int) -> None:
        for seq, first in enumerate(range(0, len(lanes[number]), BATCH), 1):
            users = lanes[number][first : first + BATCH]
            states = tuple(HoldState(user, 2, Cause(CONN_ID)) for user in users)
            await store.write_holds(HoldBatch("bench", number, seq, f"bench-{number}-{seq}", states))

    async with server_cost(redis) as cost:
        took_s = await timed(lambda: asyncio.gather(*map(lane, range(LANES))))
    figures.written_a_second = LISTED / took_s
    figures.cpu_a_write_us, figures.script_a_write_us = (seconds / LISTED * 1e6 for seconds in cost)
    for partition in range(store.partitions):
        await redis.run("XTRIM", f"adsum:{{{partition}}}:feed", "MAXLEN", 0)
    figures.bytes_a_user = (await bytes_used(redis) - before) / LISTED

    asked = [f"user-{number * 97}" for number in range(QUERIED)]
    assert all(await store.masks(asked))
    figures.query_ms = min([await timed(lambda: store.masks(asked)) for _ in range(QUERIES)]) * 1_000

    listed: set[str] = set()

    async def walk() -> None:
        cursor = 0
        while True:
            page = await store.page(cursor, 1_000)
            listed.update(status.user_id for status in page.users)
            cursor = page.next_cursor
            if not cursor:
                return

    figures.listing_us = await timed(walk) / LISTED * 1e6
    assert len(listed) == LISTED
    await store.close()
    return figures


async def measure_original(redis: RedisServer) -> Figures:
    """The original's commands."""
    figures = Figures()
    link = await open_link(("127.0.0.1", redis.port), None, 600, (("PING",),))
    now = int((await link.must(("TIME",)))[0][0])
    before = await bytes_used(redis)
    async with server_cost(redis) as cost:
        took_s = await timed(lambda: write_as_original(link, now))
    figures.written_a_second = WRITTEN_BY_ORIGINAL / took_s
    figures.cpu_a_write_us, figures.script_a_write_us = (seconds / WRITTEN_BY_ORIGINAL * 1e6 for seconds in cost)
    await fill(link, now)
    figures.bytes_a_user = (await bytes_used(redis) - before) / LISTED

    async def query() -> None:
        for number in range(QUERIED):
            await link.must(("ZRANGEBYSCORE", f"ONLINE:user-{number * 97}", now, "+inf"))

    figures.query_ms = min([await timed(query) for _ in range(QUERIES)]) * 1_000
    figures.listing_us = await timed(lambda: list_as_original(link)) / LISTED * 1e6
    link.close()
    return figures


async def write_as_original(link: Link, now: int) -> None:
    """A script and a publish, user after user."""
    for user in range(WRITTEN_BY_ORIGINAL):
        key = f"ONLINE:user-{user}"
        (members,) = await link.must(("EVAL", ORIGINAL, 1, key, 1_800, now, now + 1_800, 0, 1))
        if members[-1] == b"1":
            await link.must(("PUBLISH", "online_change", f"1:user-{user}"))


async def list_as_original(link: Link) -> None:
    """All keys, and each one's members, key after key."""
    listed: set[bytes] = set()
    cursor = -1
    while cursor:
        ((at, keys),) = await link.must(("SCAN", max(cursor, 0), "MATCH", "ONLINE:*", "COUNT", 1_000))
        for key in keys:
            await link.must(("ZRANGE", key, 0, -1))
            listed.add(key)
        cursor = int(at)
    assert len(listed) == LISTED


async def fill(link: Link, now: int) -> None:
    """Bring the original's users to as many as ours, unmeasured and in bulk."""
    for first in range(WRITTEN_BY_ORIGINAL, LISTED, 1_000):
        for command in ("ZADD", "EXPIRE"):
            more = (now + 1_800, 1) if command == "ZADD" else (1_800,)
            await link.must(*((command, f"ONLINE:user-{user}", *more) for user in range(first, first + 1_000)))
