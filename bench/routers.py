"""The routers of the simulation of interest routing: what they know, and what is said between them and gateways.

Invariant: a gateway is told of every change of a user whom somebody watches there.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass
class Counts:
    """Of everything that was sent. Items are users told of, or whom watching begins or ends."""

    changes: int = 0
    told_items: int = 0
    told_messages: int = 0
    asked_items: int = 0
    asked_messages: int = 0


@dataclass
class Routers:
    """What routers know, and what they and the gateways say to each other."""

    gateways: int
    routers: int
    users: int
    linger_s: float
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        # By user x gateways + gateway: how many watch there, and whether the router tells there.
        self._watchers = array("H", bytes(2 * self.users * self.gateways))
        self._told = bytearray(self.users * self.gateways)
        self._ending: deque[tuple[float, int]] = deque()
        self._telling: set[int] = set()
        self._asking: set[int] = set()

    def watch(self, gateway: int, users: Iterable[int]) -> None:
        """Somebody at a gateway begins to watch these users."""
        # Written out, as is the next one: it is done ten million times.
        watchers, told, gateways, routers = self._watchers, self._told, self.gateways, self.routers
        asked, asking = 0, self._asking
        for user in users:
            at = user * gateways + gateway
            watchers[at] += 1
            if not told[at]:
                told[at] = 1
                asked += 1
                asking.add(user % routers * gateways + gateway)
        self.counts.asked_items += asked

    def unwatch(self, gateway: int, users: Iterable[int], now_s: float) -> None:
        """Somebody at a gateway watches these users no longer."""
        for user in users:
            at = user * self.gateways + gateway
            self._watchers[at] -= 1
            if not self._watchers[at]:
                self._ending.append((now_s + self.linger_s, at))

    def change(self, user: int) -> None:
        """A user's platforms change."""
        self.counts.changes += 1
        for gateway in self.told_of(user):
            self.counts.told_items += 1
            self._telling.add(user % self.routers * self.gateways + gateway)

    def told_of(self, user: int) -> Iterator[int]:
        """The gateways that are told of a user."""
        first = user * self.gateways
        at = self._told.find(1, first, first + self.gateways)
        while at >= 0:
            yield at - first
            at = self._told.find(1, at + 1, first + self.gateways)

    def tick(self, now_s: float) -> None:
        """Send what has gathered, and end what was watched long ago."""
        while self._ending and self._ending[0][0] <= now_s:
            _, at = self._ending.popleft()
            if self._told[at] and not self._watchers[at]:
                self._told[at] = 0
                user, gateway = divmod(at, self.gateways)
                self.counts.asked_items += 1
                self._asking.add(user % self.routers * self.gateways + gateway)
        self.counts.told_messages += len(self._telling)
        self.counts.asked_messages += len(self._asking)
        self._telling.clear()
        self._asking.clear()

    @property
    def interests(self) -> int:
        """Pairs of user and gateway that routers keep."""
        return self._told.count(1)

    @property
    def known(self) -> int:
        """Users whom a router knows, because somebody watches them."""
        firsts = range(0, len(self._told), self.gateways)
        return sum(1 for first in firsts if self._told.find(1, first, first + self.gateways) >= 0)
