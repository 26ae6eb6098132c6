"""Callers who write at the same moment share one trip.

A script call costs as much as several users in it, and so does each partition in it: so what
comes while enough is under way waits, and goes together.

Invariants:
- writes of a user reach the store in the order in which they were asked for: a user is in one trip at a time;
- a caller hears the outcome of the partitions they wrote to, whatever became of others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from adsum.domain.errors import AdsumError, StoreError
from adsum.domain.presence import TimedEdit

Parts = Mapping[int, Mapping[str, TimedEdit]]
"""By partition and user the edits."""

Failures = Mapping[int | str, AdsumError]
"""By partition why writing there failed, and by user why nothing was done for one."""

Send = Callable[[str, Parts], Awaitable[Failures]]
"""Writes under an operation ID; what failed."""

MAX_TRIPS = 2
"""Under way at a time: while one is on its way the store works on the other, and of several servers
one that hangs has at most one trip at a time to find out whether it still does."""

MAX_EDITS = 10_000
"""In one trip, before the last caller's."""


class SharedWrites:
    """Gathers what is written in one turn of the event loop, or while enough is under way."""

    def __init__(self, send: Send, place: Callable[[str], int]) -> None:
        self._send = send
        self._place = place
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Gathering] = deque()
        self._trips: dict[asyncio.Task[None], _Gathering] = {}

    async def write(self, op_id: str, edits: Sequence[TimedEdit]) -> None:
        """Apply edits in order; raises `StoreError`. Those who share a trip share one operation ID: the first's."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if not self._waiting or self._waiting[-1].size >= MAX_EDITS:
            self._waiting.append(_Gathering(op_id))
            self._loop.call_soon(self._go)
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting[-1].add(edits, self._place, done)
        await done

    async def close(self) -> None:
        """Give up what is under way."""
        for gathering in self._waiting:
            gathering.fail(StoreError("the store is closed"))
        self._waiting.clear()
        for trip in self._trips:
            trip.cancel()
        await asyncio.gather(*self._trips, return_exceptions=True)

    def _go(self) -> None:
        while self._waiting and len(self._trips) < MAX_TRIPS:
            gathering = self._waiting[0]
            # A trip may go again, and must not arrive after what was written later.
            if any(gathering.shares_users(other) for other in self._trips.values()):
                return
            self._waiting.popleft()
            trip = asyncio.create_task(self._run(gathering))
            self._trips[trip] = gathering
            trip.add_done_callback(self._ended)

    def _ended(self, trip: "asyncio.Task[None]") -> None:
        del self._trips[trip]
        self._go()

    async def _run(self, gathering: "_Gathering") -> None:
        try:
            gathering.tell(await self._send(gathering.op_id, gathering.parts))
        except asyncio.CancelledError:
            gathering.fail(StoreError("the store is closed"))
            raise
        except Exception as error:  # noqa: BLE001 - told to those who asked
            gathering.fail(error)


class _Gathering:
    """Edits of several callers."""

    __slots__ = ("_callers", "op_id", "parts", "size")

    def __init__(self, op_id: str) -> None:
        self.op_id = op_id
        self.parts: dict[int, dict[str, TimedEdit]] = {}
        self.size = 0
        self._callers: list[tuple[asyncio.Future[None], set[int], Sequence[TimedEdit]]] = []

    def add(self, edits: Sequence[TimedEdit], place: Callable[[str], int], done: "asyncio.Future[None]") -> None:
        parts, mine = self.parts, set()
        for edit in edits:
            partition = place(edit.user_id)
            mine.add(partition)
            part = parts.get(partition)
            if part is None:
                part = parts[partition] = {}
            earlier = part.setdefault(edit.user_id, edit)
            if earlier is not edit:
                part[edit.user_id] = earlier.then(edit)
        self.size += len(edits)
        self._callers.append((done, mine, edits))

    def shares_users(self, other: "_Gathering") -> bool:
        parts = other.parts
        return any(not edits.keys().isdisjoint(parts.get(partition, ())) for partition, edits in self.parts.items())

    def tell(self, failures: Failures) -> None:
        for done, partitions, edits in self._callers:
            if done.done():
                continue
            failed: list[AdsumError] = []
            if failures:
                failed += [failures[partition] for partition in sorted(partitions & failures.keys())]
                failed += [failures[edit.user_id] for edit in edits if edit.user_id in failures]
            if failed:
                done.set_exception(failed[0])
            else:
                done.set_result(None)

    def fail(self, error: Exception) -> None:
        for done, _, _ in self._callers:
            if not done.done():
                done.set_exception(error)
