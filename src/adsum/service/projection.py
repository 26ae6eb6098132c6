"""Keeps a copy of presence where other services look for it.

It follows the feed, one node a partition, and writes each user's present platforms: a
newer state replaces one that waits, and writing one again does no harm. Where nothing
changes the copy would expire, so each partition is walked now and then; that mends what
the copy has lost, too. When it is not sure that every change was copied, a partition's
users in the copy are compared, or who went meanwhile would stay until they expire.

Invariant: a state read from the store never replaces one that the feed told after it
was asked for.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from adsum.core.backoff import backoff_ms
from adsum.core.partition import partition_of
from adsum.domain.errors import StoreError
from adsum.domain.presence import Status
from adsum.ports import Clock, Meter, Projection, Store
from adsum.service.forever import end, forever
from adsum.service.target import Handed, Owned

log = logging.getLogger(__name__)

PAGE_USERS = 1_000
USERS_A_WRITE = 500


@dataclass(frozen=True, slots=True)
class ProjectorOptions:
    """With `most_waiting` users to be written nothing further is taken; each partition is walked every `renew_ms`.

    A write that fails is tried again after `retry_min_ms`, doubling to `retry_max_ms`.
    """

    most_waiting: int = 10_000
    renew_ms: int = 600_000
    retry_min_ms: int = 100
    retry_max_ms: int = 10_000


class _State(NamedTuple):
    mask: int
    owned: Owned


class _Wave:
    """States that are written together, and the entries that are done then. The oldest came at `since_ms`."""

    def __init__(self) -> None:
        self.states: dict[str, _State] = {}
        self.handed: list[Handed] = []
        self.since_ms: int | None = None

    def __bool__(self) -> bool:
        return bool(self.states or self.handed)


class Projector:
    """The copy as this node keeps it for the partitions it owns; a `Target` of the feed."""

    def __init__(
        self,
        store: Store,
        projection: Projection,
        clock: Clock,
        meter: Meter,
        options: ProjectorOptions,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._projection = projection
        self._clock = clock
        self._meter = meter
        self._options = options
        self._jitter = jitter
        self._waiting = _Wave()
        self._flying = _Wave()
        self._wake = asyncio.Event()
        self._due_ms: dict[Owned, int] = {}
        """When each partition owned is to be walked next."""
        self._doubtful: dict[int, Owned] = {}
        """Those whose users in the copy are to be compared."""
        self._walk = asyncio.Event()
        self._written = asyncio.Event()
        self._changed: set[str] | None = None
        """While users are being read, those whom the feed told of meanwhile."""
        self._failures = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.trouble = ""
        """Why the last write failed; empty if it did not."""

    @property
    def waiting(self) -> int:
        """Users whose present state is not yet in the copy, as far as is known."""
        return len(self._waiting.states) + len(self._flying.states)

    @property
    def lag_ms(self) -> int:
        """For how long the oldest of them has waited."""
        since_ms = self._flying.since_ms if self._flying else self._waiting.since_ms
        return 0 if since_ms is None else self._clock.monotonic_ms() - since_ms

    def start(self) -> None:
        """Begin to write."""
        self._tasks = [
            asyncio.create_task(forever("writing the projection", self._write_step), name="projection"),
            asyncio.create_task(forever("walking for the projection", self._walk_step), name="projection walk"),
        ]

    async def stop(self) -> None:
        """Write no more. What is not written yet, the next owner writes."""
        await end(self._tasks)
        await self._projection.close()

    # A target of the feed

    @property
    def room(self) -> bool:
        """Whether it takes a further entry now."""
        return len(self._waiting.states) < self._options.most_waiting

    def begin(self, owned: Owned) -> None:
        """A partition is this node's: nobody knows how much of it is in the copy."""
        self._due_ms[owned] = 0
        self._doubtful[owned.partition] = owned
        self._walk.set()

    def take(self, handed: Handed) -> None:
        """Have the present platforms of an entry's users written."""
        changes = handed.entry.changes
        if not changes:
            handed.done()
            return
        for change in changes:
            if self._changed is not None:
                self._changed.add(change.user_id)
            self._put(change.user_id, _State(change.after, handed.owned))
        self._waiting.handed.append(handed)

    def lost(self, owned: Owned, position: int, version: int) -> None:  # noqa: ARG002 - all is read anew
        """Changes were not told: the partition is walked."""
        self.begin(owned)

    def _put(self, user_id: str, state: _State) -> None:
        if self._waiting.since_ms is None:
            self._waiting.since_ms = self._clock.monotonic_ms()
        self._waiting.states[user_id] = state
        self._wake.set()

    # Writing

    async def _write_step(self) -> None:
        if not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        wave, self._waiting = self._waiting, _Wave()
        self._flying = wave
        try:
            await self._write(wave)
        except Exception as error:  # noqa: BLE001 - whatever it is, the users must still be written
            await self._failed(wave, error)
        else:
            self._flying = _Wave()
            self._succeeded()
            for handed in wave.handed:
                handed.done()
            self._written.set()

    async def _write(self, wave: _Wave) -> None:
        states = iter(wave.states.items())
        while some := list(islice(states, USERS_A_WRITE)):
            # Asked each time: this process may have stood still meanwhile, and another written something newer.
            statuses = [Status(user_id, state.mask) for user_id, state in some if state.owned.good]
            if not statuses:
                continue
            try:
                await self._projection.write(statuses)
            except Exception:
                self._meter.projected(len(statuses), ok=False)
                raise
            self._meter.projected(len(statuses), ok=True)

    async def _failed(self, wave: _Wave, error: Exception) -> None:
        if not self._failures:
            defect = None if isinstance(error, StoreError) else error
            log.warning("the projection cannot be written: %s; trying again", error, exc_info=defect)
        self._failures += 1
        self.trouble = str(error)
        options = self._options
        pause_ms = backoff_ms(self._failures, options.retry_min_ms, options.retry_max_ms, self._jitter())
        await asyncio.sleep(pause_ms / 1000)
        newer, self._waiting, self._flying = self._waiting, wave, _Wave()
        wave.states |= newer.states
        wave.handed += newer.handed

    def _succeeded(self) -> None:
        self.trouble = ""
        if self._failures:
            log.info("the projection is written again after %d failures", self._failures)
            self._failures = 0
            # It may have come back with less than it had, or something older.
            for owned in list(self._due_ms):
                self.begin(owned)

    # Walking

    async def _walk_step(self) -> None:
        self._walk.clear()
        if self._doubtful:
            await self._compare()
        self._due_ms = {owned: due_ms for owned, due_ms in self._due_ms.items() if owned.good}
        owned = min(self._due_ms, key=self._due_ms.__getitem__, default=None)
        wait_ms = None if owned is None else self._due_ms[owned] - self._clock.monotonic_ms()
        if owned is None or wait_ms is None or wait_ms > 0:
            await self._wait(wait_ms)
            return
        # Some come a little earlier than others, so that not all come at once for ever.
        pause_ms = int(self._options.renew_ms * (1 - self._jitter() / 10))
        self._due_ms[owned] = self._clock.monotonic_ms() + pause_ms
        try:
            await self._walk_through(owned)
        except BaseException:
            if owned in self._due_ms:
                self._due_ms[owned] = 0
            raise

    async def _walk_through(self, owned: Owned) -> None:
        """Write everybody who is online in a partition."""
        cursor = 0
        while owned.good:
            async with self._reading():
                page = await self._store.page_of(owned.partition, cursor, PAGE_USERS)
                for user_id, mask in page.users:
                    self._put_read(user_id, _State(mask, owned))
            cursor = page.next_cursor
            if not cursor:
                return

    async def _compare(self) -> None:
        """Have those removed from the copy who are not online, in the partitions in doubt."""
        doubtful, self._doubtful = self._doubtful, {}
        # What was read or told of a past that the store has lost may get there after the copy was looked at.
        on_the_way = [*self._flying.states, *self._waiting.states]
        try:
            for start in range(0, len(on_the_way), PAGE_USERS):
                await self._compare_some(on_the_way[start : start + PAGE_USERS], doubtful)
            async with aclosing(self._projection.users()) as portions:
                async for users in portions:
                    await self._compare_some(users, doubtful)
        except BaseException:
            self._doubtful = doubtful | self._doubtful
            raise

    async def _compare_some(self, users: Sequence[str], doubtful: Mapping[int, Owned]) -> None:
        count = self._store.partitions
        mine = [user_id for user_id in users if partition_of(user_id, count) in doubtful]
        if not mine:
            return
        async with self._reading():
            for user_id, reading in zip(mine, await self._store.read(mine), strict=True):
                if not reading.mask:
                    self._put_read(user_id, _State(0, doubtful[partition_of(user_id, count)]))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        """While the store is read, once there is room; what the feed tells meanwhile is newer than what is read."""
        while not self.room:
            self._written.clear()
            await self._written.wait()
        self._changed = set()
        try:
            yield
        finally:
            self._changed = None

    def _put_read(self, user_id: str, state: _State) -> None:
        assert self._changed is not None
        # What waits was told or read before, and may be of a past that the store has lost.
        if user_id not in self._changed:
            self._put(user_id, state)

    async def _wait(self, wait_ms: int | None) -> None:
        try:
            async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000):
                await self._walk.wait()
        except TimeoutError:
            pass
