"""The metrics of the status writer's lanes, each of which has one write in flight at most."""

from typing import Final

from adsum.adapters.metrics.book import Book, Label
from adsum.ports import Snapshot

LANE: Final = Label("lane", words="a lane of the status writer, from 0 on; there are `flush_workers`")


class Lanes:
    """The status writer's lanes, each metric by lane."""

    def __init__(self, book: Book) -> None:
        self._users = book.counters("adsum_writer_users_total", "Users written.", LANE)
        self._busy = book.counters(
            "adsum_writer_busy_seconds_total",
            "Time with a write in flight, up to now; its rate is the lane's load, and 1 is full.",
            LANE,
        )
        self._waiting = book.gauge("adsum_writer_waiting_users", "Users waiting to be written.", LANE)
        self._age = book.gauge(
            "adsum_writer_write_age_seconds", "For how long the present write has been in flight; 0 if none is.", LANE
        )
        self._busy_s: list[float] = []
        """Of writes that have ended."""
        self._told_s: list[float] = []
        """What the counter has."""

    def wrote(self, lane: int, users: int, took_s: float, *, ok: bool) -> None:
        """One write of a lane."""
        self._grow(lane + 1)
        self._busy_s[lane] += took_s
        if ok:
            self._users.add(str(lane), users)

    def observe(self, snapshot: Snapshot) -> None:
        """Take over what is known at this moment."""
        self._grow(len(snapshot.dirty_users))
        for lane, users in enumerate(snapshot.dirty_users):
            self._waiting.labels(str(lane)).set(users)
        now_s = list(self._busy_s)
        for lane, age_ms in enumerate(snapshot.write_ages_ms):
            self._age.labels(str(lane)).set(age_ms / 1000)
            now_s[lane] += age_ms / 1000
        for lane, busy_s in enumerate(now_s):
            told_s = self._told_s[lane]
            self._busy.add(str(lane), max(0, busy_s - told_s))
            self._told_s[lane] = max(busy_s, told_s)

    def _grow(self, lanes: int) -> None:
        for lane in range(len(self._busy_s), lanes):
            self._users.add(str(lane), 0)
            self._busy_s.append(0)
            self._told_s.append(0)
