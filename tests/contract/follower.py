"""A follower of a store's feed that can wait until it has heard all there is."""

import asyncio

from adsum.domain.presence import Change, FeedEntry
from adsum.ports import Store
from tests.support.world import changes_of, fold

TRIES = 1_000


class Follower:
    """Records entries of a store that was empty when it was made, and checks that they form a chain."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.heard: list[FeedEntry] = []
        self._versions: dict[int, int] = {}
        self.stop = store.follow(self._arrived)

    def _arrived(self, entry: FeedEntry) -> None:
        assert entry.before == self._versions.get(entry.partition, 0), "an entry names the one before it"
        assert entry.version > entry.before, "versions grow"
        self._versions[entry.partition] = entry.version
        self.heard.append(entry)

    async def entries(self) -> list[FeedEntry]:
        """Everything heard, once it is all there is."""
        for _ in range(TRIES):
            newest = await self._store.versions()
            if all(self._versions.get(partition, 0) >= version for partition, version in enumerate(newest)):
                break
            await asyncio.sleep(0.002)
        return list(self.heard)

    async def changes(self, user_id: str) -> list[Change]:
        """One user's changes, in order."""
        return changes_of(await self.entries(), user_id)

    async def steps(self, user_id: str) -> list[tuple[int, int]]:
        """One user's masks before and after each change, in order."""
        return [(change.before, change.after) for change in await self.changes(user_id)]

    async def fold(self) -> dict[str, int]:
        """The users online, as the feed tells."""
        return fold(await self.entries())
