"""What the services need from outside: one protocol per need, no implementation.

Adapters implement these; the services and the simulation know nothing else of
the world. Every `*_ms` is in milliseconds.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from adsum.domain.claims import Bid, Claim
from adsum.domain.identity import Identity
from adsum.domain.presence import Census, FeedEntry, HoldBatch, Page, Reading, Status, TimedEdit

PageFormat: TypeAlias = Literal["text", "openmetrics"]
"""How metrics are written: Prometheus' text format (0.0.4), or OpenMetrics (1.0.0)."""

FeedListener = Callable[[FeedEntry], None]


def nothing() -> None:
    """What those do who need not hear of something."""


class Clock(Protocol):
    """Time, for everything but the store's deadlines, which use the store's own clock."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never steps."""
        ...

    def unix_ms(self) -> int:
        """Milliseconds since 1970; for people and foreign systems, never for deadlines."""
        ...


class Store(Protocol):
    """Who holds which platforms, and the feed of changes. Any engine passes `tests/contract`.

    Every coroutine raises `StoreError` when the store fails or does not answer in time. No user ID
    that it is given is empty.
    """

    @property
    def partitions(self) -> int:
        """How many partitions the users live in."""
        ...

    @property
    def feed_session(self) -> int:
        """By which connection entries of the feed come now; it grows, and is 0 while there is none.

        Within a session entries may still get lost; of another's end one need not hear otherwise.
        """
        ...

    @property
    def caution(self) -> str:
        """What is unwise about how the store is set up, for the operator; empty if nothing is."""
        ...

    async def open(self) -> None:
        """Make ready for use, once, before anything else.

        Raises `ArgumentError` if the store was made with other settings.
        """
        ...

    async def grant(self, holder: str, ttl_ms: int) -> None:
        """Start the lease of a new holder."""
        ...

    async def renew(self, holder: str, ttl_ms: int) -> bool:
        """Prolong a lease; False if it has ended, and the holder with it."""
        ...

    async def release(self, holder: str, op_id: str, successor: str = "") -> None:
        """End a lease and everything its holder holds.

        If a `successor` is named, which holds all that again, then only while it has a lease:
        a store that fell back to an older state may know nothing of it yet, and everybody would
        be taken for offline. Raises `LeaseLost` then.
        """
        ...

    async def write_holds(self, batch: HoldBatch) -> Mapping[str, int]:
        """Set the present platforms of each user on the batch's holder, and tell of logins.

        Returns, for each user with logins that were not told before, the time (ms) they were
        told at by the store's clock, which never goes back for a user. Raises `LeaseLost` if the
        holder has no lease; nothing is written then.
        """
        ...

    async def write_timed(self, op_id: str, edits: Sequence[TimedEdit]) -> None:
        """Apply each edit of deadline-bound platforms, in order."""
        ...

    async def read(self, user_ids: Sequence[str]) -> list[Reading]:
        """The platforms of each user, in the order asked, offline users included."""
        ...

    async def masks(self, user_ids: Sequence[str]) -> list[int]:
        """The same without the version: for those who only answer with it."""
        ...

    async def page(self, cursor: int, limit: int) -> Page:
        """About `limit` online users from `cursor` on; 0 starts.

        Walking the cursor until it is 0 again shows every user at least once who
        was online throughout, and never one who is offline; unless the server that
        has them is another one by then: cursors are good for the one that gave them.
        Raises `ArgumentError` for a cursor no page gave.
        """
        ...

    async def page_of(self, partition: int, cursor: int, limit: int) -> Page:
        """The same of one partition's users; the cursor is good for this partition alone."""
        ...

    async def census(self) -> Census:
        """How many users are online now."""
        ...

    async def sweep(self, op_id: str) -> None:
        """Remove the holds of ended leases and of passed deadlines."""
        ...

    async def changes_since(self, partition: int, version: int) -> list[FeedEntry] | None:
        """The feed of a partition after `version`; None if part of it is no longer kept."""
        ...

    async def versions(self) -> list[int]:
        """The present version of each partition."""
        ...

    async def claim(self, role: str, holder: str, bids: Sequence[Bid]) -> list[Claim]:
        """Bid for partitions in a role; how things stand in each, in the order asked.

        A role that is new to a partition begins at the present version. What is `done` is
        ignored unless the holder is the owner, and where the partition has no such version.
        Raises `LeaseLost` if the holder has no lease.
        """
        ...

    async def disown(self, role: str, holder: str, done: Mapping[int, int]) -> None:
        """Give partitions up, and bid for them no longer; each with the version up to which all is done, or 0."""
        ...

    def follow(self, listener: FeedListener, interrupted: Callable[[], None] = nothing) -> Callable[[], None]:
        """Have `listener` called with every entry, in order within a partition.

        Entries may get lost between the store and here; the versions show it.
        `interrupted` is called when a server of the store was lost and one is found
        again: it may have another past, without writes that were acknowledged. Call
        what is returned to stop.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; the store is not used after it."""
        ...


