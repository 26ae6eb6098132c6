"""What is written about a user, what is read, and what changed.

The state of a user is the union of *holds*: each gateway incarnation (a holder,
which lives by its lease) holds a set of platforms, and the set RPCs hold single
platforms until a deadline. Only a change of the union is a change of presence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

ONLINE = 1
OFFLINE = 0
"""`status` in OpenIM's messages: 1 online, 0 offline."""


class Cause(NamedTuple):
    """Which connection led to a write: its ID (may be empty) and whether its app was in the background."""

    conn_id: str = ""
    background: bool = False


class Login(NamedTuple):
    """A login as all followers of the feed hear of it: its platform, and a digest of its token (hex).

    `at_ms` is when it was, by the store's clock; logins of the same millisecond are ordered
    by their tokens, so that everyone orders them alike.
    """

    user_id: str
    platform_id: int
    token: str
    at_ms: int


class EndedToken(NamedTuple):
    """A digest (hex) of a user's token that a login ended."""

    user_id: str
    token: str


class OwnLogin(NamedTuple):
    """A login as its gateway tells the store of it.

    `kicked` are the platforms (a mask) whose other connections it ends. `at_ms` is as in
    `Login` if the store has told it before, else 0; `age_ms` is how long ago it was, and
    `after_ms` the time of a login that it has ended already on its own gateway.
    """

    platform_id: int
    token: str
    kicked: int
    age_ms: int
    after_ms: int = 0
    at_ms: int = 0

    def when(self, told_ms: int) -> int:
        """When it was, if the store tells it at `told_ms`.

        Delays make that inexact by their length, but never turn round the order of logins
        on one gateway, which has acted on it.
        """
        return self.at_ms or max(told_ms - self.age_ms, self.after_ms + 1)


class HoldState(NamedTuple):
    """One user's present platforms (a mask) on the holder that writes.

    `logins` are those the store has not acknowledged yet; `ended_tokens` are digests of tokens
    (hex) that a login ended here. Every follower of the feed hears of ended tokens, and of a
    login when another holder has one of the platforms it ends.
    """

    user_id: str
    mask: int
    cause: Cause = Cause()
    logins: tuple[OwnLogin, ...] = ()
    ended_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HoldBatch:
    """One write of a gateway: the present state of up to a batch of users.

    Lanes are the writer's workers. Within a lane `seq` only grows, and the store
    ignores a batch whose `seq` is not above the last one of that lane, so a write
    that was given up and lands late can't undo a newer one.
    """

    holder: str
    lane: int
    seq: int
    op_id: str
    states: tuple[HoldState, ...]


class TimedEdit(NamedTuple):
    """One user's platforms (masks) to hold until the deadline, and to let go. Letting go comes first."""

    user_id: str
    online: int
    offline: int
    cause: Cause = Cause()

    def then(self, later: "TimedEdit") -> "TimedEdit":
        """The one edit that does what this one and a later one of the same user do."""
        online = self.online & ~later.offline | later.online
        return TimedEdit(self.user_id, online, self.offline | later.offline, later.cause)


class Change(NamedTuple):
    """A user's platforms (masks) before and after one write; they differ."""

    user_id: str
    before: int
    after: int
    cause: Cause = Cause()


class FeedEntry(NamedTuple):
    """All changes that one write made in one partition, and what it says of logins.

    `version` is the partition's with them, `before` the one without: entries form a
    chain, so a follower sees what it missed, whatever numbers an engine gives.
    Versions only grow.
    """

    partition: int
    before: int
    version: int
    op_id: str
    changes: tuple[Change, ...]
    logins: tuple[Login, ...] = ()
    ended_tokens: tuple[EndedToken, ...] = ()


class Reading(NamedTuple):
    """A user's platforms (a mask) and the partition's version they were read at."""

    mask: int
    version: int


class Status(NamedTuple):
    """A user and the platforms (a mask) they are online on; offline is a mask of 0."""

    user_id: str
    mask: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list of online users; `next_cursor` 0 means it was the last.

    `names` are the users' IDs in UTF-8, as stores have them and as answers want them, and
    `masks` the platforms of each: a listing is long, and an object for each user is most of
    what it costs.
    """

    names: Sequence[bytes]
    masks: Sequence[int]
    next_cursor: int

    @property
    def users(self) -> tuple[Status, ...]:
        """The users one by one."""
        return tuple(map(Status, map(bytes.decode, self.names), self.masks))


@dataclass(frozen=True, slots=True)
class Census:
    """How many users are online, and how many on each platform ID (those with at least one)."""

    online: int
    by_platform: dict[int, int]
