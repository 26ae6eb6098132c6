"""The metrics of the status writer's workers."""

from collections.abc import Callable
from typing import Final

from adsum.adapters.metrics.book import Book, Counters
from adsum.ports import Snapshot

_MIN_LOAD_WINDOW_S: Final = 1.0


class Workers:
    """The status writer's workers, each metric by worker."""

    def __init__(self, book: Book, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        users = book.counter("adsum_worker_users_total", "Users written, by worker of the status writer.", "worker")
        blocked = book.counter(
            "adsum_worker_blocked_seconds_total",
            "Time a worker waited for the store to take a write, failed writes included; complete writes only.",
            "worker",
        )
        self._users = Counters(users)
        self._blocked = Counters(blocked)
        self._dirty = book.gauge(
            "adsum_worker_dirty_users", "Users waiting to be written: the queue's depth.", "worker"
        )
        self._age = book.gauge(
            "adsum_worker_write_age_seconds",
            "For how long the present write has been in flight; 0 if none is.",
            "worker",
        )
        self._load = book.gauge(
            "adsum_worker_load_ratio",
            "Share of the time since metrics were last read (at least 1 s) with a write in flight; 1 is saturated.",
            "worker",
        )
        self._unevenness = book.gauge(
            "adsum_worker_unevenness_ratio",
            "Users written by the busiest worker over the mean of all workers since the start; 1 is even.",
        )
        self._written: list[int] = []
        self._busy_s: list[float] = []
        self._window_from_s = now_s()
        self._window_busy_s: list[float] = []

    def wrote(self, worker: int, users: int, took_s: float, *, ok: bool) -> None:
        """One write of a worker."""
        self._grow(worker + 1)
        label = str(worker)
        self._busy_s[worker] += took_s
        self._blocked.add(label, took_s)
        if ok:
            self._written[worker] += users
            self._users.add(label, users)

    def observe(self, snapshot: Snapshot) -> None:
        """Take over what is known at this moment."""
        self._grow(len(snapshot.dirty_users))
        ages_s = [age_ms / 1000 for age_ms in snapshot.write_ages_ms]
        for worker, users in enumerate(snapshot.dirty_users):
            self._dirty.labels(str(worker)).set(users)
        for worker, age_s in enumerate(ages_s):
            self._age.labels(str(worker)).set(age_s)
        total = sum(self._written)
        self._unevenness.set(max(self._written) * len(self._written) / total if total else 1)
        self._observe_load(ages_s)

    def _observe_load(self, ages_s: list[float]) -> None:
        now_s = self._now_s()
        window_s = now_s - self._window_from_s
        if window_s < _MIN_LOAD_WINDOW_S:
            return
        busy_s = [busy + (ages_s[i] if i < len(ages_s) else 0) for i, busy in enumerate(self._busy_s)]
        for worker, busy in enumerate(busy_s):
            before = self._window_busy_s[worker] if worker < len(self._window_busy_s) else 0
            self._load.labels(str(worker)).set(min(1, max(0, (busy - before) / window_s)))
        self._window_from_s, self._window_busy_s = now_s, busy_s

    def _grow(self, workers: int) -> None:
        missing = workers - len(self._written)
        if missing > 0:
            for worker in range(len(self._written), workers):
                self._users.add(str(worker), 0)
                self._blocked.add(str(worker), 0)
            self._written += [0] * missing
            self._busy_s += [0] * missing
