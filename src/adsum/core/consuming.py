"""What a consumer of the feed knows of a partition it owns: up to where it read, and up to where all is done.

Invariants: entries are handed over in the order of versions, each once for a course;
`done` is the last version before the first entry that was handed over and is not done.
"""

from collections import deque
from collections.abc import Iterable

from adsum.domain.presence import FeedEntry


def fair_share(partitions: int, contenders: int) -> int:
    """The most partitions one of so many contenders owns: no more than it takes for all to be owned."""
    return -(-partitions // max(contenders, 1))


class Course:
    """The consuming of one partition, from `cursor` on; `version` is what the store was at then."""

    def __init__(self, partition: int, cursor: int, version: int) -> None:
        self.partition = partition
        self.position = cursor
        """The version of the last entry handed over."""
        self.done = cursor
        self.behind = version != cursor
        """Whether the next entry has to be fetched from the store, because the feed will not bring it."""
        self.leaves_s: float | None = None
        """When the partition is given up at the latest; None if it is to be kept."""
        self.dropped = False
        """Whether it is this node's no more: what was handed over is not to be done now."""
        self._newest = version
        self._looked = version
        self._handed: deque[int] = deque()
        self._finished: set[int] = set()

    @property
    def clear(self) -> bool:
        """Whether everything handed over is done."""
        return not self._handed

    @property
    def caught_up(self) -> bool:
        """Whether nothing is known of that was not handed over."""
        return self.position >= self._newest

    def follows(self, entry: FeedEntry) -> bool:
        """Whether an entry of the feed is the next to be handed over; `behind` tells if one before it is missing."""
        if entry.version <= self.position:
            return False
        self._newest = max(self._newest, entry.version)
        if not self.behind and entry.before != self.position:
            self.behind = True
        return not self.behind

    def look(self, version: int) -> bool:
        """Compare with the partition's version in the store; whether something is missing.

        One that was there at the last look too, and has not arrived since, is not on its
        way: it was lost, or the store has another past.
        """
        again, self._looked = version == self._looked, version
        return again and self.reach(version)

    def reach(self, version: int) -> bool:
        """Have everything up to this version handed over; whether something is missing."""
        self._newest = max(self._newest, version)
        self.behind = self.behind or version != self.position
        return self.behind

    def hand(self, version: int) -> None:
        """Note an entry handed over."""
        self.position = version
        self._handed.append(version)

    def skip(self, version: int) -> None:
        """Go on after this version: what is between is no longer to be had."""
        self.hand(version)
        self.finish(version)
        self.reach(version)

    def finish(self, version: int) -> None:
        """Note an entry done."""
        self._finished.add(version)
        while self._handed and self._handed[0] in self._finished:
            self.done = self._handed.popleft()
            self._finished.remove(self.done)

    def forget_told(self) -> None:
        """Forget which versions were told of: the store, asked, has none of them. They went with a past it has lost."""
        self._newest = self.position


def excess(owned: Iterable[Course], share: int) -> list[Course]:
    """Those of the partitions kept that are beyond the share."""
    return [course for course in owned if course.leaves_s is None][share:]
