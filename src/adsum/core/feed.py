"""Where a follower of the feed stands in each partition, and whether it missed something.

Invariant: a follower that applies what `admit` accepts, and after a hole what it
fetched, has seen every entry up to the cursor exactly once and in order.
"""

from enum import Enum

from adsum.domain.presence import FeedEntry


class Verdict(Enum):
    """What to do with an entry that arrived."""

    NEXT = "next"  # apply it
    KNOWN = "known"  # seen before: ignore it
    HOLE = "hole"  # something before it is missing: catch up
    HELD = "held"  # a catch-up is under way and will bring it: ignore it


class FeedCursor:
    """The last version seen of each partition."""

    def __init__(self, versions: list[int]) -> None:
        self._versions = versions
        self._newest = list(versions)
        self._behind = [False] * len(versions)

    def admit(self, entry: FeedEntry) -> Verdict:
        """Judge an entry; `NEXT` moves the cursor, `HOLE` starts a catch-up of its partition."""
        partition = entry.partition
        seen = self._versions[partition]
        if entry.version <= seen:
            return Verdict.KNOWN
        self._newest[partition] = max(self._newest[partition], entry.version)
        if self._behind[partition]:
            return Verdict.HELD
        if entry.version == seen + 1:
            self._versions[partition] = entry.version
            return Verdict.NEXT
        self._behind[partition] = True
        return Verdict.HOLE

    def version(self, partition: int) -> int:
        """The last version seen."""
        return self._versions[partition]

    def advance(self, partition: int, version: int) -> bool:
        """Note a catch-up up to `version`; True if that is all there is, and the feed goes on from there."""
        self._versions[partition] = max(version, self._versions[partition])
        self._behind[partition] = self._versions[partition] < self._newest[partition]
        return not self._behind[partition]

    @property
    def behind(self) -> int:
        """How many partitions are catching up."""
        return sum(self._behind)
