"""Where a follower of the feed stands in each partition, and whether it missed something.

Invariants: a follower that applies what `admit` accepts, and after a hole what it
fetched, has seen every entry up to the cursor exactly once and in order. In a partition
that is not `doubtful`, the cursor is where the store was when it was last looked at, or
further.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from adsum.domain.presence import FeedEntry


class Verdict(Enum):
    """What to do with an entry that arrived."""

    NEXT = "next"  # apply it
    KNOWN = "known"  # seen before: ignore it
    HOLE = "hole"  # something before it is missing: catch up
    HELD = "held"  # a catch-up is under way and will bring it: ignore it


@dataclass(frozen=True, slots=True)
class Findings:
    """Partitions to catch up with, and partitions whose past is another than the one seen."""

    holes: tuple[int, ...]
    restarts: tuple[int, ...]


class FeedCursor:
    """The last version seen of each partition."""

    def __init__(self, versions: Sequence[int]) -> None:
        self._versions = list(versions)
        self._newest = list(versions)
        self._looked = list(versions)
        self._behind = [False] * len(versions)
        self.doubtful: set[int] = set()
        """Partitions that catch up, or whose entries, seen in the store, have not arrived."""

    def admit(self, entry: FeedEntry) -> Verdict:
        """Judge an entry; `NEXT` moves the cursor, `HOLE` starts a catch-up of its partition."""
        partition = entry.partition
        seen = self._versions[partition]
        if entry.version <= seen:
            return Verdict.KNOWN
        if self._behind[partition]:
            self._newest[partition] = max(self._newest[partition], entry.version)
            return Verdict.HELD
        if entry.before == seen:
            self._versions[partition] = entry.version
            if self.doubtful:
                self._judge(partition)
            return Verdict.NEXT
        self._fall_behind(partition, entry.version)
        return Verdict.HOLE

    def version(self, partition: int) -> int:
        """The last version seen."""
        return self._versions[partition]

    def versions(self) -> list[int]:
        """The last version seen of every partition, to be given to `look` with what the store answers."""
        return list(self._versions)

    def look(self, seen: Sequence[int], found: Sequence[int]) -> Findings:
        """Compare with the versions `found` in the store, asked for when `seen` was the cursor.

        The last entry of all may be lost, with none after it to show the hole: a version
        that was found by the last look too, and has not arrived since, is one. A version
        below what was seen is another past: a store that came back empty or older. Both
        start a catch-up.
        """
        holes, restarts = [], []
        for partition, version in enumerate(found):
            if self._behind[partition]:
                continue
            if version < seen[partition]:
                self._fall_behind(partition, version)
                restarts.append(partition)
            elif self._looked[partition] > self._versions[partition]:
                self._fall_behind(partition, version)
                holes.append(partition)
        self._looked = list(found)
        for partition in range(len(found)):
            self._judge(partition)
        return Findings(tuple(holes), tuple(restarts))

    def advance(self, partition: int, version: int) -> bool:
        """Note a catch-up to `version`; True if that is all there is, and the feed goes on from there."""
        self._versions[partition] = version
        self._behind[partition] = version < self._newest[partition]
        self._judge(partition)
        return not self._behind[partition]

    def forget_told(self, partition: int) -> None:
        """Forget which versions were told of: the store, asked, has none of them after the cursor.

        They went with a past that the store has lost. Waiting for them would have no end.
        """
        self._newest[partition] = self._versions[partition]

    @property
    def behind(self) -> int:
        """How many partitions are catching up."""
        return sum(self._behind)

    def _fall_behind(self, partition: int, newest: int) -> None:
        self._newest[partition] = newest
        self._behind[partition] = True
        self._judge(partition)

    def _judge(self, partition: int) -> None:
        if self._behind[partition] or self._versions[partition] < self._looked[partition]:
            self.doubtful.add(partition)
        else:
            self.doubtful.discard(partition)
