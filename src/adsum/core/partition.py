"""One partition of the users: who holds what, and the feed of what changed.

Invariants, after every method:
- a user's mask is the union of its holds and its timed platforms;
- a user has a record if and only if that mask is not zero;
- the version grew by exactly one if some user's mask changed or there is something
  to tell of logins, else not at all, and the entry returned names each such user once.

Users are spread over a fixed number of buckets by a hash of their ID alone, so a
position in the listing stays true whatever comes and goes.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from adsum.domain.platforms import ids_of
from adsum.domain.presence import Cause, Change, EndedToken, FeedEntry, HoldBatch, HoldState, Login, Reading, TimedEdit

BUCKETS = 256
"""Buckets a partition lists its users in: 16 partitions of 256 keep a page near 250 users at 1 million online."""


def user_hash(user_id: str) -> int:
    """The hash that places a user: CRC-32 of the ID's UTF-8, the same in every process and language."""
    return crc32(user_id.encode())


def partition_of(user_id: str, count: int) -> int:
    """The partition a user lives in, of `count`."""
    return user_hash(user_id) % count


def split(user_ids: Iterable[str], count: int) -> list[list[str]]:
    """The users of each of `count` partitions, as `partition_of` places them."""
    parts: list[list[str]] = [[] for _ in range(count)]
    for user_id in user_ids:
        parts[crc32(user_id.encode()) % count].append(user_id)
    return parts


