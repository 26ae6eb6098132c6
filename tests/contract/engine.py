"""What an engine's own part of the contract suite must offer: stores, and time that passes at will."""

from typing import Protocol

from adsum.adapters.memory import MemoryStore
from adsum.ports import Store
from tests.support.world import ManualClock

TIMED_TTL_MS = 60_000
LEASE_MS = 15_000
HISTORY = 64


class Engine(Protocol):
    """Makes empty stores of one kind. Each test has an engine of its own."""

    async def open(self, *, partitions: int = 4, timed_ttl_ms: int = TIMED_TTL_MS, history: int = HISTORY) -> Store:
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

    def __init__(self) -> None:
        self._clock = ManualClock()
        self._stores: list[MemoryStore] = []

    async def open(self, *, partitions: int = 4, timed_ttl_ms: int = TIMED_TTL_MS, history: int = HISTORY) -> Store:
        store = MemoryStore(self._clock, partitions=partitions, timed_ttl_ms=timed_ttl_ms, history=history)
        self._stores.append(store)
        return store

    async def pass_time(self, ms: int) -> None:
        self._clock.advance(ms)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


ENGINES: tuple[type[Engine], ...] = (MemoryEngine,)
"""Every engine there is; one more line here and it must keep the contract."""
