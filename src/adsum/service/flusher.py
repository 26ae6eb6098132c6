"""Carries the writer's batches to the store: one task a lane, asleep while nothing is dirty."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from adsum.core.logins import LoginLedger
from adsum.core.pace import Pace
from adsum.core.writer import Flight, Writer
from adsum.domain.errors import LeaseLost
from adsum.domain.presence import Cause, HoldBatch
from adsum.ports import Clock, Meter, Store
from adsum.service.calm import Calm
from adsum.service.forever import end, forever

log = logging.getLogger(__name__)

REST_MS = 10
"""How long a lane gathers under load before it writes again, unless it has a full batch."""


class Flusher:
    """Writes this gateway's dirty users.

    A write that takes longer than `max_wait_ms` is given up, its outcome unknown:
    so a change is on its way to the store at the latest that long after it was
    made, and the users of the write given up go again with the next one.
    `written` is called with each write that the store acknowledged, and when new logins
    were told, by user.
    """

    def __init__(
        self,
        writer: Writer,
        ledger: LoginLedger,
        store: Store,
        clock: Clock,
        meter: Meter,
        max_wait_ms: int,
        jitter: Callable[[], float],
        written: Callable[[HoldBatch, Mapping[str, int]], None],
    ) -> None:
        self._writer = writer
        self._registry = ledger.registry
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._meter = meter
        self._max_wait_s = max_wait_ms / 1000
        self._jitter = jitter
        self._written = written
        self._wake = [asyncio.Event() for _ in writer.dirty_users]
        self._pace = Pace(len(self._wake))
        self._tasks: list[asyncio.Task[None]] = []
        self._calm = Calm(log, "writing users")
        self.lease_lost = asyncio.Event()
        """Set when a write found the lease gone; the keeper clears it."""

    def start(self) -> None:
        """Start the workers."""
        self._tasks = [
            asyncio.create_task(forever(f"writing lane {lane}", partial(self._step, lane)), name=f"flusher-{lane}")
            for lane in range(len(self._wake))
        ]

    def changed(self, user_id: str, cause: Cause) -> None:
        """A user's connections changed: have the present platforms written."""
        self._wake[self._writer.mark(user_id, cause, self._clock.monotonic_ms())].set()

    def write_again(self, user_ids: Iterable[str]) -> None:
        """Write users that have not changed: the store does not have what it acknowledged."""
        for lane in self._writer.mark_again(user_ids, self._clock.monotonic_ms()):
            self._wake[lane].set()

    def is_pending(self, user_id: str) -> bool:
        """Whether a write of the user is waiting or under way."""
        return self._writer.is_pending(user_id)

    def rejoin(self, holder: str) -> None:
        """Write everything again as a new holder."""
        self._ledger.tell_again(self._registry.all_sessions())
        self._writer.rejoin(holder, self._registry.users(), self._clock.monotonic_ms())
        for wake in self._wake:
            wake.set()

    @property
    def rewritten(self) -> bool:
        """Whether all that was held under the former name is written under the present one."""
        return self._writer.rewritten

    async def settle(self, timeout_ms: int) -> bool:
        """Wait until everything is written, at most `timeout_ms`; whether it is."""
        ends_ms = self._clock.monotonic_ms() + timeout_ms
        # Only the end of a process waits here: not worth an event that every write would have to set.
        while not self._writer.clean and self._clock.monotonic_ms() < ends_ms:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return self._writer.clean

    async def stop(self) -> None:
        """End the workers, whatever they are at."""
        await end(self._tasks)

    async def _step(self, lane: int) -> None:
        now_ms = self._clock.monotonic_ms()
        flight = self._writer.take(lane, now_ms, self._ledger.tell)
        if flight is None:
            await self._idle(lane, now_ms)
        else:
            await self._write(lane, flight)

    async def _idle(self, lane: int, now_ms: int) -> None:
        """Sleep until something changes or a retry is due.

        `now_ms` is when nothing could be taken: by a later look at the clock the
        retry may be due already, and there would be nothing to wait for but a change.
        """
        wake = self._wake[lane]
        wait_ms = self._writer.retry_in_ms(lane, now_ms)
        if wait_ms is None:
            await wake.wait()
        else:
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await wake.wait()
            except TimeoutError:
                return
        wake.clear()

    async def _write(self, lane: int, flight: Flight) -> None:
        error: Exception | None = None
        told_ms: Mapping[str, int] = {}
        try:
            async with asyncio.timeout(self._max_wait_s):
                told_ms = await self._store.write_holds(flight.batch)
        except LeaseLost as lost:
            error = lost
            if flight.batch.holder == self._writer.holder:
                self.lease_lost.set()
        except Exception as failure:  # noqa: BLE001 - whatever it is, the users must stay dirty
            error = failure
        now_ms = self._clock.monotonic_ms()
        if error is None:
            self._writer.acknowledged(lane)
            # What a former name wrote may be gone with it: all is told again under the present one.
            if flight.batch.holder == self._writer.holder:
                self._written(flight.batch, told_ms)
            else:
                self._ledger.failed(flight.batch.states)
            self._calm.passed()
        else:
            self._calm.failed(error)
            self._writer.failed(lane, now_ms, self._jitter())
            self._ledger.failed(flight.batch.states)
        waited_ms, took_ms = flight.taken_ms - flight.oldest_ms, now_ms - flight.taken_ms
        self._meter.batch(lane, len(flight.marks), waited_ms, took_ms, ok=error is None)
        # Under load one change after the other would be a trip each, which costs as much as two handshakes: so
        # lanes rest between writes. (The embedded store never waits: others must have their turn.)
        rests = self._pace.under_load(now_ms) and not self._writer.has_full_batch(lane)
        await asyncio.sleep(REST_MS / 1000 if rests else 0)
