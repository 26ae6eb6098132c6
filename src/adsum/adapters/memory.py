"""The embedded store: all partitions in this process, nothing to install.

Every method finishes before it yields to the loop, so each call is atomic and
the feed is complete and in order.
"""

from collections.abc import Callable, Mapping, Sequence
from zlib import crc32

from adsum.core.claims import RoleState
from adsum.core.partition import BUCKETS, Partition, part_of, partition_of, split
from adsum.domain.claims import Bid, Claim
from adsum.domain.errors import ArgumentError, LeaseLost, TooManyStatuses
from adsum.domain.presence import Census, FeedEntry, HoldBatch, HoldState, Page, Reading, TimedEdit
from adsum.ports import MAX_TIMED, Clock, FeedListener, nothing
from adsum.service.each import each


class MemoryStore:
    """A `Store` in memory. `history` changes a partition are kept for catch-up.

    Of `max_timed` statuses set by calls each partition holds its part.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        partitions: int = 16,
        timed_ttl_ms: int = 1_800_000,
        history: int = 4_096,
        max_timed: int = MAX_TIMED,
    ) -> None:
        self._clock = clock
        most = part_of(max_timed, partitions)
        self._partitions = [Partition(i, partitions, timed_ttl_ms, history, most) for i in range(partitions)]
        self._leases: dict[str, int] = {}
        self._roles: dict[tuple[str, int], RoleState] = {}
        self._listeners: dict[object, FeedListener] = {}

    @property
    def partitions(self) -> int:
        """How many partitions the users live in."""
        return len(self._partitions)

    @property
    def feed_session(self) -> int:
        """Always the same: nothing is in between."""
        return 1

    @property
    def caution(self) -> str:
        """There is nothing to set up."""
        return ""

    async def open(self) -> None:
        """Nothing to do: it is empty and ready."""

    async def grant(self, holder: str, ttl_ms: int) -> None:
        """Start the lease of a new holder."""
        self._leases[holder] = self._clock.monotonic_ms() + ttl_ms

    async def renew(self, holder: str, ttl_ms: int) -> bool:
        """Prolong a lease; False if it has ended, and the holder with it."""
        if not self._lives(holder):
            return False
        self._leases[holder] = self._clock.monotonic_ms() + ttl_ms
        return True

    async def release(self, holder: str, op_id: str, successor: str = "") -> None:
        """End a lease and everything its holder holds; raises `LeaseLost` if a successor is named and has none."""
        if successor and not self._lives(successor):
            raise LeaseLost(f"the lease of {successor} has ended")
        if self._leases.pop(holder, None) is not None:
            self._end_holder(holder, op_id)

    async def write_holds(self, batch: HoldBatch) -> dict[str, int]:
        """Set the present platforms of each user on the batch's holder; raises `LeaseLost`."""
        if not self._lives(batch.holder):
            raise LeaseLost(f"the lease of {batch.holder} has ended")
        now_ms = self._clock.monotonic_ms()
        parts: dict[int, list[HoldState]] = {}
        for state in batch.states:
            parts.setdefault(self._place(state.user_id), []).append(state)
        told_ms: dict[str, int] = {}
        for index, states in parts.items():
            written = self._partitions[index].write_holds(batch, states, now_ms)
            self._tell(written.entry)
            told_ms |= written.told_ms
        return told_ms

    async def write_timed(self, op_id: str, edits: Sequence[TimedEdit]) -> None:
        """Apply each edit of deadline-bound platforms, in order; raises `TooManyStatuses` if some found no room."""
        now_ms = self._clock.monotonic_ms()
        parts: dict[int, list[TimedEdit]] = {}
        for edit in edits:
            parts.setdefault(self._place(edit.user_id), []).append(edit)
        refused = 0
        for index, part in parts.items():
            partition = self._partitions[index]
            refused -= partition.refused
            self._tell(partition.write_timed(op_id, part, now_ms))
            refused += partition.refused
        if refused:
            raise TooManyStatuses

    async def read(self, user_ids: Sequence[str]) -> list[Reading]:
        """The platforms of each user, in the order asked, offline users included."""
        readings: dict[str, Reading] = {}
        for partition, users in zip(self._partitions, split(user_ids, len(self._partitions)), strict=True):
            readings |= partition.read(users)
        return [readings[user_id] for user_id in user_ids]

    async def masks(self, user_ids: Sequence[str]) -> list[int]:
        """The same without the version."""
        partitions, count = self._partitions, len(self._partitions)
        return [partitions[(at := crc32(user_id.encode())) % count].mask(user_id, at) for user_id in user_ids]

    async def page(self, cursor: int, limit: int) -> Page:
        """Whole buckets from `cursor` (the running number of a bucket) on, until `limit` users are reached."""
        end = len(self._partitions) * BUCKETS
        return self._page(cursor, 0, end, limit)

    async def page_of(self, partition: int, cursor: int, limit: int) -> Page:
        """The same of one partition's users."""
        start = partition * BUCKETS
        return self._page(cursor or start, start, start + BUCKETS, limit)

    def _page(self, cursor: int, start: int, end: int, limit: int) -> Page:
        if not start <= cursor < end:
            raise ArgumentError(f"unknown cursor {cursor}: start with 0 and go on with the cursor of the last page")
        names: list[bytes] = []
        masks: list[int] = []
        while cursor < end and len(names) < limit:
            more, of_them = self._partitions[cursor // BUCKETS].bucket_users(cursor % BUCKETS)
            names += more
            masks += of_them
            cursor += 1
        return Page(names, masks, 0 if cursor == end else cursor)

    async def census(self) -> Census:
        """How many users are online now."""
        by_platform: dict[int, int] = {}
        for partition in self._partitions:
            for platform_id, users in partition.by_platform.items():
                if users:
                    by_platform[platform_id] = by_platform.get(platform_id, 0) + users
        return Census(sum(partition.online for partition in self._partitions), by_platform)

    async def sweep(self, op_id: str) -> None:
        """Remove the holds of ended leases and of passed deadlines."""
        now_ms = self._clock.monotonic_ms()
        for holder in [holder for holder, ends_ms in self._leases.items() if ends_ms <= now_ms]:
            del self._leases[holder]
            self._end_holder(holder, op_id)
        for partition in self._partitions:
            self._tell(partition.end_deadlines(op_id, now_ms))

    async def changes_since(self, partition: int, version: int) -> list[FeedEntry] | None:
        """The feed of a partition after `version`; None if part of it is no longer kept."""
        return self._partitions[partition].changes_since(version)

    async def versions(self) -> list[int]:
        """The present version of each partition."""
        return [partition.version for partition in self._partitions]

    async def claim(self, role: str, holder: str, bids: Sequence[Bid]) -> list[Claim]:
        """Bid for partitions in a role; raises `LeaseLost`."""
        if not self._lives(holder):
            raise LeaseLost(f"the lease of {holder} has ended")
        claims: list[Claim] = []
        for partition, take, done in bids:
            version = self._partitions[partition].version
            state = self._roles.setdefault((role, partition), RoleState(version))
            claims.append(state.bid(holder, self._lives, take=take, done=done, version=version))
        return claims

    async def disown(self, role: str, holder: str, done: Mapping[int, int]) -> None:
        """Give partitions up, and bid for them no longer."""
        for partition, version in done.items():
            state = self._roles.get((role, partition))
            if state is not None and self._lives(holder):
                state.leave(holder, version, self._partitions[partition].version)

    def follow(self, listener: FeedListener, interrupted: Callable[[], None] = nothing) -> Callable[[], None]:  # noqa: ARG002 - it can't be
        """Have `listener` called with every entry, before the write that made it returns."""
        key = object()
        self._listeners[key] = listener

        def unfollow() -> None:
            self._listeners.pop(key, None)

        return unfollow

    async def close(self) -> None:
        """Let go of the listeners; what is stored goes with the process."""
        self._listeners.clear()

    def _place(self, user_id: str) -> int:
        return partition_of(user_id, len(self._partitions))

    def _lives(self, holder: str) -> bool:
        return self._leases.get(holder, 0) > self._clock.monotonic_ms()

    def _end_holder(self, holder: str, op_id: str) -> None:
        for partition in self._partitions:
            self._tell(partition.end_holder(op_id, holder))

    def _tell(self, entry: FeedEntry | None) -> None:
        if entry is not None:
            each("taking over an entry of the feed", tuple(self._listeners.values()), lambda hear: hear(entry))
