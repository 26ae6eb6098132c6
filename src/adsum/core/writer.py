"""The status writer: which users must be written, and what one write says.

State is written, not events: a change marks its user dirty, and a batch reads the
user's state at the moment it is taken. So writing twice is harmless, changes
that follow each other merge, memory is bounded by the number of users, and
nothing is ever dropped.

Users are sharded over lanes (workers). A lane has one batch in flight, so writes
of one user are in order. An idle lane gives its next batch at once; a busy one
gathers meanwhile. Batches therefore grow only under load.

Invariant: a user whose platforms differ from what the store acknowledged is dirty
or in flight.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from adsum.core.backoff import backoff_ms
from adsum.core.partition import user_hash
from adsum.domain.presence import Cause, HoldBatch, HoldState

StateOf = Callable[[str, Cause, int], HoldState]
"""A user's state here at a moment (`now_ms`), with what last changed it."""


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """`lanes` workers, batches of at most `batch_users`, retries after `retry_min_ms` doubling to `retry_max_ms`."""

    lanes: int = 8
    batch_users: int = 100
    retry_min_ms: int = 50
    retry_max_ms: int = 5_000


class _Mark(NamedTuple):
    """Since when a user is dirty, and the connection that last made it so."""

    since_ms: int
    cause: Cause


@dataclass(slots=True)
class Flight:
    """A batch on its way to the store, and the marks it took."""

    batch: HoldBatch
    marks: dict[str, _Mark]
    taken_ms: int

    @property
    def oldest_ms(self) -> int:
        """Since when the longest waiting of its users is dirty."""
        return min(mark.since_ms for mark in self.marks.values())


class _Lane:
    __slots__ = ("dirty", "failures", "flight", "retry_at_ms", "seq")

    def __init__(self) -> None:
        # Taken from its front, batch by batch: a plain dict would step over what was taken before.
        self.dirty: OrderedDict[str, _Mark] = OrderedDict()
        self.flight: Flight | None = None
        self.seq = 0
        self.failures = 0
        self.retry_at_ms = 0


class Writer:
    """Dirty users of one gateway. `salt` is this process's random number, which the sharding adds to its hash."""

    def __init__(self, holder: str, options: WriterOptions, salt: int, next_op_id: Callable[[], str]) -> None:
        self.holder = holder
        self._options = options
        self._salt = salt
        self._next_op_id = next_op_id
        self._lanes = [_Lane() for _ in range(options.lanes)]
        self._to_rewrite: set[str] = set()

    def lane_of(self, user_id: str) -> int:
        """The lane a user belongs to while this process lives."""
        # By the hash that partitions go by, so that a batch is for as few partitions as can be.
        return (user_hash(user_id) + self._salt) % len(self._lanes)

    def mark(self, user_id: str, cause: Cause, now_ms: int) -> int:
        """Note that a user must be written; returns the lane that has work now."""
        lane = self.lane_of(user_id)
        dirty = self._lanes[lane].dirty
        earlier = dirty.get(user_id)
        dirty[user_id] = _Mark(earlier.since_ms if earlier else now_ms, cause)
        return lane

    def mark_again(self, user_ids: Iterable[str], now_ms: int) -> set[int]:
        """Note that users must be written though nothing changed; returns the lanes that have work now."""
        marked: set[int] = set()
        for user_id in user_ids:
            lane = self.lane_of(user_id)
            self._lanes[lane].dirty.setdefault(user_id, _Mark(now_ms, Cause()))
            marked.add(lane)
        return marked

    def is_pending(self, user_id: str) -> bool:
        """Whether a user is dirty or in flight: the store may have another state."""
        lane = self._lanes[self.lane_of(user_id)]
        return user_id in lane.dirty or (lane.flight is not None and user_id in lane.flight.marks)

    def take(self, lane: int, now_ms: int, state_of: StateOf) -> Flight | None:
        """The lane's next batch, its users' present states read by `state_of`.

        None while one is in flight, while waiting to retry, or with nothing dirty.
        """
        state = self._lanes[lane]
        if state.flight or not state.dirty or now_ms < state.retry_at_ms:
            return None
        count = min(len(state.dirty), self._options.batch_users)
        marks = dict(state.dirty.popitem(last=False) for _ in range(count))
        state.seq += 1
        states = tuple(state_of(user_id, mark.cause, now_ms) for user_id, mark in marks.items())
        batch = HoldBatch(self.holder, lane, state.seq, self._next_op_id(), states)
        state.flight = Flight(batch, marks, now_ms)
        return state.flight

    def acknowledged(self, lane: int) -> None:
        """The batch in flight is in the store."""
        state = self._lanes[lane]
        if self._to_rewrite and state.flight and state.flight.batch.holder == self.holder:
            self._to_rewrite.difference_update(state.flight.marks)
        state.flight = None
        state.failures = 0

    def failed(self, lane: int, now_ms: int, jitter: float) -> None:
        """The batch in flight may or may not be in the store: its users are dirty again.

        A newer mark keeps its cause but takes over the older one's age. `jitter`
        is a random number in [0, 1).
        """
        state = self._lanes[lane]
        if state.flight is None:
            return
        for user_id, older in state.flight.marks.items():
            newer = state.dirty.get(user_id)
            state.dirty[user_id] = _Mark(older.since_ms, newer.cause) if newer else older
        state.flight = None
        state.failures += 1
        wait_ms = backoff_ms(state.failures, self._options.retry_min_ms, self._options.retry_max_ms, jitter)
        state.retry_at_ms = now_ms + wait_ms

    def retry_in_ms(self, lane: int, now_ms: int) -> int | None:
        """How long a lane with dirty users must still wait to retry; None if it waits for no time."""
        state = self._lanes[lane]
        if state.flight or not state.dirty or state.retry_at_ms <= now_ms:
            return None
        return state.retry_at_ms - now_ms

    def rejoin(self, holder: str, user_ids: Iterable[str], now_ms: int) -> None:
        """Go on as a new holder: everything held here must be written again, without waiting to retry."""
        self.holder = holder
        self.mark_again(user_ids, now_ms)
        self._to_rewrite = set()
        for lane in self._lanes:
            lane.retry_at_ms = 0
            # Also who is under way and gone by now: the former name may hold them, and they may come back.
            self._to_rewrite.update(lane.dirty, lane.flight.marks if lane.flight else ())
            if lane.flight:
                for user_id, mark in lane.flight.marks.items():
                    lane.dirty.setdefault(user_id, mark)

    @property
    def rewritten(self) -> bool:
        """Whether all that was held or waited when the holder became another is written under its name."""
        return not self._to_rewrite

    def has_full_batch(self, lane: int) -> bool:
        """Whether as many users wait as go in one batch."""
        return len(self._lanes[lane].dirty) >= self._options.batch_users

    @property
    def clean(self) -> bool:
        """Whether the store has acknowledged everything."""
        return not any(lane.dirty or lane.flight for lane in self._lanes)

    @property
    def dirty_users(self) -> list[int]:
        """Users waiting, by lane; those in flight not counted."""
        return [len(lane.dirty) for lane in self._lanes]

    @property
    def flights(self) -> list[Flight | None]:
        """The batch in flight, by lane."""
        return [lane.flight for lane in self._lanes]
