"""Writes entries of the feed by the scripts that gateways use, one at a time or many at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from time import perf_counter
from typing import Final

from adsum.adapters.redis.store import RedisOptions, RedisStore
from adsum.adapters.redis.url import parse_store_url
from adsum.app.settings import Settings
from adsum.core.partition import partition_of
from adsum.domain.presence import Cause, HoldBatch, HoldState
from tests.support.redis import RedisServer

PREFIX = "adsum"
PARTITIONS: Final = Settings().partitions
FIRST_USER = 4_000_000_000
"""IDs of ten digits, as OpenIM gives them."""

PROCESS = "gateway-01-4711-0123abcd"
"""Of the length that operation and connection IDs of a node begin with."""

HOUR_MS = 3_600_000

MOST_CHANGES = 100
"""In an entry."""


class Entries:
    """Writes entries of the feed, by the scripts that gateways use."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self._users: list[list[str]] = [[] for _ in range(PARTITIONS)]
        number = count(FIRST_USER)
        while any(len(users) < MOST_CHANGES for users in self._users):
            user_id = str(next(number))
            self._users[partition_of(user_id, PARTITIONS)].append(user_id)
        self._seq = 0
        self._online = False

    async def apart(self, changes: int, lasting_s: float) -> int:
        """One after another; how many entries."""
        return await self._go_on(changes, lasting_s, self._one_by_one)

    async def together(self, changes: int, lasting_s: float) -> int:
        """One in each partition at once; how many entries."""
        return await self._go_on(changes, lasting_s, self.round)

    async def round(self, changes: int) -> None:
        """An entry in each partition."""
        self._next()
        await asyncio.gather(*(self._write(partition, changes) for partition in range(PARTITIONS)))

    async def _one_by_one(self, changes: int) -> None:
        self._next()
        for partition in range(PARTITIONS):
            await self._write(partition, changes)

    async def _go_on(self, changes: int, lasting_s: float, step: Callable[[int], Awaitable[None]]) -> int:
        # An even number of steps, so that all end offline and whatever is written next is a change.
        end_s, written = perf_counter() + lasting_s, 0
        while perf_counter() < end_s or self._online:
            await step(changes)
            written += PARTITIONS
        return written

    def _next(self) -> None:
        self._seq += 1
        self._online = not self._online

    async def _write(self, partition: int, changes: int) -> None:
        op_id = f"{PROCESS}-{self._seq * PARTITIONS + partition}"
        mask, cause = 2 if self._online else 0, Cause(op_id)
        states = tuple(HoldState(user_id, mask, cause) for user_id in self._users[partition][:changes])
        await self.store.write_holds(HoldBatch(PROCESS, partition, self._seq, op_id, states))


@asynccontextmanager
async def writer(redis: RedisServer | None) -> AsyncIterator[Entries]:
    """A store that writes; like any other it subscribes to the feed."""
    assert redis is not None
    options = RedisOptions(prefix=PREFIX, partitions=PARTITIONS, timeout_ms=60_000)
    store = RedisStore(parse_store_url(redis.url), options)
    await store.open()
    try:
        await store.grant(PROCESS, HOUR_MS)
        yield Entries(store)
    finally:
        await store.close()