def part_of(limit: int, count: int) -> int:
    """What one of `count` partitions may have of a limit for all of them, which they share evenly; at least 1."""
    return -(-limit // count)


class Written(NamedTuple):
    """What a write of holds came to: its feed entry if there is one, and when new logins were told, by user."""

    entry: FeedEntry | None
    told_ms: dict[str, int]


class _Record:
    """What is held for one user: platforms by holder, timed platforms, and their union."""

    __slots__ = ("holds", "mask", "timed")

    def __init__(self) -> None:
        self.holds: dict[str, int] = {}
        self.timed = 0
        self.mask = 0


class Partition:
    """Partition `index` of `count`. The caller gives time in milliseconds of one clock (`now_ms`).

    Entries are kept for catch-up while they have no more than `history` changes in all. Of timed platforms
    `max_timed` are held at a time; `refused` counts edits that would have held more.
    """

    def __init__(self, index: int, count: int, timed_ttl_ms: int, history: int, max_timed: int = 1 << 40) -> None:
        self.index = index
        self.refused = 0
        self.version = 0
        self.online = 0
        self.by_platform: dict[int, int] = {}
        self._count = count
        self._timed_ttl_ms = timed_ttl_ms
        self._max_timed = max_timed
        self._buckets: list[dict[str, _Record]] = [{} for _ in range(BUCKETS)]
        self._history: deque[FeedEntry] = deque()
        self._most_kept = history
        self._kept = 0
        self._latest_ms = 0
        self._ahead_ms = 0
        self._lanes: dict[str, dict[int, int]] = {}
        # (user, platform) -> deadline. Every deadline is set the same time ahead, so
        # the order of setting is the order of ending.
        self._deadlines: OrderedDict[tuple[str, int], int] = OrderedDict()

    def write_holds(self, batch: HoldBatch, states: Iterable[HoldState], now_ms: int) -> Written:
        """Set each user's present platforms on the batch's holder, and tell of its logins.

        A batch that is not newer than the last of its lane is ignored.
        """
        lanes = self._lanes.setdefault(batch.holder, {})
        if batch.seq <= lanes.get(batch.lane, 0):
            return Written(None, {})
        lanes[batch.lane] = batch.seq
        # Where the clock stepped back, time runs on from where it was: logins must not seem older.
        self._ahead_ms = max(self._ahead_ms, self._latest_ms - now_ms)
        self._latest_ms = now_ms + self._ahead_ms
        changes, told, logins, ended = _Changes(), dict[str, int](), list[Login](), list[EndedToken]()
        for state in states:
            record = self._open(state.user_id)
            if state.mask:
                record.holds[batch.holder] = state.mask
            else:
                record.holds.pop(batch.holder, None)
            for login in state.logins:
                if not login.at_ms:
                    told[state.user_id] = self._latest_ms
                if any(mask & login.kicked for holder, mask in record.holds.items() if holder != batch.holder):
                    at_ms = login.when(self._latest_ms)
                    logins.append(Login(state.user_id, login.platform_id, login.token, at_ms))
            ended += [EndedToken(state.user_id, token) for token in state.ended_tokens]
            self._settle(state.user_id, record, state.cause, changes)
        return Written(self._publish(batch.op_id, changes, tuple(logins), tuple(ended)), told)

    def write_timed(self, op_id: str, edits: Iterable[TimedEdit], now_ms: int) -> FeedEntry | None:
        """Apply edits in order: within one, platforms are let go before others are held.

        One that finds no room is refused whole.
        """
        changes = _Changes()
        deadline = now_ms + self._timed_ttl_ms
        for edit in edits:
            record = self._open(edit.user_id)
            timed = record.timed & ~edit.offline | edit.online
            more = timed.bit_count() - record.timed.bit_count()
            if more > 0 and len(self._deadlines) + more > self._max_timed:
                self.refused += 1
                self._settle(edit.user_id, record, edit.cause, changes)
                continue
            for platform_id in ids_of(record.timed & edit.offline & ~edit.online):
                del self._deadlines[edit.user_id, platform_id]
            for platform_id in ids_of(edit.online):
                self._deadlines[edit.user_id, platform_id] = deadline
                self._deadlines.move_to_end((edit.user_id, platform_id))
            record.timed = timed
            self._settle(edit.user_id, record, edit.cause, changes)
        return self._publish(op_id, changes)

    def end_holder(self, op_id: str, holder: str) -> FeedEntry | None:
        """Remove everything a holder holds, and what is known of its lanes."""
        if self._lanes.pop(holder, None) is None:
            return None
        changes = _Changes()
        for bucket in self._buckets:
            for user_id, record in [item for item in bucket.items() if holder in item[1].holds]:
                del record.holds[holder]
                self._settle(user_id, record, Cause(), changes)
        return self._publish(op_id, changes)

    def end_deadlines(self, op_id: str, now_ms: int) -> FeedEntry | None:
        """Let go of the timed platforms whose deadline has passed."""
        changes = _Changes()
        while self._deadlines:
            (user_id, platform_id), deadline = next(iter(self._deadlines.items()))
            if deadline > now_ms:
                break
            self._deadlines.popitem(last=False)
            record = self._open(user_id)
            record.timed &= ~(1 << platform_id)
            self._settle(user_id, record, Cause(), changes)
        return self._publish(op_id, changes)

    def read(self, user_ids: Iterable[str]) -> dict[str, Reading]:
        """Users' platforms now; an unknown user is offline."""
        # Users are many, sets of platforms few.
        readings: dict[int, Reading] = {}
        found: dict[str, Reading] = {}
        for user_id in user_ids:
            # As `_bucket` does it: of many users the calls would cost most.
            record = self._buckets[crc32(user_id.encode()) // self._count % BUCKETS].get(user_id)
            mask = record.mask if record is not None else 0
            reading = readings.get(mask)
            if reading is None:
                reading = readings[mask] = Reading(mask, self.version)
            found[user_id] = reading
        return found

    def mask(self, user_id: str, at: int) -> int:
        """The platforms now of a user whose `user_hash` is `at`."""
        record = self._buckets[at // self._count % BUCKETS].get(user_id)
        return record.mask if record is not None else 0

    def bucket_users(self, bucket: int) -> tuple[list[bytes], list[int]]:
        """The online users of one bucket: their IDs in UTF-8, and the platforms (a mask) of each."""
        users = self._buckets[bucket]
        return list(map(str.encode, users)), [record.mask for record in users.values()]

    def changes_since(self, version: int) -> list[FeedEntry] | None:
        """The entries after `version`; None if some are no longer kept or `version` is not of this partition."""
        missed = self.version - version
        if missed < 0 or missed > len(self._history):
            return None
        return [entry for entry in self._history if entry.version > version]

    def _bucket(self, user_id: str) -> dict[str, _Record]:
        return self._buckets[user_hash(user_id) // self._count % BUCKETS]

    def _open(self, user_id: str) -> _Record:
        bucket = self._bucket(user_id)
        record = bucket.get(user_id)
        if record is None:
            record = bucket[user_id] = _Record()
        return record

    def _settle(self, user_id: str, record: _Record, cause: Cause, changes: "_Changes") -> None:
        """Bring a record's union, and everything derived from it, up to date."""
        before, after = record.mask, record.timed
        for mask in record.holds.values():
            after |= mask
        if not after:
            self._bucket(user_id).pop(user_id, None)
        if before == after:
            return
        record.mask = after
        self.online += bool(after) - bool(before)
        for platform_id in ids_of(after & ~before):
            self.by_platform[platform_id] = self.by_platform.get(platform_id, 0) + 1
        for platform_id in ids_of(before & ~after):
            self.by_platform[platform_id] -= 1
        changes.add(user_id, before, after, cause)

    def _publish(
        self, op_id: str, changes: "_Changes", logins: tuple[Login, ...] = (), ended_tokens: tuple[EndedToken, ...] = ()
    ) -> FeedEntry | None:
        merged = changes.merged()
        if not (merged or logins or ended_tokens):
            return None
        self.version += 1
        entry = FeedEntry(self.index, self.version - 1, self.version, op_id, merged, logins, ended_tokens)
        self._history.append(entry)
        self._kept += _size(entry)
        while self._kept > self._most_kept:
            self._kept -= _size(self._history.popleft())
        return entry


def _size(entry: FeedEntry) -> int:
    """Of an entry kept, counted in what it tells: one may have the changes of thousands of users."""
    return len(entry.changes) + len(entry.logins) + len(entry.ended_tokens)


class _Changes:
    """The changes of one write, one for each user however often the write names them."""

    __slots__ = ("_by_user",)

    def __init__(self) -> None:
        self._by_user: dict[str, Change] = {}

    def add(self, user_id: str, before: int, after: int, cause: Cause) -> None:
        earlier = self._by_user.get(user_id)
        self._by_user[user_id] = Change(user_id, earlier.before if earlier else before, after, cause)

    def merged(self) -> tuple[Change, ...]:
        return tuple(change for change in self._by_user.values() if change.before != change.after)
