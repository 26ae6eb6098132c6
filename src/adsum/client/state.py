"""What a client knows of the users it watches, and what its program has not read yet. No I/O.

Invariant: however slowly the program reads, at most one event per user waits, the
newest; and the last word on the connection itself comes after all before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from adsum.client.protocol import Kicked
from adsum.wire.protobuf import UserStatus

MAX_WAITING = 100_000
"""Events that may wait unread: five times the users that a server lets one connection watch by default."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection was lost; the next try is made after `retry_ms`."""

    reason: str
    retry_ms: int


@dataclass(frozen=True, slots=True)
class Restored:
    """The connection is back, and watches the same users; what changed meanwhile has been told."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is closed for good, by the server or the network (code 1006)."""

    code: int
    reason: str


Event: TypeAlias = UserStatus | Lost | Restored | Kicked | Closed
"""What a connection tells its program: a user's new platforms, or something about itself."""


class Inbox:
    """Events that wait to be read."""

    def __init__(self) -> None:
        self._waiting: dict[str | None, Event] = {}

    def put(self, event: Event) -> bool:
        """Add an event; False if there is no room."""
        if isinstance(event, UserStatus):
            # It keeps the place of the older word, so that a restless user can't wait for ever.
            self._waiting[event.user_id] = event
        else:
            self._waiting.pop(None, None)
            self._waiting[None] = event
        return len(self._waiting) <= MAX_WAITING

    def take(self) -> Event | None:
        """The next event, None if there is none."""
        for key in self._waiting:
            return self._waiting.pop(key)
        return None


class Watchlist:
    """The users watched, with their platforms as told last."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, ...]] = {}

    @property
    def users(self) -> list[str]:
        """All users watched."""
        return list(self._known)

    def add(self, statuses: Iterable[UserStatus]) -> list[UserStatus]:
        """Watch these users; those among them whose state differs from what was told before."""
        changed = [status for status in statuses if self._known.get(status.user_id) != status.platform_ids]
        self._known.update((status.user_id, status.platform_ids) for status in changed)
        return changed

    def drop(self, user_ids: Iterable[str]) -> None:
        """Watch these users no longer."""
        for user_id in user_ids:
            self._known.pop(user_id, None)

    def news(self, statuses: Iterable[UserStatus]) -> list[UserStatus]:
        """Note what was pushed; what of it is new.

        A user who is not watched here is new each time: the server may push those
        that were subscribed to by call.
        """
        watched = [status for status in statuses if status.user_id in self._known]
        others = [status for status in statuses if status.user_id not in self._known]
        return self.add(watched) + others
