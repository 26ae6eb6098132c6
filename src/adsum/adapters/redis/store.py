"""The store on Redis: every rule of a partition is in a script, atomic on its server.

Deadlines and leases are judged by Redis's own clock. Each partition keeps the
leases of all holders, because a script sees only keys of its own partition; so a
renewal is one trip with a small call for each partition, whatever the number of users.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from time import perf_counter
from typing import Any, TypeVar
from zlib import crc32

from adsum.adapters.redis.codec import (
    counts_of,
    format_version,
    parse_version,
    read_entry,
    read_record,
    version_of,
)
from adsum.adapters.redis.feed import FeedReader
from adsum.adapters.redis.reads import SharedReads
from adsum.adapters.redis.scripts import script
from adsum.adapters.redis.server import LinkOptions
from adsum.adapters.redis.servers import servers_of
from adsum.adapters.redis.sweeps import Sweeps
from adsum.adapters.redis.trips import Call, Lookup, Trips, as_ours
from adsum.adapters.redis.url import StoreUrl
from adsum.adapters.redis.writecalls import SharedCall, WriteCalls
from adsum.adapters.redis.writes import Failures, Parts, SharedWrites
from adsum.domain.claims import Bid, Claim
from adsum.domain.errors import AdsumError, ArgumentError, StoreError, TooManyStatuses
from adsum.domain.presence import Census, FeedEntry, HoldBatch, HoldState, Page, Reading, TimedEdit
from adsum.ports import MAX_TIMED, FeedListener, nothing

T = TypeVar("T")

Observe = Callable[[str, str, float], None]
"""Told of each trip that reads: what for, `ok` or `failed`, and how long it took in seconds."""

log = logging.getLogger(__name__)

USERS, FEED, STATE = 0, 1, 4
"""Indexes of keys that plain commands use."""

USERS_A_CALL = 1_000
ENTRIES_A_CALL = 100
"""Each may be of hundreds of users: all partitions' answers come over one connection, within its time limit."""

LEAST_SCAN, MOST_SCAN = 100, 2_000
"""Users of one step of a scan: few cost a trip as many do, and while Redis looks at many all others wait."""

MAX_SCAN = 1 << 48
"""A scan cursor is below the size of the hash's table, rounded up to a power of two."""

NOBODY = b""
"""Among the users, where a partition's summary is; nobody has an empty ID."""

LAYOUT = "4"
"""The version of keys and records; another one is refused at the start."""


MARKS = ("layout", "partitions")
"""Fields that say how the store is laid out."""


def unobserved(_operation: str, _outcome: str, _seconds: float) -> None:
    """For when nobody counts."""


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """`prefix` begins every key; `timed_ttl_ms`, `max_timed` and `history` as for any store.

    Of all sweeps of all nodes within `sweep_ms`, one looks for ended leases; holds whose lease is
    lost end in `lease_ttl_ms`, which gives their gateway time to write them anew. `timeout_ms` bounds
    each trip. A server that fails is tried again after `retry_min_ms`, doubling to
    `retry_max_ms`; until then callers fail at once. Of `alike`, settings by name, a node that
    opens the store is warned where the one before it was set otherwise.
    """

    prefix: str = "adsum"
    partitions: int = 16
    timed_ttl_ms: int = 1_800_000
    max_timed: int = MAX_TIMED
    lease_ttl_ms: int = 15_000
    history: int = 4_096
    sweep_ms: int = 0
    timeout_ms: int = 1_000
    retry_min_ms: int = 50
    retry_max_ms: int = 5_000
    alike: Mapping[str, str] = field(default_factory=dict)


