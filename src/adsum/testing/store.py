"""The store as one node reaches it: a `Store` whose every call crosses the simulated network.

A call to several servers is one trip to each; it fails if one of them fails, and the
others have carried it out. So does the engine on a cluster.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from adsum.core.partition import partition_of
from adsum.domain.claims import Bid, Claim
from adsum.domain.errors import LeaseLost, StoreError
from adsum.domain.platforms import ids_of
from adsum.domain.presence import Census, FeedEntry, HoldBatch, HoldState, Page, Reading, TimedEdit
from adsum.ports import FeedListener, nothing
from adsum.testing.loop import Process
from adsum.testing.network import Line, Network
from adsum.testing.server import Landed, Server, done

T = TypeVar("T")

Interrupted = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Trip:
    """What is asked of one server, and what its ledger is told if it is not refused."""

    line: Line
    work: Callable[[Server], Any]
    note: Callable[[Server], None] | None = None


class SimulatedStore:
    """A `Store`. A call that is not answered within `timeout_ms` fails, its outcome unknown."""

    def __init__(
        self, network: Network, process: Process, servers: Sequence[Server], timeout_ms: int, timed_ttl_ms: int
    ) -> None:
        self.lines = [Line(network, process, server, self._heard, self._refound) for server in servers]
        self.severed = False
        """Whether the node is dead: its calls go nowhere."""
        self.released_s = 0.0
        """When the last release was sent."""
        self.sessions = 1
        self._network = network
        self._process = process
        self._timeout_s = timeout_ms / 1000
        self._timed_ttl_ms = timed_ttl_ms
        self._listeners: dict[object, tuple[FeedListener, Interrupted]] = {}
        self._partitions = servers[0].store.partitions

    @property
    def partitions(self) -> int:
        """How many partitions the users live in."""
        return self._partitions

    @property
    def feed_session(self) -> int:
        """Grows with each line that is found again; 0 while one is lost."""
        return self.sessions if all(line.refound_s < inf for line in self.lines) else 0

    @property
    def caution(self) -> str:
        """There is nothing to set up."""
        return ""

    async def open(self) -> None:
        """Subscribe to the feed of every server."""
        await self._everywhere("open", lambda _: None)
        for line in self.lines:
            line.follow()

    async def grant(self, holder: str, ttl_ms: int) -> None:
        """Start the lease of a new holder, everywhere."""
        await self._everywhere(f"grant {holder}", lambda server: done(server.store.grant(holder, ttl_ms)))

    async def renew(self, holder: str, ttl_ms: int) -> bool:
        """Prolong a lease; False if it has ended anywhere."""
        return all(await self._everywhere(f"renew {holder}", lambda server: done(server.store.renew(holder, ttl_ms))))

    async def release(self, holder: str, op_id: str, successor: str = "") -> None:
        """End a lease and everything its holder holds; raises `LeaseLost` if a successor is named and has none."""
        self.released_s = self._network.loop.time()
        await self._everywhere(f"release {holder}", lambda server: done(server.store.release(holder, op_id, successor)))

    async def write_holds(self, batch: HoldBatch) -> dict[str, int]:
        """Set the present platforms of each user on the batch's holder, and tell of logins; raises `LeaseLost`."""
        sent_s = self._network.loop.time()
        parts: dict[Line, list[HoldState]] = {}
        for state in batch.states:
            parts.setdefault(self._line_of(state.user_id), []).append(state)
        told_ms: list[dict[str, int]] = await self._trips(
            f"write {batch.holder}/{batch.lane}#{batch.seq} {_masks(batch.states)}",
            [
                self._write(line, HoldBatch(batch.holder, batch.lane, batch.seq, batch.op_id, tuple(states)), sent_s)
                for line, states in parts.items()
            ],
        )
        return {user_id: at_ms for part in told_ms for user_id, at_ms in part.items()}

    def _write(self, line: Line, batch: HoldBatch, sent_s: float) -> _Trip:
        node = self._process.name

        def note(server: Server) -> None:
            for state in batch.states:
                nodes = server.ledger.holds.setdefault(state.user_id, {})
                if node not in nodes or nodes[node].sent_s <= sent_s:
                    nodes[node] = Landed(state.mask, sent_s)

        return _Trip(line, lambda server: done(server.store.write_holds(batch)), note)

    async def write_timed(self, op_id: str, edits: Sequence[TimedEdit]) -> None:
        """Apply each edit of deadline-bound platforms, in order."""
        parts: dict[Line, list[TimedEdit]] = {}
        for edit in edits:
            parts.setdefault(self._line_of(edit.user_id), []).append(edit)
        what = ", ".join(f"{edit.user_id}+{edit.online:x}-{edit.offline:x}" for edit in edits)
        await self._trips(f"set {what}", [self._set(line, op_id, part) for line, part in parts.items()])

    def _set(self, line: Line, op_id: str, edits: Sequence[TimedEdit]) -> _Trip:
        def note(server: Server) -> None:
            deadline_ms = server.clock.monotonic_ms() + self._timed_ttl_ms
            for user_id, online, offline, _ in edits:
                for platform_id in ids_of(offline):
                    server.ledger.timed.pop((user_id, platform_id), None)
                for platform_id in ids_of(online):
                    server.ledger.timed[user_id, platform_id] = deadline_ms

        return _Trip(line, lambda server: done(server.store.write_timed(op_id, edits)), note)

    async def read(self, user_ids: Sequence[str]) -> list[Reading]:
        """The platforms of each user, in the order asked, offline users included."""
        parts: dict[Line, list[str]] = {}
        for user_id in dict.fromkeys(user_ids):
            parts.setdefault(self._line_of(user_id), []).append(user_id)
        trips = [_read(line, users) for line, users in parts.items()]
        readings: dict[str, Reading] = {}
        for users, answer in zip(parts.values(), await self._trips("read", trips), strict=True):
            readings.update(zip(users, answer, strict=True))
        return [readings[user_id] for user_id in user_ids]

    async def masks(self, user_ids: Sequence[str]) -> list[int]:
        """The same without the version."""
        return [mask for mask, _ in await self.read(user_ids)]

    async def page(self, cursor: int, limit: int) -> Page:
        """One server's page after the other; the cursor is (server's cursor) x (servers) + (server)."""
        at, index = divmod(cursor, len(self.lines))
        (page,) = await self._trips("page", [_Trip(self.lines[index], lambda s: done(s.store.page(at, limit)))])
        following = page.next_cursor * len(self.lines) + index if page.next_cursor else (index + 1) % len(self.lines)
        return Page(page.names, page.masks, following)

    async def page_of(self, partition: int, cursor: int, limit: int) -> Page:
        """The same of one partition's users."""
        line = self.lines[partition % len(self.lines)]
        (page,) = await self._trips(
            f"page of {partition}", [_Trip(line, lambda s: done(s.store.page_of(partition, cursor, limit)))]
        )
        found: Page = page
        return found

    async def claim(self, role: str, holder: str, bids: Sequence[Bid]) -> list[Claim]:
        """Bid for partitions in a role; raises `LeaseLost`."""
        parts: dict[Line, list[Bid]] = {}
        for bid in bids:
            parts.setdefault(self.lines[bid.partition % len(self.lines)], []).append(bid)
        trips = [_claim(line, role, holder, part) for line, part in parts.items()]
        claims: dict[int, Claim] = {}
        for part, answer in zip(parts.values(), await self._trips(f"claim {holder}", trips), strict=True):
            claims |= {bid.partition: claim for bid, claim in zip(part, answer, strict=True)}
        return [claims[bid.partition] for bid in bids]

    async def disown(self, role: str, holder: str, done: Mapping[int, int]) -> None:
        """Give partitions up, and bid for them no longer."""
        parts: dict[Line, dict[int, int]] = {}
        for partition, version in done.items():
            parts.setdefault(self.lines[partition % len(self.lines)], {})[partition] = version
        await self._trips(
            f"disown {holder} {done}", [_disown(line, role, holder, part) for line, part in parts.items()]
        )

    async def census(self) -> Census:
        """How many users are online now."""
        parts = await self._everywhere("census", lambda server: done(server.store.census()))
        by_platform: dict[int, int] = {}
        for part in parts:
            for platform_id, users in part.by_platform.items():
                by_platform[platform_id] = by_platform.get(platform_id, 0) + users
        return Census(sum(part.online for part in parts), by_platform)

    async def sweep(self, op_id: str) -> None:
        """Remove the holds of ended leases and of passed deadlines."""
        trips = [_Trip(line, lambda server: done(server.store.sweep(op_id)), _end_deadlines) for line in self.lines]
        await self._trips("sweep", trips)

    async def changes_since(self, partition: int, version: int) -> list[FeedEntry] | None:
        """The feed of a partition after `version`; None if part of it is no longer kept."""
        line = self.lines[partition % len(self.lines)]
        trip = _Trip(line, lambda server: server.changes_since(partition, version))
        entries: list[FeedEntry] | None = (await self._trips(f"changes of {partition}", [trip]))[0]
        return entries

    async def versions(self) -> list[int]:
        """The present version of each partition."""
        answers = await self._everywhere("versions", lambda server: server.versions())
        return [answers[partition % len(answers)][partition] for partition in range(self._partitions)]

    def follow(self, listener: FeedListener, interrupted: Interrupted = nothing) -> Callable[[], None]:
        """Have `listener` called with what arrives, and `interrupted` when a server was lost and found again."""
        key = object()
        self._listeners[key] = (listener, interrupted)

        def unfollow() -> None:
            self._listeners.pop(key, None)

        return unfollow

    async def close(self) -> None:
        """Listen no longer."""
        for line in self.lines:
            line.leave()

    def sever(self) -> None:
        """Cut everything at once, for good."""
        self.severed = True
        for line in self.lines:
            line.leave()

    def _heard(self, entry: FeedEntry) -> None:
        for listener, _ in tuple(self._listeners.values()):
            listener(entry)

    def _refound(self, server: Server) -> None:
        self.sessions += 1
        if self.severed:
            return
        self._network.trace.note(self._process.name, f"found store{server.index} again")
        for _, interrupted in tuple(self._listeners.values()):
            interrupted()

    def _line_of(self, user_id: str) -> Line:
        return self.lines[partition_of(user_id, self._partitions) % len(self.lines)]

    async def _everywhere(self, name: str, work: Callable[[Server], T]) -> list[T]:
        return await self._trips(name, [_Trip(line, work) for line in self.lines])

    async def _trips(self, name: str, trips: Sequence[_Trip]) -> list[Any]:
        """The answers of all trips; if one fails, its error once all are over."""
        if self.severed:
            await asyncio.get_running_loop().create_future()
        answers = [trip.line.ask(name, trip.work, trip.note) for trip in trips]
        loop = self._network.loop
        timer = loop.call_later(self._timeout_s, _give_up, answers)
        failure: StoreError | None = None
        results: list[Any] = []
        try:
            for answer in answers:
                try:
                    results.append(await answer)
                except StoreError as error:
                    failure = error if failure is None or isinstance(error, LeaseLost) else failure
        finally:
            timer.cancel()
            for answer in answers:
                _forget(answer)
        if failure is not None:
            raise failure
        return results


def _read(line: Line, users: Sequence[str]) -> _Trip:
    return _Trip(line, lambda server: server.read(users))


def _claim(line: Line, role: str, holder: str, bids: Sequence[Bid]) -> _Trip:
    return _Trip(line, lambda server: server.claim(role, holder, bids))


def _disown(line: Line, role: str, holder: str, done: Mapping[int, int]) -> _Trip:
    return _Trip(line, lambda server: server.disown(role, holder, done))


def _end_deadlines(server: Server) -> None:
    now_ms = server.clock.monotonic_ms()
    timed = server.ledger.timed
    for key in [key for key, deadline_ms in timed.items() if deadline_ms <= now_ms]:
        del timed[key]


def _give_up(answers: "Sequence[asyncio.Future[Any]]") -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(StoreError("the store did not answer in time"))


def _forget(answer: "asyncio.Future[Any]") -> None:
    """Want an answer no longer, nor any complaint that nobody looked at it."""
    if not answer.cancel() and not answer.cancelled():
        answer.exception()


def _masks(states: Sequence[HoldState]) -> str:
    return " ".join(f"{state.user_id}={state.mask:x}" for state in states)
