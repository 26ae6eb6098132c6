"""A store that fails, forgets to answer, or loses its feed, when told to: the real one with faults around it."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from adsum.domain.claims import Bid, Claim
from adsum.domain.errors import StoreError
from adsum.domain.presence import Census, FeedEntry, HoldBatch, Page, Reading, TimedEdit
from adsum.ports import FeedListener, Store, nothing

T = TypeVar("T")


class Held:
    """A call that waits for the test, first before the store sees it and then before it is answered."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.performed = asyncio.Event()
        self._perform = asyncio.Event()
        self._answer = asyncio.Event()
        self._land: Callable[[], Awaitable[object]] | None = None

    async def perform(self) -> None:
        """Let the store carry the call out; the caller still waits."""
        await self.arrived.wait()
        self._perform.set()
        await self.performed.wait()

    def answer(self) -> None:
        """Let the call go on to its end."""
        self._perform.set()
        self._answer.set()

    async def land(self) -> None:
        """Carry the call out now although its caller has given it up."""
        assert self._land is not None
        await self._land()

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Called by the store."""
        self._land = call
        self.arrived.set()
        await self._perform.wait()
        try:
            return await call()
        finally:
            self.performed.set()
            await self._answer.wait()


class FaultyStore:
    """A `Store` that does what the one within does, but for the faults asked for.

    Faults are named by method: `failing` calls are not carried out, `losing` calls
    are carried out but their answer is lost; `broken` ones raise what no store may.
    `masks` goes by the name of `read`.
    `drops` tells which entries of the feed get lost.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failing: set[str] = set()
        self.losing: set[str] = set()
        self.broken: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.drops: Callable[[FeedEntry], bool] = lambda _: False
        self.feed_held = False
        self.session = 1
        self._late: list[tuple[FeedListener, FeedEntry]] = []
        self._held: dict[str, deque[Held]] = {}

    def hold(self, method: str) -> Held:
        """Have the next call of this method wait."""
        held = Held()
        self._held.setdefault(method, deque()).append(held)
        return held

    def deliver_feed(self) -> None:
        """Deliver what the feed held back, and hold back no more."""
        self.feed_held = False
        late, self._late = self._late, []
        for listener, entry in late:
            listener(entry)

    async def _call(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[method] += 1
        if method in self.failing:
            raise StoreError(f"{method} fails")
        if method in self.broken:
            raise RuntimeError(f"{method} is broken")
        waiting = self._held.get(method)
        result = await (waiting.popleft().run(call) if waiting else call())
        if method in self.losing:
            raise StoreError(f"the answer of {method} is lost")
        return result

    @property
    def partitions(self) -> int:
        return self._store.partitions

    @property
    def feed_session(self) -> int:
        return self.session

    @property
    def caution(self) -> str:
        return self._store.caution

    async def open(self) -> None:
        await self._call("open", self._store.open)

    async def grant(self, holder: str, ttl_ms: int) -> None:
        await self._call("grant", lambda: self._store.grant(holder, ttl_ms))

    async def renew(self, holder: str, ttl_ms: int) -> bool:
        return await self._call("renew", lambda: self._store.renew(holder, ttl_ms))

    async def release(self, holder: str, op_id: str, successor: str = "") -> None:
        await self._call("release", lambda: self._store.release(holder, op_id, successor))

    async def write_holds(self, batch: HoldBatch) -> Mapping[str, int]:
        return await self._call("write_holds", lambda: self._store.write_holds(batch))

    async def write_timed(self, op_id: str, edits: Sequence[TimedEdit]) -> None:
        await self._call("write_timed", lambda: self._store.write_timed(op_id, edits))

    async def read(self, user_ids: Sequence[str]) -> list[Reading]:
        return await self._call("read", lambda: self._store.read(user_ids))

    async def masks(self, user_ids: Sequence[str]) -> list[int]:
        return await self._call("read", lambda: self._store.masks(user_ids))

    async def page(self, cursor: int, limit: int) -> Page:
        return await self._call("page", lambda: self._store.page(cursor, limit))

    async def page_of(self, partition: int, cursor: int, limit: int) -> Page:
        return await self._call("page_of", lambda: self._store.page_of(partition, cursor, limit))

    async def claim(self, role: str, holder: str, bids: Sequence[Bid]) -> list[Claim]:
        return await self._call("claim", lambda: self._store.claim(role, holder, bids))

    async def disown(self, role: str, holder: str, done: Mapping[int, int]) -> None:
        await self._call("disown", lambda: self._store.disown(role, holder, done))

    async def census(self) -> Census:
        return await self._call("census", self._store.census)

    async def sweep(self, op_id: str) -> None:
        await self._call("sweep", lambda: self._store.sweep(op_id))

    async def changes_since(self, partition: int, version: int) -> list[FeedEntry] | None:
        return await self._call("changes_since", lambda: self._store.changes_since(partition, version))

    async def versions(self) -> list[int]:
        return await self._call("versions", self._store.versions)

    def follow(self, listener: FeedListener, interrupted: Callable[[], None] = nothing) -> Callable[[], None]:
        def arrived(entry: FeedEntry) -> None:
            if self.drops(entry):
                return
            if self.feed_held:
                self._late.append((listener, entry))
            else:
                listener(entry)

        return self._store.follow(arrived, interrupted)

    async def close(self) -> None:
        await self._store.close()
