"""Interest routing, simulated and counted: what it would send, beside the feed as it is.

Today every gateway hears every change. With interest routing, routers follow the feed, each that of
some partitions; a gateway tells them whom it watches, and hears of these users only, in one message
a router and tick. Nothing is sent here: users come, go and watch, and messages and bytes are counted.

What a gateway hears depends on how many gateways there are and on who watches whom, hardly on the
number of users at each. So one simulated user stands for `scale` users, and a tick is as many times
as long: as many changes fall in it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from bench.routers import Counts, Routers

COPIES: Final = 2
"""Each partition is followed by a router and its stand-by."""

PARTITIONS: Final = 64
GATEWAYS_A_ROUTER: Final = 16
FEWEST_ROUTERS: Final = 2

DICT_SLOT: Final = 48
"""Bytes of a dict a key, about: 24 for the key's entry, its index, and room to grow by half."""


@dataclass(frozen=True)
class Wire:
    """Bytes, without those of TCP and IP. An entry and a change in it are measured; the rest is how it could be."""

    entry: float
    change: float
    version: float = 8
    head: float = 24
    """Of a message between router and gateway: the router's incarnation, the sequence number, lengths."""
    interest: float = 12
    """To begin or end watching a user: its ID of ten digits, its length, and which of the two."""

    @property
    def item(self) -> float:
        """A change, as a router tells it: each has its own version, since a gateway is not told of all."""
        return self.change + self.version


