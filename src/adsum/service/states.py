"""The states of users: from memory while the feed keeps them true, else from the store.

A user is entered in the table before it is read, so the feed's changes of it apply from
then on. Therefore one reading serves everybody who asks while it is under way: what
happened in the store after the reading was taken comes by the feed, and what an answer
lacks is what the feed has still to bring, as for any answer from memory. Where the feed
is in doubt this does not hold, so everybody there has a reading of their own.

Invariant: an answer was read after it was asked for, or is what the feed had told when
the feed was sound: behind the store by no more than `Relay.sound` allows, never behind an
earlier answer, and never behind a write that ended here before it was asked for.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from adsum.core.feed import FeedCursor
from adsum.core.known import UNREAD, Known, KnownTable
from adsum.domain.errors import StoreError
from adsum.domain.presence import FeedEntry
from adsum.ports import Meter, Store

READ_USERS = 1_000
"""Users asked of the store in one trip when reading anew."""


def _unheard(_user_id: str) -> None:
    """For when nobody watches."""


class _Fetch:
    """A reading under way. `done` once its users are taught, or with the store's error if it has failed."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done: asyncio.Future[StoreError | None] = asyncio.get_running_loop().create_future()


class States:
    """What is known of users here; `feed` gives the feed's cursor while it is sound.

    `news` is called with each watched user whose platforms are other than was known.
    """

    def __init__(self, store: Store, feed: Callable[[], FeedCursor | None], meter: Meter, max_hot: int) -> None:
        self.table = KnownTable(store.partitions, max_hot)
        self.news: Callable[[str], None] = _unheard
        self._store = store
        self._feed = feed
        self._meter = meter

    # The feed

    def on_feed(self, entry: FeedEntry) -> None:
        """Take over the changes of known users."""
        for change in entry.changes:
            user = self.table.find(change.user_id)
            if user is not None and user.learn(change.after, entry.version) and user.watchers:
                self.news(change.user_id)

    async def resync(self, partition: int, *, restarted: bool) -> None:
        """Forget who was only asked for in a partition, and read the watched anew; raises `StoreError`.

        `restarted`: the store has another past than the one known, so its versions say
        nothing about which state is newer.
        """
        self.table.cool(partition)
        users = [user for user in self.table.watched() if user.partition == partition]
        for start in range(0, len(users), READ_USERS):
            await self._read_anew(users[start : start + READ_USERS], restarted=restarted)

    async def _read_anew(self, users: Sequence[Known], *, restarted: bool) -> None:
        # The store is read after all this was learned: unless something was learned meanwhile, what it
        # answers is newer, even if its versions are lower than one read from a past it has lost since.
        before = [user.version for user in users]
        with self._fetching(users) as fetch:
            readings = await self._store.read([user.user_id for user in users])
            for user, version, (mask, at) in zip(users, before, readings, strict=True):
                if user.learn(mask, at, anyway=restarted or user.version == version) and user.watchers:
                    self.news(user.user_id)
                if user.fetch is fetch:
                    user.floor, user.fetch = 0, None

    def interrupted(self) -> dict[int, int]:
        """The store may have another past: what it told before counts for no answer.

        Returns the newest version of any watched user, by partition: where the feed has not come
        so far, a state may be from a past that is lost, and the feed will not tell.
        """
        self.table.cool()
        newest: dict[int, int] = {}
        for user in self.table.watched():
            user.distrust()
            newest[user.partition] = max(user.version, newest.get(user.partition, UNREAD))
        return newest

    # Writing

    def written(self, user_ids: Iterable[str]) -> None:
        """Users were, or may have been, written: from now on answer with what is read after this, or newer."""
        for user_id in user_ids:
            user = self.table.find(user_id)
            if user is None:
                continue
            if user.watchers:
                user.distrust()
            else:
                self.table.drop(user)

    # Asking

    def known(self, user_ids: Sequence[str]) -> list[Known] | None:
        """The users, in the order asked, if memory can answer for all of them; never waits."""
        cursor = self._feed()
        found = self.table.ask(user_ids, cursor) if cursor is not None else None
        if found is not None:
            self._meter.lookups(len(found), 0)
        return found

    def recall(self, user_ids: Sequence[str]) -> list[Known] | None:
        """What was known of the users last, however long ago, if anything was of each."""
        return self.table.recall(user_ids)

    async def read(self, user_ids: Sequence[str]) -> list[int]:
        """The platforms of each user (a mask), in the order asked; raises `StoreError`."""
        cursor = self._feed()
        masks: dict[str, int] = {}
        joined: dict[_Fetch, list[str]] = {}
        own: list[str] = []
        for user_id in dict.fromkeys(user_ids):
            user = self.table.enter(user_id)
            fetch = user.fetch if user is not None else None
            if user is None or cursor is None or user.partition in cursor.doubtful:
                own.append(user_id)
            elif user.answers(cursor):
                masks[user_id] = user.mask
            elif isinstance(fetch, _Fetch):
                joined.setdefault(fetch, []).append(user_id)
            else:
                own.append(user_id)
        self._meter.lookups(len(masks), len(joined) + len(own))
        if own:
            masks |= await self.fetch(own)
        for fetch, users in joined.items():
            masks |= await self._join(fetch, users)
        return [masks[user_id] for user_id in user_ids]

    def forget_doubtful(self, user_ids: Iterable[str]) -> None:
        """Forget those whom nobody watches and whom memory can't answer for: watched from now on, they are read."""
        cursor = self._feed()
        for user_id in user_ids:
            user = self.table.get(user_id)
            if user is not None and not user.watchers and (cursor is None or not user.answers(cursor)):
                self.table.drop(user)

    async def fetch(self, user_ids: Sequence[str]) -> dict[str, int]:
        """The platforms of each user as the store has them now, which teaches the table; raises `StoreError`."""
        # One who is forgotten meanwhile may change unheard: the entry taught is then nobody's, and a new one is not.
        users = {user_id: user for user_id in user_ids if (user := self.table.find(user_id))}
        with self._fetching(users.values()) as fetch:
            readings = dict(zip(user_ids, await self._store.read(user_ids), strict=True))
            for user_id, user in users.items():
                user.fetched(readings[user_id], fetch)
        return {user_id: reading.mask for user_id, reading in readings.items()}

    async def _join(self, fetch: _Fetch, user_ids: Sequence[str]) -> dict[str, int]:
        """The answer of somebody else's reading, or of another where that has taught nothing; raises `StoreError`."""
        # One caller's giving up is no reason for the others to fail.
        failure = await asyncio.shield(fetch.done)
        if failure is not None:
            raise type(failure)(*failure.args)
        cursor = self._feed()
        masks: dict[str, int] = {}
        missing: list[str] = []
        for user_id in user_ids:
            user = self.table.find(user_id)
            if cursor is not None and user is not None and user.answers(cursor):
                masks[user_id] = user.mask
            else:
                missing.append(user_id)
        return masks | await self.fetch(missing) if missing else masks

    @contextmanager
    def _fetching(self, users: Iterable[Known]) -> Iterator[_Fetch]:
        """A reading of users, from before the store is asked until they are taught; then those who joined go on."""
        fetch = _Fetch()
        users = list(users)
        for user in users:
            user.fetch = fetch
        failure: StoreError | None = None
        try:
            yield fetch
        except StoreError as error:
            failure = error
            raise
        finally:
            for user in users:
                if user.fetch is fetch:
                    user.fetch = None
                    if user.version == UNREAD and not user.watchers:
                        self.table.drop(user)
            fetch.done.set_result(failure)
