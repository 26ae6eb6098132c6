"""One server of the simulated store: the embedded engine's logic, which can lose what it knows.

A server has some of the partitions, its own clock, and lives: a new one begins when it
comes back empty, or a replica takes over that had not yet heard the last writes.

Versions are those of an engine that takes them from its clock, as Redis does: they
only grow within a life, and another life does not give the same ones again. So a
follower's position in one life names no place in another. That is assumed: an engine
whose clock has gone back counts on from its last version, and could give one again
that a past it lost has given.
"""

import copy
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from adsum.adapters.memory import MemoryStore
from adsum.core.partition import partition_of
from adsum.domain.claims import Bid, Claim
from adsum.domain.errors import StoreError
from adsum.domain.presence import FeedEntry, Reading
from adsum.testing.loop import LoopClock

T = TypeVar("T")

SEQUENCE_BITS, LIFE_BITS = 20, 5


def done(call: Coroutine[Any, Any, T]) -> T:
    """The result of a call that never waits, as none of the memory store's does."""
    try:
        call.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the memory store waited")


@dataclass(frozen=True, slots=True)
class Landed:
    """A user's platforms as a node's newest write that landed has them, and when that write was sent."""

    mask: int
    sent_s: float


@dataclass(slots=True)
class Ledger:
    """What a server was told in this life, by a way of reckoning that is not the store's.

    `holds`: user -> node -> its newest write. `timed`: (user, platform) -> deadline by
    the server's clock. `written`: node -> partition and version of each entry it made.
    `roles`: partition -> the version at which webhooks began to consume its changes;
    `cursors`: partition -> up to where the last owner was told that they are told.
    """

    holds: dict[str, dict[str, Landed]] = field(default_factory=dict)
    timed: dict[tuple[str, int], int] = field(default_factory=dict)
    written: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    roles: dict[int, int] = field(default_factory=dict)
    cursors: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _State:
    store: MemoryStore
    ledger: Ledger
    numbers: list[list[int]]
    """The version told outside for each of the engine's own, by partition."""


class Observer(Protocol):
    """Who is told what happens to a server."""

    def changed(self, server: "Server", entry: FeedEntry) -> None:
        """An entry was published."""
        ...

    def reborn(self, server: "Server") -> None:
        """Another life has begun."""
        ...


