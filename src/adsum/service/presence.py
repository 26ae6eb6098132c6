"""The one door of the APIs: set, query, list and subscribe, with every argument checked.

What comes in from gRPC (and later HTTP) is checked here and nowhere else, so all
APIs accept and refuse the same. Every method raises `ArgumentError` for a bad
argument and `StoreError` when the store fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from adsum.core.known import entries_of
from adsum.domain.errors import ArgumentError, StoreError
from adsum.domain.platforms import PlatformRegistry
from adsum.domain.presence import OFFLINE, ONLINE, Cause, Page, Status, TimedEdit
from adsum.ports import Store
from adsum.service.states import States

MAX_CONN_ID_BYTES = 256
"""Of a connection ID that a caller names, which is kept as long as the change it caused. OpenIM's have 32."""


MAX_PLATFORM_IDS = 100
"""Platform IDs that one edit may name."""


class OnlineEdit(NamedTuple):
    """One user's platform IDs to set online and offline, as an API caller gives them."""

    user_id: str
    conn_id: str
    online: Sequence[int]
    offline: Sequence[int]


class Subscriptions(Protocol):
    """Who is subscribed to whom through the API; `service.watching` keeps it."""

    async def subscribe(self, subscriber: str, user_ids: Sequence[str]) -> list[Status]:
        """Add subscriptions; the present state of each user asked."""
        ...

    def cancel(self, subscriber: str, user_ids: Sequence[str]) -> None:
        """Remove subscriptions; those that don't exist are ignored."""
        ...

    async def subscriptions(self, subscriber: str) -> list[Status]:
        """The present state of every user subscribed to."""
        ...


class Answer(NamedTuple):
    """Platforms (masks) in the order asked; `stale`: the store can't be reached, and this is what was known last."""

    masks: list[int]
    stale: bool = False


@dataclass(frozen=True, slots=True)
class PresenceLimits:
    """`max_user_id_bytes` in UTF-8; `max_users` a call; `page_users` about so many a page.

    `stale_queries`: whether a query that the store fails is answered with what was known last.
    """

    max_user_id_bytes: int = 256
    max_users: int = 10_000
    page_users: int = 4_000
    stale_queries: bool = False


