"""What a consumer of the feed hands to whoever deals with it, and what that must offer."""

from typing import NamedTuple, Protocol

from adsum.core.consuming import Course
from adsum.domain.presence import FeedEntry


class Owner(Protocol):
    """Who owns partitions: the consumer."""

    def owns(self, course: Course) -> bool:
        """Whether this node still owns what a course consumes."""
        ...

    def done(self, course: Course, version: int) -> None:
        """An entry is dealt with."""
        ...


class Owned(NamedTuple):
    """One ownership of a partition, from when it is taken until it is given up or lost."""

    owner: Owner
    course: Course

    @property
    def partition(self) -> int:
        """Which one."""
        return self.course.partition

    @property
    def good(self) -> bool:
        """Whether it lasts; if not, what it is about is another node's to do, and not this one's."""
        return self.owner.owns(self.course)


class Handed(NamedTuple):
    """An entry that a target is to deal with while it is owned."""

    owned: Owned
    entry: FeedEntry

    def done(self) -> None:
        """It is dealt with, for better or worse."""
        self.owned.owner.done(self.owned.course, self.entry.version)


class Target(Protocol):
    """Deals with entries. What it is handed is kept until `done`, so `room` bounds it."""

    @property
    def room(self) -> bool:
        """Whether it takes a further entry now. One that has none must do some of what it has to have some again."""
        ...

    def begin(self, owned: Owned) -> None:
        """A partition is owned from now on."""
        ...

    def take(self, handed: Handed) -> None:
        """Deal with an entry, now or later, and call its `done` once; neither waits nor raises."""
        ...

    def lost(self, owned: Owned, position: int, version: int) -> None:
        """Entries after `position` are no longer kept: the next one handed over comes after `version`."""
        ...
