"""Deliveries in order: what waits, what may go now, what is tried again and when.

Deliveries of one user go one after another, in the order they were added; users
do not wait for each other. What cannot be delivered is tried again after a pause
that doubles; meanwhile the same user's later ones wait.

Invariant: each added item is, exactly once, finished, given up, or among those that
are still here. How many that may be is for those to say who add.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeVar

from adsum.core.backoff import backoff_ms

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HookQueueOptions:
    """`concurrency` items in flight, each tried `max_attempts` times.

    Pauses between tries double from `retry_min_ms` up to `retry_max_ms`.
    """

    concurrency: int
    max_attempts: int
    retry_min_ms: int
    retry_max_ms: int


class _Line(Generic[T]):
    """What waits for one user. The head is the one that is tried; `attempts` counts its tries."""

    __slots__ = ("attempts", "items")

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self.attempts = 0


class Taken(NamedTuple, Generic[T]):
    """An item that is in flight now."""

    user_id: str
    item: T


class HookQueue(Generic[T]):
    """A queue, in order per user. Every operation is O(log n) or better, amortised."""

    def __init__(self, options: HookQueueOptions) -> None:
        self._options = options
        # A user with a line is in exactly one of: ready, pausing, flying.
        self._lines: dict[str, _Line[T]] = {}
        self._ready: deque[str] = deque()
        self._pausing: list[tuple[int, int, str]] = []  # a heap: due, a serial number so that ties are fair, user
        self._flying: set[str] = set()
        self._size = 0
        self._serial = 0

    def __len__(self) -> int:
        """Items here, those in flight included."""
        return self._size

    @property
    def in_flight(self) -> int:
        """Items taken and neither finished nor put back."""
        return len(self._flying)

    def add(self, user_id: str, item: T) -> None:
        """Add an item behind the user's others."""
        self._size += 1
        line = self._lines.get(user_id)
        if line is None:
            line = self._lines[user_id] = _Line()
            self._ready.append(user_id)
        line.items.append(item)

    def take(self, now_ms: int) -> Taken[T] | None:
        """The next item to try, which is in flight from now; None if none may go now.

        The user who has waited longest is first. Each item taken must be given to
        `finish` or `retry`.
        """
        while self._pausing and self._pausing[0][0] <= now_ms:
            self._ready.append(heappop(self._pausing)[2])
        if not self._ready or len(self._flying) >= self._options.concurrency:
            return None
        user_id = self._ready.popleft()
        self._flying.add(user_id)
        line = self._lines[user_id]
        line.attempts += 1
        return Taken(user_id, line.items[0])

    def finish(self, user_id: str) -> None:
        """The user's item in flight is done with, delivered or not; the next may go."""
        self._flying.remove(user_id)
        self._size -= 1
        line = self._lines[user_id]
        line.items.popleft()
        line.attempts = 0
        if line.items:
            self._ready.append(user_id)
        else:
            del self._lines[user_id]

    def retry(self, user_id: str, now_ms: int, jitter: float) -> bool:
        """Try the user's item in flight again after a pause; False if it was tried often enough, and is to be finished.

        `jitter` is a random number in [0, 1).
        """
        attempts = self._lines[user_id].attempts
        if attempts >= self._options.max_attempts:
            return False
        self._flying.remove(user_id)
        pause_ms = backoff_ms(attempts, self._options.retry_min_ms, self._options.retry_max_ms, jitter)
        self._serial += 1
        heappush(self._pausing, (now_ms + pause_ms, self._serial, user_id))
        return True

    def next_due_ms(self) -> int | None:
        """When the first pause ends; None if there is none."""
        return self._pausing[0][0] if self._pausing else None

    def clear(self) -> list[T]:
        """Everything still here, in flight or not, which is no longer here."""
        left = list(self.items())
        self._lines.clear()
        self._ready.clear()
        self._pausing.clear()
        self._flying.clear()
        self._size = 0
        return left

    def items(self) -> Iterable[T]:
        """Everything here, in flight or not."""
        for line in self._lines.values():
            yield from line.items
