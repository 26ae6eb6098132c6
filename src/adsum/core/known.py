"""Users known here, with the newest known state of each: whom somebody watches, and who were asked for lately.

A user's state has the version of its partition that it is true for; an older one never
replaces a newer one, in whatever order the feed and readings arrive.

Invariants: a user is in the table only if somebody watches it, or it is one of at most
`max_hot` others, who were asked for lately; each watcher's `watching` names exactly the
users whose entry names the watcher.

Who is asked for a first time is only noted, by name, and gets room the second time: so
those who are asked for once, however many, cost little and push nobody out.

Who was asked for is only marked, because moving 1,000 users of a query to the end of a
list takes longer than all else. When room is needed the one who is there longest goes,
unless marked: it loses the mark and goes to the end ("second chance", Corbató 1968).
"""

from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from typing import Final, TypeAlias

from adsum.core.feed import FeedCursor
from adsum.core.partition import partition_of
from adsum.core.session import Session
from adsum.domain.platforms import ids_of
from adsum.domain.presence import Reading
from adsum.wire.protobuf import encode_elem, encode_statuses

UNREAD: Final = -1
"""The version of a user of whom nothing is known yet."""

NEVER: Final = 1 << 127
"""A version that no partition reaches."""


MAX_CHANCES: Final = 1_000
"""Users looked at, at most, to make room for one: about 0.2 ms."""


class Subscriber:
    """A user who watches others, on whatever connections they have. `questions` are under way to the store."""

    __slots__ = ("questions", "user_id", "watching")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.questions = 0
        self.watching: dict[str, None] | None = None


Watcher: TypeAlias = Session | Subscriber
"""Someone who watches users; `watching` is a set kept in order, None while empty."""


class Known:
    """A user in the table. `watchers` is a set kept in order, None while empty.

    `floor` is the version that the partition's feed must have reached for the state to be
    answered; `asked`: whether it was asked for since it was last given room.
    """

    __slots__ = ("_elem", "asked", "entry", "floor", "mask", "partition", "user_id", "version", "watchers")

    def __init__(self, user_id: str, partition: int) -> None:
        self.user_id = user_id
        self.partition = partition
        self.mask = 0
        self.version = UNREAD
        self.floor = 0
        self.watchers: dict[Watcher, None] | None = None
        self.asked = False
        self.entry = b""
        """The user's entry in the answer of a query; empty until `entries_of` needs it."""
        self._elem: bytes | None = None

    def learn(self, mask: int, version: int, *, anyway: bool = False) -> bool:
        """Take over a state if it is newer, or `anyway`; True if the platforms differ from those known."""
        if version <= self.version and not anyway:
            return False
        changed = mask != self.mask
        self.mask, self.version = mask, version
        if changed:
            self._elem, self.entry = None, b""
        return changed

    def distrust(self) -> None:
        """Answer with a state only once a reading that begins after this has said from which version on."""
        self.floor = NEVER

    def fetched(self, reading: Reading, *, newest: bool) -> None:
        """Take over what was read.

        It teaches only one of whom nothing is known: the feed teaches the rest, in order. But what
        the caller of this reading is told is not taken back by answers from here, so the feed must
        come that far first. After `distrust` only the `newest` reading, which began later, says how far.
        """
        if self.version == UNREAD:
            self.learn(*reading)
        if newest and self.floor == NEVER:
            self.floor = 0
        if reading.version > self.version:
            self.floor = max(self.floor, reading.version)

    @property
    def elem(self) -> bytes:
        """The user's entry in a push, encoded once for all watchers."""
        if self._elem is None:
            self._elem = encode_elem(self.user_id, ids_of(self.mask))
        return self._elem

    def answers(self, cursor: FeedCursor) -> bool:
        """Whether the state may be answered, by a feed that is sound as a whole."""
        if self.version == UNREAD or self.partition in cursor.doubtful:
            return False
        if self.floor:
            if cursor.version(self.partition) < self.floor:
                return False
            self.floor = 0
        return True


def entries_of(users: Iterable[Known]) -> bytes:
    """The users as a list of statuses in the answer of a query; each is encoded once for all callers."""
    return b"".join([user.entry or _make_entry(user) for user in users])


def _make_entry(user: Known) -> bytes:
    user.entry = encode_statuses((user.user_id.encode(),), (user.mask,))
    return user.entry


