"""Follows the store's feed and passes it on whole: in order, once, with holes filled.

Invariant: each listener hears every entry of a partition in the order of versions,
unless the store no longer keeps what was missed; then `resync` is called instead.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from adsum.core.feed import FeedCursor, Verdict
from adsum.domain.presence import FeedEntry
from adsum.ports import FeedListener, Meter, Store, nothing
from adsum.service.calm import Calm
from adsum.service.each import each
from adsum.service.forever import end, forever

log = logging.getLogger(__name__)

SOUND_LOOKS = 3
"""For so many intervals a look at the store's versions counts: one may fail, and one be late."""

RETRY_S = 0.5
"""Between tries to catch up while the store does not answer, or does not have yet what it told of."""


def ignore(_partition: int) -> None:
    """For who need not write again what a partition has lost."""


class Resync(Protocol):
    """Reads anew what the feed can't tell."""

    async def __call__(self, partition: int, *, restarted: bool) -> None:
        """Read a partition; `restarted`: its versions may be lower than those known."""
        ...


class Relay:
    """One follower of the feed for this process.

    Every `look_interval_ms` it compares versions, for a change that was lost with none
    after it to show the hole. Where the store has, or may have, another past than the one
    seen, all nodes write again what they hold; watched users are read anew only `grace_ms`
    later, or those not written yet would be taken for offline. `forgotten` is called with each
    partition that is found so; of the store as a whole `interrupted` tells.
    """

    def __init__(
        self,
        store: Store,
        listeners: Sequence[FeedListener],
        resync: Resync,
        meter: Meter,
        look_interval_ms: int = 1_000,
        interrupted: Callable[[], None] = nothing,
        grace_ms: int = 0,
        forgotten: Callable[[int], None] = ignore,
    ) -> None:
        self._store = store
        self._listeners = listeners
        self._resync = resync
        self._meter = meter
        self._interrupted = interrupted
        self._forgotten = forgotten
        self._losses = 0
        self._partition_losses = Counter[int]()
        self._lost_s = float("-inf")
        self._asked: list[asyncio.Future[list[int]]] = []
        self._asking = False
        self._grace_s = grace_ms / 1000
        self._look_interval_s = look_interval_ms / 1000
        self._cursor: FeedCursor | None = None
        self._early: list[FeedEntry] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._rereads: dict[int, asyncio.Task[None]] = {}
        self._unfollow: Callable[[], None] | None = None
        self.looked_s = 0.0
        """When the last look that was answered began, by the loop's clock."""
        self._looked_session = 0
        self._calm = Calm(log, "catching up with the feed")

    async def start(self) -> None:
        """Follow the feed from the present versions on; raises `StoreError`."""
        self._unfollow = self._store.follow(self._arrived, self._lost)
        looking = self._begin_look()
        cursor = self._cursor = FeedCursor(await self._store.versions())
        self._end_look(*looking)
        early, self._early = self._early, []
        for entry in early:
            self._arrived(entry)
        self._spawn(forever("looking for lost changes", partial(self._look, cursor)))

    async def stop(self) -> None:
        """Follow no longer."""
        if self._unfollow:
            self._unfollow()
        await end(self._tasks)

    @property
    def behind(self) -> int:
        """How many partitions are catching up; 0 means the feed is whole."""
        return self._cursor.behind if self._cursor else 0

    def sound(self) -> FeedCursor | None:
        """The cursor, while it tells how far the feed is behind the store; None while that is in doubt.

        What is told of a partition that is not `doubtful` then is all that the store had at some
        moment of the last `SOUND_LOOKS` intervals.
        """
        if not self._looked_session or self._looked_session != self._store.feed_session:
            return None
        if asyncio.get_running_loop().time() - self.looked_s > self._look_interval_s * SOUND_LOOKS:
            return None
        return self._cursor

    def read_lost(self, newest: Mapping[int, int]) -> None:
        """The store may have lost what is known in these versions, by partition: what is newer than the feed.

        Where it has, no version need show it, so the users are read anew.
        """
        for partition, version in newest.items():
            if self._cursor is not None and version > self._cursor.version(partition):
                # One that is pending has to wait anew, or has read what may be lost: the newest does for all.
                if earlier := self._rereads.get(partition):
                    earlier.cancel()
                self._rereads[partition] = task = asyncio.create_task(self._read_anew(partition))
                self._keep(task)

    async def _read_anew(self, partition: int) -> None:
        whole = False
        while not whole:
            try:
                await self._written_again(partition)
                await self._resync(partition, restarted=False)
                whole = True
            except Exception as error:  # noqa: BLE001 - logged
                self._calm.failed(error)
            if not whole:
                await asyncio.sleep(RETRY_S)

    def _arrived(self, entry: FeedEntry) -> None:
        if self._cursor is None:
            self._early.append(entry)
            return
        seen = self._cursor.version(entry.partition)
        verdict = self._cursor.admit(entry)
        if seen and not entry.before and verdict is not Verdict.KNOWN:
            # The first entry of a partition that had others: it has lost its users, and goes on.
            self._partition_losses[entry.partition] += 1
            self._forgotten(entry.partition)
        if verdict is Verdict.NEXT:
            self._pass_on(entry)
        elif verdict is Verdict.HOLE:
            # One that comes after an older version than the one seen is of a past that does not have that.
            self._mend(self._cursor, entry.partition, same_past=entry.before > seen)

    def _lost(self) -> None:
        self._losses += 1
        self._lost_s = asyncio.get_running_loop().time()
        self._interrupted()

    async def _look(self, cursor: FeedCursor) -> None:
        await asyncio.sleep(self._look_interval_s)
        looking = self._begin_look()
        seen = cursor.versions()
        findings = cursor.look(seen, await self._store.versions())
        self._end_look(*looking)
        if findings.restarts:
            log.warning("%d partitions have another past: their users are read anew", len(findings.restarts))
        for partition in (*findings.holes, *findings.restarts):
            # Seen and not heard: the feed may still be of a server that others have replaced.
            self._mend(cursor, partition, same_past=False)

    def _begin_look(self) -> tuple[float, int]:
        return asyncio.get_running_loop().time(), self._store.feed_session

    def _end_look(self, began_s: float, session: int) -> None:
        # Where the feed was interrupted meanwhile, its session is another one.
        self.looked_s, self._looked_session = began_s, session

    def _mend(self, cursor: FeedCursor, partition: int, *, same_past: bool) -> None:
        self._meter.feed_gap()
        self._spawn(self._catch_up(cursor, partition, same_past=same_past))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.create_task(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _catch_up(self, cursor: FeedCursor, partition: int, *, same_past: bool) -> None:
        whole = False
        while not whole:
            reached = cursor.version(partition)
            try:
                whole = await self._fetch(cursor, partition, same_past=same_past)
            except Exception as error:  # noqa: BLE001 - logged
                self._calm.failed(error)
            else:
                self._calm.passed()
            if not whole and cursor.version(partition) == reached:
                await asyncio.sleep(RETRY_S)
                cursor.forget_told(partition)

    async def _fetch(self, cursor: FeedCursor, partition: int, *, same_past: bool) -> bool:
        seen = cursor.version(partition)
        entries = await self._store.changes_since(partition, seen)
        if entries is None:
            log.info("changes of partition %d are no longer kept: its watched users are read anew", partition)
            version = (await self._versions())[partition]
            if version < seen or not same_past or self._may_have_lost():
                self._forgotten(partition)
                version = await self._written_again(partition)
            await self._resync(partition, restarted=version < seen)
            return cursor.advance(partition, version)
        for entry in entries:
            self._pass_on(entry)
        return cursor.advance(partition, entries[-1].version if entries else seen)

    async def _written_again(self, partition: int) -> int:
        """Wait until all nodes have had the time to write again what the store has lost; the version then.

        If it loses more meanwhile, the time begins anew.
        """
        while True:
            losses, began = self._losses_of(partition), (await self._versions())[partition]
            await asyncio.sleep(self._grace_s)
            version = (await self._versions())[partition]
            if version < began:
                self._forgotten(partition)
            elif self._losses_of(partition) == losses:
                return version

    def _losses_of(self, partition: int) -> int:
        """How often the store may have lost what it had in a partition, as far as was noticed."""
        return self._losses + self._partition_losses[partition]

    def _may_have_lost(self) -> bool:
        """Whether others may not have written again yet what the store has lost, as far as the feed tells."""
        return not self._store.feed_session or asyncio.get_running_loop().time() - self._lost_s < self._grace_s

    async def _versions(self) -> list[int]:
        """The store's versions, asked for once for all partitions that need them at the moment."""
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        if not self._asking:
            self._asking = True
            self._spawn(self._ask_versions())
        return await answer

    async def _ask_versions(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                versions, failure = list[int](), None
                try:
                    versions = await self._store.versions()
                except Exception as error:  # noqa: BLE001 - told to those who asked
                    failure = error
                for answer in asked:
                    if answer.done():
                        continue
                    if failure is None:
                        answer.set_result(versions)
                    else:
                        answer.set_exception(failure)
        finally:
            self._asking = False

    def _pass_on(self, entry: FeedEntry) -> None:
        online = offline = 0
        for change in entry.changes:
            if not change.before:
                online += 1
            elif not change.after:
                offline += 1
        self._meter.changes(online, offline)
        # One that could not take an entry over has missed it; what it keeps is read anew.
        each(
            "taking over an entry of the feed",
            self._listeners,
            lambda listener: listener(entry),
            lambda _listener: self._spawn(self._read_anew(entry.partition)),
        )
