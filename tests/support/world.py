"""What tests of several levels share: a clock that stands still, a meter that remembers, short names for values."""

from collections import Counter
from collections.abc import Iterable, Mapping

from adsum.domain.presence import Cause, Change, FeedEntry, HoldBatch, HoldState

IOS, ANDROID, WINDOWS, WEB = 1 << 1, 1 << 2, 1 << 3, 1 << 5
"""Masks of single platforms."""


class ManualClock:
    """A clock that moves when told."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.now_ms = now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms

    def unix_ms(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms


class RecordingMeter:
    """Remembers what was counted, by name."""

    def __init__(self) -> None:
        self.renewals: list[bool] = []
        self.batches: list[tuple[int, int, bool]] = []
        """(lane, users, whether it went well)"""
        self.gaps = 0
        self.lost: list[str] = []
        self.repairs = Counter[str]()
        """Users, by sign."""
        self.online = 0
        self.offline = 0
        self.frames = 0
        self.merged = 0
        self.hits = 0
        self.misses = 0

    def connections(self, opened: int, closed: int) -> None:
        pass

    def refused(self, reason: str) -> None:
        pass

    def closing(self, reason: str) -> None:
        pass

    def turned_away(self, port: str, reason: str) -> None:
        pass

    def changes(self, online: int, offline: int) -> None:
        self.online += online
        self.offline += offline

    def query(self, method: str, outcome: str, seconds: float) -> None:
        pass

    def batch(self, lane: int, users: int, waited_ms: float, took_ms: float, *, ok: bool) -> None:
        assert waited_ms >= 0
        assert took_ms >= 0
        self.batches.append((lane, users, ok))

    def store_read(self, operation: str, outcome: str, seconds: float) -> None:
        pass

    def renewal(self, *, ok: bool) -> None:
        self.renewals.append(ok)

    def lookups(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses

    def feed_gap(self) -> None:
        self.gaps += 1

    def repaired(self, sign: str, users: int) -> None:
        self.repairs[sign] += users

    def pushed(self, frames: int, merged: int) -> None:
        self.frames += frames
        self.merged += merged

    def hook(self, outcome: str) -> None:
        pass

    def projected(self, users: int, *, ok: bool) -> None:
        pass

    def feed_lost(self, role: str) -> None:
        self.lost.append(role)


def hold_batch(
    holder: str,
    seq: int,
    states: Mapping[str, int] | Iterable[tuple[str, int]],
    *,
    lane: int = 0,
    op_id: str = "op",
    cause: Cause = Cause(),  # noqa: B008 - immutable
) -> HoldBatch:
    """A gateway's write of (user, mask) pairs."""
    pairs = states.items() if isinstance(states, Mapping) else states
    return HoldBatch(holder, lane, seq, op_id, tuple(HoldState(user_id, mask, cause) for user_id, mask in pairs))


def fold(entries: Iterable[FeedEntry]) -> dict[str, int]:
    """The users online after all these entries; checks that each change starts where the user's last one ended."""
    masks: dict[str, int] = {}
    for entry in entries:
        for change in entry.changes:
            assert masks.get(change.user_id, 0) == change.before
            masks[change.user_id] = change.after
    return {user_id: mask for user_id, mask in masks.items() if mask}


def changes_of(entries: Iterable[FeedEntry], user_id: str) -> list[Change]:
    """One user's changes, in order."""
    return [change for entry in entries for change in entry.changes if change.user_id == user_id]
