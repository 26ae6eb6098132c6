"""Who watches whom here, and the newest known state of each watched user.

A user's state is kept with the version of its partition it is true for; an older
one never replaces a newer one, in whatever order the feed and readings arrive.

Invariant: a user is in the table if and only if somebody watches it, and each
watcher's `watching` names exactly the users whose entry names the watcher.
"""

from collections.abc import Iterable
from typing import TypeAlias

from adsum.core.session import Session
from adsum.domain.platforms import ids_of
from adsum.wire.protobuf import encode_elem

UNREAD = -1
"""The version of a user of whom nothing is known yet."""


class Subscriber:
    """A user who watches others, on whatever connections they have. `questions` are under way to the store."""

    __slots__ = ("questions", "user_id", "watching")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.questions = 0
        self.watching: dict[str, None] | None = None


Watcher: TypeAlias = Session | Subscriber
"""Someone who watches users; `watching` is a set kept in order, None while empty."""


class Watched:
    """A watched user. `elem` is its encoded entry in a push or an answer, made when first needed."""

    __slots__ = ("_elem", "mask", "user_id", "version", "watchers")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.mask = 0
        self.version = UNREAD
        self.watchers: dict[Watcher, None] = {}
        self._elem: bytes | None = None

    def learn(self, mask: int, version: int, *, anyway: bool = False) -> bool:
        """Take over a state if it is newer, or `anyway`; True if the platforms differ from those known."""
        if version <= self.version and not anyway:
            return False
        changed = mask != self.mask
        self.mask, self.version = mask, version
        if changed:
            self._elem = None
        return changed

    @property
    def elem(self) -> bytes:
        """The user's entry in a message, encoded once for all watchers."""
        if self._elem is None:
            self._elem = encode_elem(self.user_id, ids_of(self.mask))
        return self._elem


class WatchTable:
    """Watched users by ID."""

    def __init__(self) -> None:
        self._users: dict[str, Watched] = {}
        self.links = 0
        """How many (watcher, user) pairs there are."""

    def watch(self, watcher: Watcher, user_ids: Iterable[str]) -> list[str]:
        """Have `watcher` watch these users; returns those of whom nothing is known yet."""
        unread: list[str] = []
        watching = watcher.watching
        if watching is None:
            watching = watcher.watching = {}
        for user_id in user_ids:
            user = self._users.get(user_id)
            if user is None:
                user = self._users[user_id] = Watched(user_id)
            if user.version == UNREAD:
                unread.append(user_id)
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
            user = self._users.get(user_id)
            if user is None or watcher not in user.watchers:
                continue
            del user.watchers[watcher]
            del watching[user_id]
            self.links -= 1
            if not user.watchers:
                del self._users[user_id]
        if not watching:
            watcher.watching = None

    def forget(self, watcher: Watcher) -> None:
        """End all of a watcher's watching."""
        self.unwatch(watcher, list(watcher.watching or ()))

    def get(self, user_id: str) -> Watched | None:
        """The watched user of that ID, if anybody watches it."""
        return self._users.get(user_id)

    def users(self) -> list[str]:
        """Every watched user."""
        return list(self._users)

    def __len__(self) -> int:
        return len(self._users)
