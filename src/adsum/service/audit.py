"""Sees to it that the store has what this node holds, whatever the store forgets while leases live.

A partition that has lost its users is told of by the relay, and what is held here of it is
written again at once. Beside that, slowly and in turn, all users held here are compared with
what the store has. A write changes nothing where nothing was lost, so to write once too
often does no harm.
"""

import asyncio
import logging

from adsum.core.partition import partition_of
from adsum.core.registry import Registry
from adsum.ports import Meter, Store
from adsum.service.flusher import Flusher
from adsum.service.forever import end, forever

log = logging.getLogger(__name__)

STEP_S = 1.0
"""Between two portions, and at least between two times that lost partitions are written again."""

LEAST_PORTION = 20
"""Users compared in one trip, to which each partition adds a call."""


class HoldAudit:
    """Compares the users of `registry` with the store, all of them in about `round_ms`."""

    def __init__(self, store: Store, registry: Registry, flusher: Flusher, meter: Meter, round_ms: int) -> None:
        self._store = store
        self._registry = registry
        self._flusher = flusher
        self._meter = meter
        self._round_ms = round_ms
        self._lost: set[int] = set()
        self._woken = asyncio.Event()
        self._round: list[str] = []
        """Users not yet compared, the next one last."""
        self._portion = LEAST_PORTION
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(forever("comparing what is held with the store", self._step), name="audit")

    async def stop(self) -> None:
        """End, whatever it is at."""
        if self._task is not None:
            await end([self._task])

    def lost(self, partition: int) -> None:
        """A partition has lost users, or may have: have all that are held here written again."""
        self._lost.add(partition)
        self._woken.set()

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(STEP_S):
                await self._woken.wait()
        except TimeoutError:
            await self._compare()
        else:
            self._woken.clear()
            lost, self._lost = self._lost, set()
            self._write_again(lost)
            await asyncio.sleep(STEP_S)

    def _write_again(self, partitions: set[int]) -> None:
        count = self._store.partitions
        users = [user_id for user_id in self._registry.users() if partition_of(user_id, count) in partitions]
        if not users:
            return
        log.warning("%d partitions have lost users: %d held here are written again", len(partitions), len(users))
        self._flusher.write_again(users)
        self._meter.repaired("loss", len(users))

    async def _compare(self) -> None:
        """Compare the next users, and have those written that the store lacks."""
        if not self._round:
            self._round = self._registry.users()
            steps = max(1, self._round_ms // int(STEP_S * 1000))
            self._portion = max(LEAST_PORTION, -(-len(self._round) // steps))
        users = self._round[-self._portion :]
        del self._round[-self._portion :]
        held = {user_id: mask for user_id in users if (mask := self._settled(user_id))}
        if not held:
            return
        found = await self._store.masks(list(held))
        lacking = [
            user_id
            for (user_id, mask), there in zip(held.items(), found, strict=True)
            if mask & ~there and self._settled(user_id) == mask
        ]
        if lacking:
            log.warning("the store has forgotten %d users that are held here: they are written again", len(lacking))
            self._flusher.write_again(lacking)
            self._meter.repaired("comparison", len(lacking))

    def _settled(self, user_id: str) -> int:
        """The platforms of a user here if the store has acknowledged them; else 0."""
        return 0 if self._flusher.is_pending(user_id) else self._registry.mask(user_id)