@dataclass(frozen=True)
class World:
    """Who is there. Times are in seconds; `per_gateway` users are online at each, of whom each stands for `scale`."""

    gateways: int
    watch_list: int
    who: str = "uniform"
    """Whom users watch: `uniform` anyone; `popular` half of it among one user in a hundred; `communities` nine in
    ten near themselves in a community of two and a half lists."""
    placed: bool = False
    """Whether the users of a community connect to the same gateway; otherwise anywhere."""
    online_share: float = 0.3
    session_s: float = 1_800
    per_gateway: int = 200
    scale: int = 250
    tick_s: float = 0.005
    linger_s: float = 60
    """How long a gateway goes on being told of a user whom nobody watches there any more."""

    @property
    def online(self) -> int:
        """Simulated users online."""
        return self.gateways * self.per_gateway

    @property
    def users(self) -> int:
        """Simulated users."""
        return round(self.online / self.online_share)

    @property
    def community(self) -> int:
        """Users of one."""
        return self.watch_list * 5 // 2

    @property
    def routers(self) -> int:
        """How many share the partitions."""
        return max(FEWEST_ROUTERS, self.gateways // GATEWAYS_A_ROUTER)

    def watched_by(self, user: int) -> set[int]:
        """The users on a user's list, the same each time."""
        random = Random(user)
        far, near = self.watch_list, set[int]()
        among = self.users
        if self.who == "communities":
            far = self.watch_list // 10
            first = user // self.community * self.community
            size = min(self.community, self.users - first)
            near = {first + (user + step) % size for step in range(1, self.watch_list - far + 1)}
        elif self.who == "popular":
            far = self.watch_list // 2
            near = {draw % max(among // 100, 1) for draw in _draws(random, self.watch_list - far)}
        return near | {draw % among for draw in _draws(random, far)}

    def gateway_for(self, user: int, random: Random) -> int:
        """Where a user connects."""
        return user // self.community % self.gateways if self.placed else random.randrange(self.gateways)


@dataclass(frozen=True)
class Traffic:
    """What a world comes to, a second."""

    world: World
    counts: Counts
    took_s: float
    interests: int
    known: int

    @property
    def online(self) -> int:
        """Users for whom the simulated ones stand."""
        return self.world.online * self.world.scale

    def per_s(self, counted: float) -> float:
        """What was counted, a second and for all users."""
        return counted / self.took_s * self.world.scale

    @property
    def changes(self) -> float:
        """Changes a second: also what a gateway hears today."""
        return self.per_s(self.counts.changes)

    @property
    def plain_messages(self) -> float:
        """Out of the store today, each an entry: every gateway is sent every one."""
        return self.changes * self.world.gateways

    @property
    def told_gateways(self) -> float:
        """Gateways that are told of a change."""
        return self.counts.told_items / self.counts.changes

    @property
    def heard(self) -> float:
        """Changes that a gateway hears a second, routed."""
        return self.per_s(self.counts.told_items) / self.world.gateways

    @property
    def store_messages(self) -> float:
        """Out of the store, routed."""
        return self.changes * COPIES

    @property
    def told_messages(self) -> float:
        """From routers to gateways, with what versions they have reached, each second."""
        return self.per_s(self.counts.told_messages) + self.beats

    @property
    def beats(self) -> float:
        """Of these, those that tell of versions only."""
        return self.world.gateways * self.world.routers * COPIES

    @property
    def asked_messages(self) -> float:
        """From gateways to routers, each to the stand-by too and each answered."""
        return self.per_s(self.counts.asked_messages) * COPIES * 2

    def plain_bytes(self, wire: Wire) -> float:
        """Out of the store today."""
        return self.plain_messages * wire.entry

    def store_bytes(self, wire: Wire) -> float:
        """Out of the store, routed."""
        return self.store_messages * wire.entry

    def told_bytes(self, wire: Wire) -> float:
        """From routers to gateways."""
        versions = self.beats * PARTITIONS / self.world.routers
        items = self.per_s(self.counts.told_items)
        return self.told_messages * wire.head + versions * wire.version + items * wire.item

    def asked_bytes(self, wire: Wire) -> float:
        """From gateways to routers and their stand-bys, and back."""
        return self.asked_messages * wire.head + self.per_s(self.counts.asked_items) * COPIES * wire.interest

    def routed_bytes(self, wire: Wire) -> float:
        """In all, routed."""
        return self.store_bytes(wire) + self.told_bytes(wire) + self.asked_bytes(wire)

    @property
    def router_bytes(self) -> float:
        """Memory of one router: a text and a set of bits for each user whom it knows."""
        gateways = self.world.gateways
        each = sys.getsizeof("4000000000") + sys.getsizeof(1 << gateways) + DICT_SLOT
        return self.known * self.world.scale / self.world.routers * each


def simulate(world: World, sessions: int = 2_000, least_s: float = 60, seed: int = 1) -> Traffic:
    """Let so many sessions begin and end, for so long at least, and count once watching can have ended."""
    random = Random(seed)
    routers = Routers(world.gateways, world.routers, world.users, world.linger_s)
    everyone = list(range(world.users))
    random.shuffle(everyone)
    online, offline = everyone[: world.online], everyone[world.online :]
    place: dict[int, int] = {}

    def watch(user: int) -> None:
        gateway = place[user] = world.gateway_for(user, random)
        routers.watch(gateway, world.watched_by(user))

    for user in online:
        watch(user)
    tick_s = world.tick_s * world.scale
    rate = 2 * world.online / world.session_s
    begin_s = world.linger_s + tick_s
    end_s = begin_s + max(least_s, 2 * sessions / rate)
    now_s, next_s, counting, connects = 0.0, tick_s, False, True
    while now_s < end_s:
        now_s += random.expovariate(rate)
        while next_s <= now_s:
            routers.tick(next_s)
            if not counting and next_s >= begin_s:
                routers.counts, counting, begin_s = Counts(), True, next_s
            next_s += tick_s
        user = _taken(random, offline if connects else online)
        if connects:
            online.append(user)
            watch(user)
        else:
            offline.append(user)
            routers.unwatch(place.pop(user), world.watched_by(user), now_s)
        routers.change(user)
        connects = not connects
    routers.tick(now_s)
    return Traffic(world, routers.counts, now_s - begin_s, routers.interests, routers.known)


def _taken(random: Random, users: list[int]) -> int:
    at = random.randrange(len(users))
    users[at], users[-1] = users[-1], users[at]
    return users.pop()


def _draws(random: Random, how_many: int) -> memoryview:
    return memoryview(random.randbytes(4 * how_many)).cast("I")


SIZES: Final = (4, 16, 64, 200)
LISTS: Final = (20, 200)
CASES: Final = (("uniform", False), ("popular", False), ("communities", True))


def worlds() -> Iterator[World]:
    """Those of the page."""
    for watch_list in LISTS:
        for who, placed in CASES:
            for gateways in SIZES:
                yield World(gateways, watch_list, who, placed)
    yield World(64, LISTS[0], "communities")