class Presence:
    """Presence as the APIs see it. `next_op_id` gives every write its unique ID."""

    def __init__(
        self,
        store: Store,
        states: States,
        subscriptions: Subscriptions,
        platforms: PlatformRegistry,
        limits: PresenceLimits,
        next_op_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._states = states
        self._subscriptions = subscriptions
        self._platforms = platforms
        self._limits = limits
        self._next_op_id = next_op_id

    async def set_status(self, user_id: str, status: int, platform_id: int, cause: Cause) -> None:
        """Set one platform of one user online (until the deadline) or offline.

        Offline ends what the set calls hold; a platform that a gateway holds too
        stays online, because a client is connected there.
        """
        self._check_user(user_id)
        _check_conn(cause.conn_id)
        mask = self._platforms.check((platform_id,))
        if status not in (ONLINE, OFFLINE):
            raise ArgumentError(f"unknown status {status}: use 1 (online) or 0 (offline)")
        online, offline = (mask, 0) if status == ONLINE else (0, mask)
        await self._write((TimedEdit(user_id, online, offline, cause),))

    async def set_online(self, edits: Sequence[OnlineEdit]) -> None:
        """Set platforms of many users, in order; each user's edit is applied whole or not at all.

        As in OpenIM, the first bad edit ends the call with its error: those before
        it are applied, it and those after it are not. A platform named both online
        and offline ends online.
        """
        self._check_count(len(edits))
        good: list[TimedEdit] = []
        failure: ArgumentError | None = None
        check = self._platforms.check
        for user_id, conn_id, to_hold, to_let_go in edits:
            try:
                self._check_user(user_id)
                _check_conn(conn_id)
                _check_platforms(len(to_hold) + len(to_let_go))
                online = check(to_hold) if to_hold else 0
                offline = check(to_let_go) if to_let_go else 0
            except ArgumentError as error:
                failure = error
                break
            if online or offline:
                good.append(TimedEdit(user_id, online, offline, Cause(conn_id)))
        if good:
            await self._write(good)
        if failure is not None:
            raise failure

    async def _write(self, edits: Sequence[TimedEdit]) -> None:
        try:
            await self._store.write_timed(self._next_op_id(), edits)
        finally:
            # A write that failed may have been carried out.
            self._states.written([edit.user_id for edit in edits])

    @property
    def max_users(self) -> int:
        """Users that a call may name."""
        return self._limits.max_users

    def known_entries(self, user_ids: Sequence[str]) -> bytes | None:
        """What `query` answers, as an encoded `getUserStatusResp`, at once; raises `ArgumentError`.

        None if memory can't answer for all of them: then ask `query`.
        """
        # Only users that have passed the checks get known, so those who are need none.
        self._check_count(len(user_ids))
        known = self._states.known(user_ids) if user_ids else None
        return None if known is None else entries_of(known)

    async def query(self, user_ids: Sequence[str]) -> Answer:
        """The platforms of each user, in the order asked, offline and repeated ones included."""
        self._check_users(user_ids)
        try:
            return Answer(await self._states.read(user_ids))
        except StoreError:
            recalled = self._states.recall(user_ids) if self._limits.stale_queries else None
            if recalled is None:
                raise
            return Answer([user.mask for user in recalled], stale=True)

    async def online_page(self, cursor: int) -> Page:
        """A page of the online users; cursor 0 starts, and a next cursor of 0 ends."""
        return await self._store.page(cursor, self._limits.page_users)

    async def subscribe(self, subscriber: str, user_ids: Sequence[str]) -> list[Status]:
        """Have changes of these users pushed to all connections of the subscriber; their present state."""
        self._check_user(subscriber)
        self._check_users(user_ids)
        return await self._subscriptions.subscribe(subscriber, user_ids)

    async def cancel(self, subscriber: str, user_ids: Sequence[str]) -> None:
        """End subscriptions; those that don't exist are ignored."""
        self._check_user(subscriber)
        self._check_users(user_ids)
        self._subscriptions.cancel(subscriber, user_ids)

    async def subscriptions(self, subscriber: str) -> list[Status]:
        """The present state of every user the subscriber is subscribed to."""
        self._check_user(subscriber)
        return await self._subscriptions.subscriptions(subscriber)

    def _check_users(self, user_ids: Sequence[str]) -> None:
        if not user_ids:
            raise ArgumentError("UserIDs is empty")
        self._check_count(len(user_ids))
        # All at once: hardly ever is one of them bad.
        if not all(user_ids) or max(map(len, user_ids)) * 4 > self._limits.max_user_id_bytes:
            for user_id in user_ids:
                self._check_user(user_id)

    def _check_count(self, count: int) -> None:
        if count > self._limits.max_users:
            raise ArgumentError(f"{count} users in one call are too many: at most {self._limits.max_users}")

    def _check_user(self, user_id: str) -> None:
        if not user_id:
            raise ArgumentError("userID is empty")
        limit = self._limits.max_user_id_bytes
        # A character takes 1 to 4 bytes, so most IDs need not be encoded to be judged.
        if len(user_id) * 4 > limit and len(user_id.encode()) > limit:
            raise ArgumentError(f"userID is longer than {limit} bytes")


def _check_platforms(count: int) -> None:
    if count > MAX_PLATFORM_IDS:
        raise ArgumentError(f"more than {MAX_PLATFORM_IDS} platform IDs for one user")


def _check_conn(conn_id: str) -> None:
    if len(conn_id) * 4 > MAX_CONN_ID_BYTES and len(conn_id.encode()) > MAX_CONN_ID_BYTES:
        raise ArgumentError(f"connID is longer than {MAX_CONN_ID_BYTES} bytes")