class Server:
    """Server `index` of `count`: it has the partitions p with p % count = index."""

    def __init__(
        self, index: int, count: int, clock: LoopClock, make: Callable[[LoopClock], MemoryStore], observer: Observer
    ) -> None:
        self.index = index
        self.clock = clock
        self.life = 1
        self.down = 0
        """How many faults keep it from answering."""
        self.fell_back_s = -1e9
        """When it last fell back to an older state."""
        self.followers: list[Callable[[FeedEntry], None]] = []
        self._make = make
        self._observer = observer
        self._published: list[FeedEntry] = []
        self._state = self._empty()
        self._kept: _State | None = None
        self.partitions = [p for p in range(self.store.partitions) if p % count == index]

    @property
    def store(self) -> MemoryStore:
        """The engine, for those who may look inside."""
        return self._state.store

    @property
    def ledger(self) -> Ledger:
        """What it was told in this life."""
        return self._state.ledger

    def run(self, work: Callable[["Server"], T], note: Callable[["Server"], None] | None) -> T | StoreError:
        """Carry out a call; `note` writes what it said into the ledger if it was not refused."""
        try:
            result = work(self)
        except StoreError as refusal:
            return refusal
        if note is not None:
            note(self)
        published, self._published = self._published, []
        for entry in published:
            node = entry.op_id.rpartition("-")[0]
            self.ledger.written.setdefault(node, []).append((entry.partition, entry.version))
            self._observer.changed(self, entry)
            for follower in self.followers:
                follower(entry)
        return result

    # What it loses

    def keep(self) -> None:
        """Remember the present state, as a replica has it that hears no further write."""
        self._kept = self._copy(self._state)

    def lose_all(self) -> None:
        """Come back empty."""
        self._begin(self._empty())

    def fall_back(self, now_s: float) -> None:
        """A replica takes over that knows what was kept."""
        if self._kept is not None:
            self.fell_back_s = now_s
            self._begin(self._copy(self._kept))

    def _begin(self, state: _State) -> None:
        self._state = state
        self.life += 1
        self._observer.reborn(self)

    def _empty(self) -> _State:
        store = self._make(self.clock)
        store.follow(self._publish)
        return _State(store, Ledger(), [[0] for _ in range(store.partitions)])

    def _copy(self, state: _State) -> _State:
        store = copy.deepcopy(state.store, {id(self): self})
        told = state.ledger
        holds = {user: dict(nodes) for user, nodes in told.holds.items()}
        written = {node: list(entries) for node, entries in told.written.items()}
        ledger = Ledger(holds, dict(told.timed), written, dict(told.roles), dict(told.cursors))
        return _State(store, ledger, [list(numbers) for numbers in state.numbers])

    # Versions

    def _publish(self, entry: FeedEntry) -> None:
        numbers = self._state.numbers[entry.partition]
        by_clock, following = self.clock.unix_ms() << SEQUENCE_BITS, (numbers[-1] >> LIFE_BITS) + 1 << LIFE_BITS
        numbers.append(max(by_clock, following) | self.life % (1 << LIFE_BITS))
        before, version = numbers[entry.before], numbers[entry.version]
        self._published.append(entry._replace(before=before, version=version))

    def versions(self) -> list[int]:
        """The present version of each partition, those of other servers too (as 0)."""
        return [numbers[-1] for numbers in self._state.numbers]

    def read(self, user_ids: Sequence[str]) -> list[Reading]:
        """The platforms of each user, in the order asked."""
        numbers = self._state.numbers
        readings = zip(user_ids, done(self.store.read(user_ids)), strict=True)
        return [
            Reading(mask, numbers[partition_of(user_id, len(numbers))][version])
            for user_id, (mask, version) in readings
        ]

    def claim(self, role: str, holder: str, bids: Sequence[Bid]) -> list[Claim]:
        """Bid for partitions."""
        inside = [Bid(bid.partition, bid.take, self._inside(bid.partition, bid.done)) for bid in bids]
        claims: list[Claim] = []
        for bid, claim in zip(bids, done(self.store.claim(role, holder, inside)), strict=True):
            numbers = self._state.numbers[bid.partition]
            cursor = None if claim.cursor is None else numbers[claim.cursor]
            claims.append(claim._replace(cursor=cursor, version=numbers[claim.version]))
            if role == "webhooks":
                self.ledger.roles.setdefault(bid.partition, numbers[claim.version])
                if cursor is not None:
                    self.ledger.cursors[bid.partition] = cursor
        return claims

    def disown(self, role: str, holder: str, versions: Mapping[int, int]) -> None:
        """Give partitions up."""
        inside = {partition: self._inside(partition, version) for partition, version in versions.items()}
        done(self.store.disown(role, holder, inside))

    def has(self, partition: int, version: int) -> bool:
        """Whether a version is of this life, or one before it that was not lost."""
        return version in self._state.numbers[partition]

    def _inside(self, partition: int, version: int) -> int:
        """The engine's own number of a version; 0 for one that it does not have."""
        numbers = self._state.numbers[partition]
        return numbers.index(version) if version in numbers else 0

    def changes_since(self, partition: int, version: int) -> list[FeedEntry] | None:
        """The feed of a partition after `version`; None if it is no longer kept or of another life."""
        numbers = self._state.numbers[partition]
        if version not in numbers:
            return None
        entries = done(self.store.changes_since(partition, numbers.index(version)))
        if entries is None:
            return None
        return [entry._replace(before=numbers[entry.before], version=numbers[entry.version]) for entry in entries]
