"""Keeps this gateway's lease, and removes what others left behind.

Renewal costs one call however many users are held. A lease found gone means the
store has forgotten (or is about to forget) all that this gateway holds: it takes
a new name and writes everything again.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from adsum.domain.errors import StoreError
from adsum.ports import Clock, Meter, Store
from adsum.service.flusher import Flusher
from adsum.service.forever import forever

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
        self._failing = False
        self.holder = ""
        self.renewed_ms = 0
        """When the lease was last known to be good."""

    async def start(self) -> None:
        """Take the first lease; raises `StoreError`."""
        await self._join()
        # Many renewals may fail before the lease ends.
        retry_s = self._options.lease_ttl_ms / 15_000
        self._tasks = [
            asyncio.create_task(forever("keeping the lease", self._keep, retry_s), name="keeper"),
            asyncio.create_task(forever("sweeping", self._sweep), name="sweeper"),
        ]

    async def stop(self) -> None:
        """End the lease and all that is held by it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._store.release(self.holder, self._next_op_id())
        except StoreError as error:
            log.warning("cannot give up the lease, it will end by itself: %s", error)

    @property
    def held(self) -> bool:
        """Whether the lease is good, as far as this process knows."""
        return self._clock.monotonic_ms() - self.renewed_ms < self._options.lease_ttl_ms

    async def _keep(self) -> None:
        lost = self._flusher.lease_lost
        try:
            # After a renewal that failed, the pause before this step was the wait.
            async with asyncio.timeout(0 if self._failing else self._options.lease_ttl_ms / 3000):
                await lost.wait()
        except TimeoutError:
            pass
        if not lost.is_set() and await self._renew():
            return
        # Should the store fail now, the next try begins here, not with another renewal.
        lost.set()
        log.warning("the lease of %s is gone: writing all users again", self.holder)
        await self._join()

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
        self.holder = holder
        self.renewed_ms = asked_ms
        self._flusher.lease_lost.clear()
        self._flusher.rejoin(holder)
        # What this gateway held under its old name goes with the next sweep. Everything
        # should be written under the new one first, or watchers would hear of users
        # leaving who never left.
        self._sweep_after_ms = asked_ms + self._options.lease_ttl_ms if self._tasks else 0

    async def _sweep(self) -> None:
        await asyncio.sleep(self._options.sweep_interval_ms / 1000)
        if self._clock.monotonic_ms() < self._sweep_after_ms and not await self._flusher.settle(0):
            return
        self._sweep_after_ms = 0
        if self.held:
            await self._store.sweep(self._next_op_id())
