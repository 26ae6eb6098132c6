"""The states of users: from memory while the feed keeps them true, else from the store.

What the feed tells while users are read is kept until they are, so nobody needs to be in
the table before something is known of them: a reading, and the feed from its beginning
on, is all there is to know. Therefore one reading serves everybody who asks while it is
under way: what an answer lacks is what the feed has still to bring, as for any answer
from memory. Where the feed is in doubt this does not hold, so everybody there has a
reading of their own.

Of those who are asked for a first time nothing is to be known later. They are told of as
the store has them, which needs no version and leaves nothing here but their names.

Invariant: an answer was read after it was asked for, or is what the feed had told when
the feed was sound: behind the store by no more than `Relay.sound` allows, never behind an
earlier answer, and never behind a write that ended here before it was asked for.
"""

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from adsum.core.feed import FeedCursor
from adsum.core.known import UNREAD, Known, KnownTable
from adsum.domain.errors import StoreError
from adsum.domain.presence import FeedEntry, Reading
from adsum.ports import Meter, Store

READ_USERS = 1_000
"""Users asked of the store in one trip when reading anew."""


BEFORE_ALL = FeedEntry(0, 0, 0, "", ())
"""What was heard of the feed before anything was."""


def _unheard(_user_id: str) -> None:
    """For when nobody watches."""


_Outcome: TypeAlias = asyncio.Future[StoreError | None]


class _Heard:
    """An entry of the feed, and the one after it: a chain that lives from where somebody still holds it."""

    __slots__ = ("after", "entry")

    def __init__(self, entry: FeedEntry) -> None:
        self.entry = entry
        self.after: _Heard | None = None


class _Fetch:
    """A reading of users under way that the table is to be taught.

    `known` are those who were in the table when it began, `wanted` others who are to be given
    room, and `heard` is the last entry of the feed from before.
    """

    __slots__ = ("heard", "known", "user_ids", "waiting", "wanted")

    def __init__(self, user_ids: Sequence[str], known: dict[str, Known], wanted: set[str], heard: _Heard) -> None:
        self.user_ids = user_ids
        self.known = known
        self.wanted = wanted
        self.heard = heard
        self.waiting: list[_Outcome] = []

    def outcome(self) -> _Outcome:
        """Wait for its end, to be called before that; gives the store's error if there was one."""
        # A future each: one caller's giving up is no reason for the others to fail.
        done: _Outcome = asyncio.get_running_loop().create_future()
        self.waiting.append(done)
        return done