class Authenticator(Protocol):
    """Tells good tokens from bad."""

    def verify(self, token: str) -> Identity:
        """The identity a token proves; raises a `TokenError` that says what is wrong."""
        ...


@dataclass(frozen=True, slots=True)
class Hook:
    """One call of a webhook: the OpenIM command, who it is about, and the JSON body's fields."""

    command: str
    user_id: str
    operation_id: str
    body: dict[str, object]


class HookSink(Protocol):
    """Delivers one webhook."""

    async def deliver(self, hook: Hook) -> None:
        """Deliver; raises `NetworkError` to be tried again later, `ArgumentError` never to be."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Projection(Protocol):
    """A copy of presence for other services."""

    async def write(self, statuses: Sequence[Status]) -> None:
        """Make these the users' platforms there; raises `StoreError`, some of them written or none."""
        ...

    def users(self) -> AsyncGenerator[list[str], None]:
        """Everybody who may be online there, a portion at a time; raises `StoreError`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


MAX_TIMED = 1_000_000
"""Statuses set by calls that a store holds at a time, if it is not told otherwise."""


class Meter(Protocol):
    """Counts what happens, for the operator. Cheap, and never raises."""

    def connections(self, opened: int, closed: int) -> None:
        """Connections opened and closed."""
        ...

    def refused(self, reason: str) -> None:
        """A handshake refused; `reason` is the error's short name."""
        ...

    def closing(self, reason: str) -> None:
        """A connection begins to end, which each does once: by the `client` or by us.

        Then it is `timeout`, `slow`, `flood`, `kicked`, `frame`, `drain`, `logout` or `defect`.
        """
        ...

    def turned_away(self, port: str, reason: str) -> None:
        """A connection of the port `ws`, `grpc` or `http` ended because of others or its silence, before it was of use.

        `full`: there was no place for it; `displaced`: it gave its place to another; `silent`: it did not ask in time.
        """
        ...

    def changes(self, online: int, offline: int) -> None:
        """Users that came online and went offline, as the feed tells."""
        ...

    def query(self, method: str, outcome: str, seconds: float) -> None:
        """One call of the API; `outcome` is `ok` or the error's short name."""
        ...

    def batch(self, lane: int, users: int, waited_ms: float, took_ms: float, *, ok: bool) -> None:
        """One write of a lane: users in it, the longest a change waited, how long the store took."""
        ...

    def store_read(self, operation: str, outcome: str, seconds: float) -> None:
        """One read of the store: of `users`, a `listing`, the `census` or the `feed`; `ok` or `failed`."""
        ...

    def renewal(self, *, ok: bool) -> None:
        """One renewal of the lease tried."""
        ...

    def lookups(self, hits: int, misses: int) -> None:
        """Users asked for who were known here, and who were read from the store."""
        ...

    def feed_gap(self) -> None:
        """The feed of a partition had a hole."""
        ...

    def repaired(self, sign: str, users: int) -> None:
        """Users held here that the store had forgotten, by the sign of it: `loss` of a partition, or `comparison`."""
        ...

    def feed_lost(self, role: str) -> None:
        """Entries of a partition were no longer kept when the consumer of this role came to them."""
        ...

    def pushed(self, frames: int, merged: int) -> None:
        """Frames pushed to watchers, and changes replaced by newer ones before they could be."""
        ...

    def hook(self, outcome: str) -> None:
        """A webhook is over and done with: `sent`, `failed` or `dropped`; or `retried`: a try will be repeated."""
        ...

    def projected(self, users: int, *, ok: bool) -> None:
        """One write of the projection, and how many users it has."""
        ...


@dataclass(frozen=True, slots=True)
class PortLoad:
    """What there is of a port at a moment: its connections, those included that begin or end.

    `kept_bytes` of what came, or is to be sent, are kept for them; `guests` have not asked for anything yet.
    """

    connections: int
    kept_bytes: int = 0
    guests: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at any moment and asked for only when metrics are read.

    `dirty_users` (users waiting to be written) and `write_ages_ms` (how long the
    write in flight has been so, 0 if there is none) are by lane of the writer.
    """

    dirty_users: Sequence[int] = ()
    write_ages_ms: Sequence[float] = ()
    watches: int = 0
    watched_users: int = 0
    hot_users: int = 0
    hooks_waiting: int = 0
    owned_partitions: Mapping[str, int] = field(default_factory=dict)
    """By role."""
    projection_waiting: int = 0
    projection_lag_ms: float = 0
    """For how long the oldest change has not been projected."""
