"""Follows the store's feed and passes it on whole: in order, once, with holes filled.

Invariant: each listener hears every entry of a partition in the order of versions,
unless the store no longer keeps what was missed; then `resync` is called instead.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from adsum.core.feed import FeedCursor, Verdict
from adsum.domain.presence import FeedEntry
from adsum.ports import FeedListener, Meter, Store

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Between tries to catch up while the store does not answer."""


class Relay:
    """One follower of the feed for this process. `resync(partition)` reads anew what the feed can't tell."""

    def __init__(
        self,
        store: Store,
        listeners: Sequence[FeedListener],
        resync: Callable[[int], Awaitable[None]],
        meter: Meter,
    ) -> None:
        self._store = store
        self._listeners = listeners
        self._resync = resync
        self._meter = meter
        self._cursor: FeedCursor | None = None
        self._early: list[FeedEntry] = []
        self._catching_up: set[asyncio.Task[None]] = set()
        self._unfollow: Callable[[], None] | None = None

    async def start(self) -> None:
        """Follow the feed from the present versions on; raises `StoreError`."""
        self._unfollow = self._store.follow(self._arrived)
        self._cursor = FeedCursor(await self._store.versions())
        early, self._early = self._early, []
        for entry in early:
            self._arrived(entry)

    async def stop(self) -> None:
        """Follow no longer."""
        if self._unfollow:
            self._unfollow()
        for task in self._catching_up:
            task.cancel()
        await asyncio.gather(*self._catching_up, return_exceptions=True)

    @property
    def behind(self) -> int:
        """How many partitions are catching up; 0 means the feed is whole."""
        return self._cursor.behind if self._cursor else 0

    def _arrived(self, entry: FeedEntry) -> None:
        if self._cursor is None:
            self._early.append(entry)
            return
        verdict = self._cursor.admit(entry)
        if verdict is Verdict.NEXT:
            self._pass_on(entry)
        elif verdict is Verdict.HOLE:
            self._meter.feed_gap()
            task = asyncio.create_task(self._catch_up(self._cursor, entry.partition))
            self._catching_up.add(task)
            task.add_done_callback(self._catching_up.discard)

    async def _catch_up(self, cursor: FeedCursor, partition: int) -> None:
        whole = False
        while not whole:
            try:
                whole = await self._fetch(cursor, partition)
            except Exception:
                log.warning("cannot catch up with partition %d, trying again", partition, exc_info=True)
                await asyncio.sleep(RETRY_S)

    async def _fetch(self, cursor: FeedCursor, partition: int) -> bool:
        entries = await self._store.changes_since(partition, cursor.version(partition))
        if entries is None:
            version = (await self._store.versions())[partition]
            log.warning("changes of partition %d were missed for good: reading its watched users anew", partition)
            await self._resync(partition)
            return cursor.advance(partition, version)
        for entry in entries:
            self._pass_on(entry)
        return cursor.advance(partition, entries[-1].version if entries else cursor.version(partition))

    def _pass_on(self, entry: FeedEntry) -> None:
        online = sum(1 for change in entry.changes if not change.before)
        offline = sum(1 for change in entry.changes if not change.after)
        self._meter.changes(online, offline)
        for listener in self._listeners:
            listener(entry)
