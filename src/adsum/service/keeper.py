"""Keeps this gateway's lease, and removes what others left behind.

Renewal costs one call however many users are held. A lease found gone means the
store has forgotten (or is about to forget) all that this gateway holds: it takes
a new name and writes everything again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from adsum.domain.errors import LeaseLost, StoreError
from adsum.ports import Clock, Meter, Store
from adsum.service.flusher import Flusher
from adsum.service.forever import end, forever

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """The lease's length, renewed at a third of it, and how often ended holds are swept."""

    lease_ttl_ms: int = 15_000
    sweep_interval_ms: int = 1_000


class Keeper:
    """The lease of this process. `next_holder` names each incarnation."""

    def __init__(
        self,
        store: Store,
        flusher: Flusher,
        clock: Clock,
        meter: Meter,
        options: KeeperOptions,
        next_holder: Callable[[], str],
        next_op_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._flusher = flusher
        self._clock = clock
        self._meter = meter
        self._options = options
        self._next_holder = next_holder
        self._next_op_id = next_op_id
        self._tasks: list[asyncio.Task[None]] = []
        self._sweep_after_ms = 0
        self._former: list[str] = []
        self._failing = False
        self.holder = ""
        self.renewed_ms = 0
        """When the lease was last known to be good."""
        self.trouble = ""
        """Why the store could not be used last time; empty while it can."""

    async def start(self) -> None:
        """Take the first lease; raises `StoreError`."""
        await self._join()
        # Many renewals may fail before the lease ends.
        retry_s = self._options.lease_ttl_ms / 15_000
        self._tasks = [
            asyncio.create_task(
                forever("keeping the lease", partial(self._noting, self._keep), retry_s), name="keeper"
            ),
            asyncio.create_task(forever("sweeping", partial(self._noting, self._sweep)), name="sweeper"),
        ]

    async def stop(self) -> None:
        """End the lease and all that is held by it."""
        await end(self._tasks)
        try:
            await self._store.release(self.holder, self._next_op_id())
        except StoreError as error:
            log.warning("cannot give up the lease, it will end by itself: %s", error)

    @property
    def held(self) -> bool:
        """Whether the lease is good, as far as this process knows."""
        return self.held_for(0)

    def held_for(self, ms: int) -> bool:
        """Whether it is good for so long yet, as far as this process knows."""
        return self._clock.monotonic_ms() + ms - self.renewed_ms < self._options.lease_ttl_ms

    async def _noting(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Note what becomes of a step, which tells whether the store answered it."""
        try:
            if await step():
                self.trouble = ""
        except StoreError as error:
            self.trouble = error.detail
            raise

    async def _keep(self) -> bool:
        lost = self._flusher.lease_lost
        try:
            # After a renewal that failed, the pause before this step was the wait.
            async with asyncio.timeout(0 if self._failing else self._options.lease_ttl_ms / 3000):
                await lost.wait()
        except TimeoutError:
            pass
        if not lost.is_set() and await self._renew():
            return True
        # Should the store fail now, the next try begins here, not with another renewal.
        lost.set()
        former = self.holder
        await self._join()
        log.warning("the lease of %s is gone: writing all users again as %s", former, self.holder)
        return True

    async def _renew(self) -> bool:
        asked_ms = self._clock.monotonic_ms()
        self._failing = True
        try:
            good = await self._store.renew(self.holder, self._options.lease_ttl_ms)
        except StoreError:
            self._meter.renewal(ok=False)
            raise
        self._failing = False
        self._meter.renewal(ok=good)
        if good:
            self.renewed_ms = asked_ms
        return good

    async def _join(self) -> None:
        holder = self._next_holder()
        asked_ms = self._clock.monotonic_ms()
        await self._store.grant(holder, self._options.lease_ttl_ms)
        if self.holder:
            self._former.append(self.holder)
        self.holder = holder
        self.renewed_ms = asked_ms
        self._flusher.lease_lost.clear()
        self._flusher.rejoin(holder)
        # What made this lease end, or had this node start, such as a store that was away, may have
        # ended all: others must have had time to find out and to write, before what they held is swept.
        self._sweep_after_ms = asked_ms + self._options.lease_ttl_ms

    async def _sweep(self) -> bool:
        await asyncio.sleep(self._options.sweep_interval_ms / 1000)
        await self._end_former()
        if not self.held or self._clock.monotonic_ms() < self._sweep_after_ms:
            return False
        await self._store.sweep(self._next_op_id())
        return True

    async def _end_former(self) -> None:
        """End what this gateway held under its former names, once all of that is written under the present one.

        Any earlier, watchers would hear of users leaving who never left.
        """
        lost = self._flusher.lease_lost
        while self._former and self.held and not lost.is_set() and self._flusher.rewritten:
            try:
                await self._store.release(self._former[0], self._next_op_id(), self.holder)
            except LeaseLost:
                lost.set()
                raise
            del self._former[0]