class RedisStore:
    """A `Store` on Redis 7.0 or later, or Valkey."""

    def __init__(self, url: StoreUrl, options: RedisOptions, observe: Observe = unobserved) -> None:
        self._options = options
        self._observe = observe
        self._count = options.partitions
        links = LinkOptions(options.timeout_ms, options.retry_min_ms, options.retry_max_ms)
        self._servers = servers_of(url, links)
        self._trips = Trips(self._servers, options.prefix, links.limit_s)
        # Leases have connections of their own: they wait behind nothing that clients ask for.
        self._lease_servers = servers_of(url, links)
        self._lease_trips = Trips(self._lease_servers, options.prefix, links.limit_s)
        self._feed = FeedReader(self._servers, options.prefix, options.partitions)
        self._sweeps = Sweeps(
            self._trips,
            options.partitions,
            options.history,
            options.sweep_ms,
            options.lease_ttl_ms,
            options.timed_ttl_ms,
            lambda: self._feed.session,
        )
        self._write_calls = WriteCalls(
            options.prefix,
            options.partitions,
            options.history,
            options.timed_ttl_ms,
            options.max_timed,
            lambda: self._feed.on_one_server,
        )
        self._reads = SharedReads(self._read)
        self._looks = SharedReads(self._look)
        self._writes = SharedWrites(self._write_timed, self._place)

    @property
    def partitions(self) -> int:
        """How many partitions the users live in."""
        return self._options.partitions

    @property
    def feed_session(self) -> int:
        """Which subscription to the servers' channels this is; 0 while one is lost."""
        return self._feed.session

    @property
    def caution(self) -> str:
        """That a server may evict, as it said when the feed was subscribed to."""
        return self._feed.caution

    async def open(self) -> None:
        """Check that the store has our layout and number of partitions, or is new; listen to its feed."""
        *_, found = await self._trips.run([*self._marks(), Call(0, "HMGET", MARKS, STATE)])
        layout, partitions = (value.decode() for value in found)
        if layout != LAYOUT:
            raise ArgumentError(f"the store has layout {layout}, and this version of Adsum needs {LAYOUT}")
        if partitions != str(self.partitions):
            raise ArgumentError(
                f"the store has {partitions} partitions, and this node is set to {self.partitions}: "
                f"set partitions = {partitions}"
            )
        await self._compare_settings()
        await self._feed.start()

    def _marks(self) -> list[Call]:
        """The calls that say how the store is laid out, if nothing says so yet."""
        return [Call(0, "HSETNX", pair, STATE) for pair in zip(MARKS, (LAYOUT, self.partitions), strict=True)]

    async def _compare_settings(self) -> None:
        alike = self._options.alike
        fields = [f"set:{name}" for name in alike]
        if not fields:
            return
        pairs = tuple(part for pair in zip(fields, alike.values(), strict=True) for part in pair)
        found, _ = await self._trips.run([Call(0, "HMGET", tuple(fields), STATE), Call(0, "HSET", pairs, STATE)])
        for (name, text), other in zip(alike.items(), found, strict=True):
            if other is not None and other.decode() != text:
                log.warning(
                    "%s = %s here, and the node that started last has %s: if it is still there, set both alike",
                    *(name, text, other.decode()),
                )

    async def grant(self, holder: str, ttl_ms: int) -> None:
        """Start the lease of a new holder, in every partition."""
        await self._of_leases("grant", holder, ttl_ms)

    async def renew(self, holder: str, ttl_ms: int) -> bool:
        """Prolong a lease; False if it has ended in any partition."""
        # How the store is laid out is said again, should that be lost: nobody else would notice.
        return all(await self._of_leases("renew", holder, ttl_ms, more=self._marks()))

    async def release(self, holder: str, op_id: str, successor: str = "") -> None:
        """End a lease and everything its holder holds; raises `LeaseLost` if a successor is named and has none."""
        await self._sweeps.release(holder, successor, op_id)

    async def write_holds(self, batch: HoldBatch) -> dict[str, int]:
        """Set the present platforms of each user on the batch's holder, and tell of logins; raises `LeaseLost`."""
        parts: dict[int, list[HoldState]] = {}
        for state in batch.states:
            parts.setdefault(self._place(state.user_id), []).append(state)
        told_ms = await self._write(self._write_calls.holds(batch, parts))
        for outcome in told_ms.values():
            if isinstance(outcome, StoreError):
                raise outcome
        return {
            state.user_id: told_ms[p]
            for p, states in parts.items()
            for state in states
            if told_ms[p] and not all(login.at_ms for login in state.logins)
        }

    async def write_timed(self, op_id: str, edits: Sequence[TimedEdit]) -> None:
        """Apply each edit of deadline-bound platforms, in order; raises `TooManyStatuses` if some found no room."""
        await self._writes.write(op_id, edits)

    def read(self, user_ids: Sequence[str]) -> Coroutine[Any, Any, list[Reading]]:
        """The platforms of each user, in the order asked, offline users included."""
        return self._reads.read(user_ids)

    def masks(self, user_ids: Sequence[str]) -> Coroutine[Any, Any, list[int]]:
        """The same without the version."""
        return self._looks.read(user_ids)

    async def page(self, cursor: int, limit: int) -> Page:
        """A scan of one partition after the other; the cursor is (scan cursor) x (partitions) + (partition)."""
        if not 0 <= cursor < MAX_SCAN * self.partitions:
            raise ArgumentError(f"unknown cursor {cursor}: start with 0 and go on with the cursor of the last page")
        names: list[bytes] = []
        masks: list[int] = []
        while len(names) < limit:
            scan, partition = divmod(cursor, self.partitions)
            # Not ever less, or a page would end with ever smaller trips.
            page = await self.page_of(partition, scan, max(limit - len(names), limit // 3))
            names += page.names
            masks += page.masks
            if page.next_cursor:
                cursor = page.next_cursor * self.partitions + partition
            elif partition + 1 < self.partitions:
                cursor = partition + 1
            else:
                return Page(names, masks, 0)
        return Page(names, masks, cursor)

    async def page_of(self, partition: int, cursor: int, limit: int) -> Page:
        """The same of one partition's users: one step of its scan, which gives about `limit` users."""
        if not 0 <= cursor < MAX_SCAN:
            raise ArgumentError(f"unknown cursor {cursor}: start with 0 and go on with the cursor of the last page")
        args = (cursor, "COUNT", min(max(limit, LEAST_SCAN), MOST_SCAN))
        ((scan, flat),) = await self._ask("listing", [Call(partition, "HSCAN", args, USERS)])
        names, records = flat[::2], flat[1::2]
        if NOBODY in names:
            place = names.index(NOBODY)
            del names[place], records[place]
        return Page(names, list(map(read_record, records)), int(scan))

    async def census(self) -> Census:
        """How many users are online now."""
        partitions = range(self.partitions)
        calls = [Call(p, command, args) for p in partitions for command, args in (("HLEN", ()), ("HGET", (NOBODY,)))]
        answers = await self._ask("census", calls)
        online, by_platform = 0, Counter[int]()
        for length, summary in zip(answers[::2], answers[1::2], strict=True):
            # One that came just between the two is not counted.
            online += max(0, length - (summary is not None))
            by_platform.update(counts_of(summary))
        return Census(online, dict(by_platform))

    async def sweep(self, op_id: str) -> None:
        """Remove the holds of ended leases and of passed deadlines."""
        await self._sweeps.sweep(op_id)

    async def changes_since(self, partition: int, version: int) -> list[FeedEntry] | None:
        """The feed of a partition after `version`; None if part of it is no longer kept.

        An entry names the version before it: so a feed that was cut, or has another
        past than the caller's (a replica that took over), shows itself.
        """
        after = f"({format_version(version)}"
        current, rows = await self._ask(
            "feed",
            [
                Call(partition, "HGET", (NOBODY,), USERS),
                Call(partition, "XRANGE", (after, "+", "COUNT", ENTRIES_A_CALL), FEED),
            ],
        )
        entries = [read_entry(partition, row_version, told) for row_version, (_, told) in rows]
        before = entries[0].before if entries else version_of(current)
        return entries if before == version else None

    async def versions(self) -> list[int]:
        """The present version of each partition."""
        summaries = await self._ask("feed", [Call(p, "HGET", (NOBODY,), USERS) for p in range(self.partitions)])
        return list(map(version_of, summaries))

    async def claim(self, role: str, holder: str, bids: Sequence[Bid]) -> list[Claim]:
        """Bid for partitions in a role; raises `LeaseLost`."""
        calls = [
            Call(p, script("claim"), (role, holder, "take" if take else "look", format_version(done) if done else ""))
            for p, take, done in bids
        ]
        return [
            Claim(cursor and parse_version(cursor.decode()), parse_version(version.decode()), contenders, bool(free))
            for cursor, version, contenders, free in await self._trips.run(calls)
        ]

    async def disown(self, role: str, holder: str, done: Mapping[int, int]) -> None:
        """Give partitions up, and bid for them no longer."""
        await self._trips.run(
            [
                Call(p, script("claim"), (role, holder, "leave", format_version(version) if version else ""))
                for p, version in done.items()
            ]
        )

    def follow(self, listener: FeedListener, interrupted: Callable[[], None] = nothing) -> Callable[[], None]:
        """Have `listener` called with every entry that arrives, `interrupted` after each loss of a server."""
        return self._feed.follow(listener, interrupted)

    async def close(self) -> None:
        """Close every connection."""
        await self._feed.stop()
        await self._reads.close()
        await self._looks.close()
        await self._writes.close()
        await self._lease_servers.close()
        await self._servers.close()

    async def _write_timed(self, op_id: str, parts: Parts) -> Failures:
        outcomes = await self._write(self._write_calls.timed(op_id, parts))
        failures: dict[int | str, AdsumError] = {}
        for p, outcome in outcomes.items():
            if isinstance(outcome, StoreError):
                failures[p] = outcome
            elif isinstance(outcome, list):
                failures |= {user_id.decode(): TooManyStatuses() for user_id in outcome}
        return failures

    async def _write(self, calls: Sequence[SharedCall]) -> dict[int, Any]:
        """What each partition answered, or the `StoreError` with which writing to it failed."""
        answers = await self._trips.ask([call for _, call in calls])
        return {
            p: as_ours(outcome)
            for (share, _), answer in zip(calls, answers, strict=True)
            for p, outcome in zip(share, repeat(answer) if isinstance(answer, StoreError) else answer, strict=False)
        }

    async def _read(self, user_ids: Sequence[str]) -> list[Reading]:
        asked = _Asked(user_ids, self._count)
        answers = await self._ask("users", [Lookup(p, USERS, (NOBODY, *users)) for p, users in asked.groups])
        found: list[Iterable[Reading]] = []
        for summary, *records in answers:
            at = version_of(summary)
            # Users are many, records few.
            readings = {record: Reading(read_record(record), at) for record in set(records)}
            found.append(map(readings.__getitem__, records))
        return asked.in_order(found)

    async def _look(self, user_ids: Sequence[str]) -> list[int]:
        asked = _Asked(user_ids, self._count)
        answers = await self._ask("users", [Lookup(p, USERS, users) for p, users in asked.groups])
        return list(map(read_record, asked.in_order(answers)))

    async def _ask(self, operation: str, calls: Sequence[Call | Lookup]) -> list[Any]:
        """A trip that reads, which is timed."""
        began_s = perf_counter()
        outcome = "failed"
        try:
            answers = await self._trips.run(calls)
            outcome = "ok"
        finally:
            self._observe(operation, outcome, perf_counter() - began_s)
        return answers

    def _place(self, user_id: str) -> int:
        # As `partition_of` has it: of many users the calls would cost most.
        return crc32(user_id.encode()) % self._count

    async def _of_leases(self, name: str, *args: str | int, more: Sequence[Call] = ()) -> list[Any]:
        """What each partition answers; `more` goes on the same trip."""
        calls = [Call(p, script(name), args) for p in range(self.partitions)]
        return (await self._lease_trips.run([*calls, *more]))[: self.partitions]


class _Asked:
    """Users by partition, in groups of what one call may ask for, and how to bring answers back in order."""

    __slots__ = ("_places", "groups")

    def __init__(self, user_ids: Sequence[str], count: int) -> None:
        names = list(map(str.encode, user_ids))
        # As `partition_of` has it: for a thousand users the calls would cost most.
        self._places = [crc32(name) % count for name in names]
        parts: dict[int, list[bytes]] = defaultdict(list)
        for place, name in zip(self._places, names, strict=True):
            parts[place].append(name)
        self.groups = list(parts.items())
        if len(names) > USERS_A_CALL:
            self.groups = [
                (place, users[start : start + USERS_A_CALL])
                for place, users in parts.items()
                for start in range(0, len(users), USERS_A_CALL)
            ]

    def in_order(self, answers: Iterable[Iterable[T]]) -> list[T]:
        """The answers of each group, for the users as they were asked for."""
        groups: dict[int, list[Iterable[T]]] = defaultdict(list)
        for (partition, _), answer in zip(self.groups, answers, strict=True):
            groups[partition].append(answer)
        found = {p: iter(each[0]) if len(each) == 1 else chain.from_iterable(each) for p, each in groups.items()}
        return list(map(next, map(found.__getitem__, self._places)))