class KnownTable:
    """Known users by ID: all who are watched, and `max_hot` others at most. `partitions` is the store's number."""

    def __init__(self, partitions: int, max_hot: int) -> None:
        self._partitions = partitions
        self._max_hot = max_hot
        self.users: dict[str, Known] = {}
        self._hot: OrderedDict[str, Known] = OrderedDict()
        self._noted: set[str] = set()
        self.links = 0
        """How many (watcher, user) pairs there are."""

    # Asking

    def ask(self, user_ids: Iterable[str], cursor: FeedCursor) -> list[Known] | None:
        """The users, in the order asked, if every one of them answers; for a feed that is sound as a whole."""
        users = self.users
        doubtful = cursor.doubtful
        found: list[Known] = []
        for user_id in user_ids:
            user = users.get(user_id)
            if user is None or user.version == UNREAD:
                return None
            if (doubtful or user.floor) and not user.answers(cursor):
                return None
            user.asked = True
            found.append(user)
        return found

    def recall(self, user_ids: Sequence[str]) -> list[Known] | None:
        """The same, whether they answer or not, if something is known of each."""
        found = [user for user_id in user_ids if (user := self.get(user_id))]
        return found if len(found) == len(user_ids) else None

    def note(self, user_ids: Sequence[str]) -> set[str]:
        """Note who is asked for; those who were noted before, not long ago, and so deserve room if there is any."""
        if not self._max_hot:
            return set()
        again = self._noted.intersection(user_ids)
        self._noted.update(user_ids)
        if len(self._noted) > self._max_hot:
            self._noted = set(user_ids[-self._max_hot :])
        return again

    def enter(self, user_id: str) -> Known:
        """Give room to a user who is not in the table, and of whom something is about to be learned."""
        user = self.users[user_id] = Known(user_id, partition_of(user_id, self._partitions))
        self._heat(user)
        return user

    @property
    def room(self) -> bool:
        """Whether anybody is kept whom nobody watches."""
        return self._max_hot > 0

    def drop(self, user: Known) -> None:
        """Forget a user whom nobody watches."""
        del self.users[user.user_id]
        self._hot.pop(user.user_id, None)

    def cool(self, partitions: Container[int] | None = None) -> None:
        """Forget everyone whom nobody watches, or those of some partitions."""
        for user in [user for user in self._hot.values() if partitions is None or user.partition in partitions]:
            self.drop(user)

    def _heat(self, user: Known) -> None:
        if len(self._hot) >= self._max_hot:
            self._make_room()
        user.asked = False
        self._hot[user.user_id] = user

    def _make_room(self) -> None:
        for _ in range(MAX_CHANCES):
            user_id, user = next(iter(self._hot.items()))
            if not user.asked:
                break
            user.asked = False
            self._hot.move_to_end(user_id)
        self.drop(next(iter(self._hot.values())))

    # Watching

    def watch(self, watcher: Watcher, user_ids: Iterable[str]) -> list[str]:
        """Have `watcher` watch these users; returns those of whom nothing is known yet."""
        unread: list[str] = []
        watching = watcher.watching
        if watching is None:
            watching = watcher.watching = {}
        for user_id in user_ids:
            user = self.users.get(user_id)
            if user is None:
                user = self.users[user_id] = Known(user_id, partition_of(user_id, self._partitions))
            if user.version == UNREAD:
                unread.append(user_id)
            if user.watchers is None:
                self._hot.pop(user_id, None)
                user.watchers = {}
            if watcher not in user.watchers:
                user.watchers[watcher] = None
                watching[user_id] = None
                self.links += 1
        return unread

    def unwatch(self, watcher: Watcher, user_ids: Iterable[str]) -> None:
        """Have `watcher` no longer watch these users; those it does not watch are ignored."""
        watching = watcher.watching
        if watching is None:
            return
        for user_id in user_ids:
            user = self.users.get(user_id)
            if user is None or user.watchers is None or watcher not in user.watchers:
                continue
            del user.watchers[watcher]
            del watching[user_id]
            self.links -= 1
            if not user.watchers:
                user.watchers = None
                self._release(user)
        if not watching:
            watcher.watching = None

    def forget(self, watcher: Watcher) -> None:
        """End all of a watcher's watching."""
        self.unwatch(watcher, list(watcher.watching or ()))

    def _release(self, user: Known) -> None:
        if self._max_hot and user.version != UNREAD:
            self._heat(user)
        else:
            self.drop(user)

    # All

    def get(self, user_id: str) -> Known | None:
        """The user of that ID, if something is known of it."""
        user = self.users.get(user_id)
        return user if user is not None and user.version != UNREAD else None

    def find(self, user_id: str) -> Known | None:
        """The user of that ID, if it is in the table."""
        return self.users.get(user_id)

    def watched(self) -> list[Known]:
        """Every watched user."""
        return [user for user in self.users.values() if user.watchers]

    def hot(self) -> list[Known]:
        """Every user whom nobody watches, the next to go first."""
        return list(self._hot.values())

    @property
    def watched_users(self) -> int:
        """How many users are watched."""
        return len(self.users) - len(self._hot)

    @property
    def hot_users(self) -> int:
        """How many users are known whom nobody watches."""
        return len(self._hot)