class States:
    """What is known of users here; `feed` gives the feed's cursor while it is sound.

    `news` is called with each watched user whose platforms are other than was known.
    """

    def __init__(self, store: Store, feed: Callable[[], FeedCursor | None], meter: Meter, max_hot: int) -> None:
        self.table = KnownTable(store.partitions, max_hot)
        self.news: Callable[[str], None] = _unheard
        self.fetches: dict[str, _Fetch] = {}
        """By user, the newest reading under way with a version, unless what was known before is no longer true."""
        self._store = store
        self._feed = feed
        self._meter = meter
        self._heard = _Heard(BEFORE_ALL)
        self._collecting: tuple[dict[int, list[Known]], asyncio.Event] | None = None

    # The feed

    def on_feed(self, entry: FeedEntry) -> None:
        """Take over the changes of known users."""
        self._heard.after = heard = _Heard(entry)
        self._heard = heard
        self._apply(entry, self.table.users)

    def _apply(self, entry: FeedEntry, users: Mapping[str, Known]) -> None:
        for change in entry.changes:
            user = users.get(change.user_id)
            if user is not None and user.learn(change.after, entry.version) and user.watchers:
                self.news(change.user_id)

    async def resync(self, partition: int, *, restarted: bool) -> None:
        """Forget who was only asked for in a partition, and read the watched anew; raises `StoreError`.

        `restarted`: the store has another past than the one known, so its versions say
        nothing about which state is newer.
        """
        users = await self._collect(partition)
        for start in range(0, len(users), READ_USERS):
            await self._read_anew(users[start : start + READ_USERS], restarted=restarted)

    async def _collect(self, partition: int) -> list[Known]:
        """The watched of a partition, the others forgotten: one walk for all partitions asked for at the moment."""
        if self._collecting is None:
            self._collecting = ({}, asyncio.Event())
            asyncio.get_running_loop().call_soon(self._walk)
        users, walked = self._collecting
        mine = users.setdefault(partition, [])
        await walked.wait()
        return mine

    def _walk(self) -> None:
        assert self._collecting is not None
        (users, walked), self._collecting = self._collecting, None
        self._cool(users.keys())
        for user in self.table.watched():
            if user.partition in users:
                users[user.partition].append(user)
        walked.set()

    async def _read_anew(self, users: Sequence[Known], *, restarted: bool) -> None:
        # The store is read after all this was learned: unless something was learned meanwhile, what it
        # answers is newer, even if its versions are lower than one read from a past it has lost since.
        before = [user.version for user in users]
        with self._fetching([user.user_id for user in users], {user.user_id: user for user in users}, set()) as fetch:
            readings = await self._store.read(fetch.user_ids)
            for user, version, (mask, at) in zip(users, before, readings, strict=True):
                if user.learn(mask, at, anyway=restarted or user.version == version) and user.watchers:
                    self.news(user.user_id)
                if self.fetches.get(user.user_id) is fetch:
                    user.floor = 0

    def interrupted(self) -> dict[int, int]:
        """The store may have another past: what it told before counts for no answer.

        Returns the newest version of any watched user, by partition: where the feed has not come
        so far, a state may be from a past that is lost, and the feed will not tell.
        """
        self._cool()
        newest: dict[int, int] = {}
        for user in self.table.watched():
            user.distrust()
            newest[user.partition] = max(user.version, newest.get(user.partition, UNREAD))
        return newest

    def _cool(self, partitions: Container[int] | None = None) -> None:
        """Forget everyone whom nobody watches, or those of some partitions; nor does what is being read teach."""
        self.table.cool(partitions)
        self.fetches.clear()

    # Writing

    def written(self, user_ids: Iterable[str]) -> None:
        """Users were, or may have been, written: from now on answer with what is read after this, or newer."""
        for user_id in user_ids:
            self.fetches.pop(user_id, None)
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
        if user_ids[0] not in self.table.users:
            return None
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
        if self._strange(user_ids):
            self._meter.lookups(0, len(user_ids))
            return await self._fetch(user_ids, {}, self.table.note(user_ids))
        users, fetches = self.table.users, self.fetches
        cursor = self._feed()
        masks: dict[str, int] = {}
        joined: dict[_Fetch, list[str]] = {}
        asked = dict.fromkeys(user_ids)
        for user_id in [user_id for user_id in asked if user_id in users or user_id in fetches]:
            user, fetch = users.get(user_id), fetches.get(user_id)
            if user is not None and cursor is not None and user.answers(cursor):
                user.asked = True
                masks[user_id] = user.mask
                del asked[user_id]
            elif fetch is not None and cursor is not None and (user is not None or self.table.room):
                fetch.wanted.add(user_id)
                joined.setdefault(fetch, []).append(user_id)
                del asked[user_id]
        own = list(asked)
        joining = [(fetch.outcome(), waiting) for fetch, waiting in joined.items()]
        self._meter.lookups(len(masks), sum(map(len, joined.values())) + len(own))
        if own:
            masks.update(zip(own, await self.fetch(own), strict=True))
        for outcome, waiting in joining:
            masks |= await self._join(outcome, waiting)
        return [masks[user_id] for user_id in user_ids]

    def forget_doubtful(self, user_ids: Iterable[str]) -> None:
        """Forget those whom nobody watches and whom memory can't answer for: watched from now on, they are read."""
        cursor = self._feed()
        for user_id in user_ids:
            user = self.table.get(user_id)
            if user is not None and not user.watchers and (cursor is None or not user.answers(cursor)):
                self.fetches.pop(user_id, None)
                self.table.drop(user)

    async def fetch(self, user_ids: Sequence[str]) -> list[int]:
        """The platforms of each of these users as the store has them now; raises `StoreError`.

        The table is taught of those whom it has, or is to have.
        """
        wanted = self.table.note(user_ids) | self._being_taught(user_ids)
        return await self._fetch(user_ids, self._of_table(user_ids), wanted)

    async def _fetch(self, user_ids: Sequence[str], known: dict[str, Known], wanted: set[str]) -> list[int]:
        if known or wanted:
            return await self._read_to_teach(user_ids, known, wanted)
        masks = await self._store.masks(user_ids)
        if self._strange(user_ids):
            return masks
        # What memory knows by now may be from before this answer, which must not be taken back: so it reads too.
        # They have asked once, whatever came between, and nobody gets room by that.
        return await self._read_to_teach(user_ids, self._of_table(user_ids), self._being_taught(user_ids))

    async def _read_to_teach(self, user_ids: Sequence[str], known: dict[str, Known], wanted: set[str]) -> list[int]:
        with self._fetching(user_ids, known, wanted) as fetch:
            readings = await self._store.read(user_ids)
            self._teach(fetch, dict(zip(user_ids, readings, strict=True)))
        return [mask for mask, _ in readings]

    def _of_table(self, user_ids: Sequence[str]) -> dict[str, Known]:
        users = self.table.users
        return {user_id: users[user_id] for user_id in users.keys() & user_ids}

    def _being_taught(self, user_ids: Sequence[str]) -> set[str]:
        """Those whom a reading under way gives room: a newer reading has to, in its place."""
        fetches = self.fetches
        return {user_id for user_id in fetches.keys() & user_ids if user_id in fetches[user_id].wanted}

    def _strange(self, user_ids: Sequence[str]) -> bool:
        """Whether nothing is known of any of them, nor being read to be known."""
        return self.table.users.keys().isdisjoint(user_ids) and self.fetches.keys().isdisjoint(user_ids)

    def _teach(self, fetch: _Fetch, readings: Mapping[str, Reading]) -> None:
        """Have the table know what was read, and what the feed told meanwhile of those it did not have."""
        late: dict[str, Known] = {}
        for user_id, known in fetch.known.items():
            # One who was forgotten meanwhile may have changed unheard: what is taught then is nobody's.
            known.fetched(readings[user_id], newest=self.fetches.get(user_id) is fetch)
        for user_id in fetch.user_ids:
            if user_id not in fetch.wanted or self.fetches.get(user_id) is not fetch:
                continue
            user = self.table.find(user_id)
            if user is None and self.table.room:
                user = self.table.enter(user_id)
            if user is not None and user is not fetch.known.get(user_id):
                user.fetched(readings[user_id], newest=True)
                late[user_id] = user
        heard = fetch.heard.after if late else None
        while heard is not None:
            self._apply(heard.entry, late)
            heard = heard.after

    async def _join(self, outcome: _Outcome, user_ids: Sequence[str]) -> dict[str, int]:
        """The answer of somebody else's reading, or of another where that has taught nothing; raises `StoreError`."""
        failure = await outcome
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
        if missing:
            masks.update(zip(missing, await self.fetch(missing), strict=True))
        return masks

    @contextmanager
    def _fetching(self, user_ids: Sequence[str], known: dict[str, Known], wanted: set[str]) -> Iterator[_Fetch]:
        """A reading of users, from before the store is asked until they are taught; then those who joined go on."""
        fetch = _Fetch(user_ids, known, wanted, self._heard)
        # Also those of whom it is not to teach: another reading may, and must not take back what this one tells.
        self.fetches.update(dict.fromkeys(user_ids, fetch))
        failure: StoreError | None = None
        try:
            yield fetch
        except StoreError as error:
            failure = error
            raise
        finally:
            for user_id in user_ids:
                if self.fetches.get(user_id) is fetch:
                    del self.fetches[user_id]
            for done in fetch.waiting:
                if not done.done():
                    done.set_result(failure)
