"""How many gateways and Redis masters so many users take, from measured unit costs.

Pure functions. Times are in microseconds of CPU, memory in bytes; "cores" are CPU seconds a second.

What arrives together shares a trip through the kernel and a turn of the event loop. With `apart` the
cost of one that comes alone and `together` that of one among many, each costs `together`, and each
turn `apart - together`; while a turn's extra cost is paid, further ones arrive and go along. So the
turns take x / (1 + x) cores, x being what they would take if each had one of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from math import exp
from typing import Final

from bench.interest import COPIES
from bench.unit_costs import ASKED, Costs

MOST_GATEWAYS: Final = 10_000_000
FEWEST_USERS: Final = 1_000.0
MOST_USERS: Final = 10.0**11


@dataclass(frozen=True)
class Load:
    """What users do. A connection each; `watched_online` is the share of those on a watch list who are online."""

    users: float
    session_min: float = 30
    watch_list: float = 20
    watched_online: float = 0.3
    device_changes_per_hour: float = 0.5
    queries_per_hour: float = 1
    sets_per_hour: float = 0.1
    ping_s: float = 24

    @property
    def connects_per_s(self) -> float:
        """And as many disconnects: of sessions, and of further devices."""
        return self.users * (1 / (self.session_min * 60) + self.device_changes_per_hour / 2 / 3_600)

    @property
    def sets_per_s(self) -> float:
        """Statuses set by calls."""
        return self.users * self.sets_per_hour / 3_600

    @property
    def changes_per_s(self) -> float:
        """Entries of the feed: each of one change, since gateways write at once what does not come at once."""
        return 2 * self.connects_per_s + self.sets_per_s

    @property
    def pushes_per_s(self) -> float:
        """A user is on as many lists as there are users on one; so many of those who have them are online."""
        return self.changes_per_s * self.watch_list * self.watched_online

    @property
    def asked_per_s(self) -> float:
        """Users asked for: lists when sessions begin, and queries."""
        return self.connects_per_s * self.watch_list + self.users * self.queries_per_hour / 3_600 * ASKED

    @property
    def everyone(self) -> float:
        """Users, online or not, of whom lists are made."""
        return self.users / self.watched_online


@dataclass(frozen=True)
class Machines:
    """What there is to use. A gateway is a process with a core, a master one with a core; each has a network port."""

    utilisation: float = 0.5
    gateway_bytes: float = 4e9
    master_bytes: float = 16e9
    port_bits_per_s: float = 10e9
    masters: int = 64
    """At most: the partitions, a setting."""


@dataclass(frozen=True)
class Sizing:
    """What a load takes; None where no number is enough. `masters_by` cause, each as if it were the only one."""

    gateways_by_cpu: int | None
    gateways_by_memory: int | None
    feed_share: float
    """Of what a gateway may use of its core, for hearing the feed."""
    heard_per_s: float
    feed_in_bits_per_s: float
    masters_by: Mapping[str, int | None]
    masters: int | None
    feed_out_bits_per_s: float

    @property
    def gateways(self) -> int | None:
        """As many as both need."""
        if self.gateways_by_cpu is None or self.gateways_by_memory is None:
            return None
        return max(self.gateways_by_cpu, self.gateways_by_memory)


def cores(per_s: float, apart_us: float, together_us: float) -> float:
    """What so many a second take; see the module's text."""
    turns = per_s * max(apart_us - together_us, 0) / 1e6
    return per_s * together_us / 1e6 + turns / (1 + turns)


def least(fits: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 1 that fits, where each larger one does too; None if not even `most` does."""
    if not fits(most):
        return None
    low, high = 0, 1
    while not fits(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def watched_share(load: Load, gateways: float) -> float:
    """The share of all users whom somebody watches at a gateway, where lists are drawn from everyone alike."""
    return 1 - exp(-load.users / gateways * load.watch_list / load.everyone)


def heard_per_s(load: Load, gateways: float, *, routed: bool) -> float:
    """Changes that each gateway hears."""
    return load.changes_per_s * (watched_share(load, gateways) if routed else 1)


def work_of_users(load: Load, costs: Costs) -> float:
    """Cores of all gateways together, but for the feed and for being there."""
    return (
        load.connects_per_s * (costs.connect + costs.disconnect)
        + load.users / load.ping_s * costs.ping
        + load.pushes_per_s * costs.push
        + load.asked_per_s * costs.ask
        + load.sets_per_s * costs.set
    ) / 1e6


def gateway_bytes(load: Load, gateways: float, costs: Costs) -> float:
    """Memory of each."""
    connections = load.users / gateways
    watches = connections * load.watch_list
    watched = load.everyone * watched_share(load, gateways)
    return (
        costs.base_bytes
        + connections * costs.connection_bytes
        + watched * costs.watch_bytes
        + (watches - watched) * costs.further_watch_bytes
    )


def size(load: Load, machines: Machines, costs: Costs, *, routed: bool = False) -> Sizing:
    """What a load takes."""

    def feed_cores(gateways: float) -> float:
        return cores(heard_per_s(load, gateways, routed=routed), costs.hear_apart, costs.hear_together)

    def cpu_suffices(gateways: int) -> bool:
        used = work_of_users(load, costs) / gateways + feed_cores(gateways) + costs.idle_share
        return used <= machines.utilisation

    by_cpu = least(cpu_suffices, MOST_GATEWAYS)
    by_memory = least(lambda number: gateway_bytes(load, number, costs) <= machines.gateway_bytes, MOST_GATEWAYS)
    gateways = None if by_cpu is None or by_memory is None else max(by_cpu, by_memory)
    # Where no number is enough, what it would be with as many as memory needs is still worth knowing.
    counted = gateways or by_memory or 1
    heard = heard_per_s(load, counted, routed=routed)
    causes = _masters_suffice(load, machines, costs, counted, routed=routed)
    by = {cause: least(fits, machines.masters) for cause, fits in causes}
    return Sizing(
        by_cpu,
        by_memory,
        feed_cores(counted) / machines.utilisation,
        heard,
        heard * (costs.change_bytes if routed else costs.entry_bytes) * 8,
        by,
        by["all"],
        load.changes_per_s * _subscribers(counted, routed=routed) * costs.entry_bytes * 8,
    )


def _subscribers(gateways: int, *, routed: bool) -> int:
    return COPIES if routed else gateways


def _masters_suffice(
    load: Load, machines: Machines, costs: Costs, gateways: int, *, routed: bool
) -> list[tuple[str, Callable[[int], bool]]]:
    """By cause, whether so many masters are enough for it; at last for all."""
    subscribers, changes = _subscribers(gateways, routed=routed), load.changes_per_s
    apart, together = costs.publish_apart, costs.publish_together
    # Every node asks; one of them, each moment, looks through the leases of all.
    upkeep = (gateways * costs.upkeep.at(1) + gateways * costs.upkeep.each) / 1e6
    # Of users whom somebody watches there already a gateway knows.
    asked = load.asked_per_s * (1 - watched_share(load, gateways)) * costs.ask_redis / 1e6
    bits = changes * subscribers * costs.entry_bytes * 8

    def enough(used: Callable[[int], float]) -> Callable[[int], bool]:
        return lambda masters: used(masters) <= machines.utilisation

    def all_fits(masters: int) -> bool:
        published = cores(changes / masters, apart.at(subscribers), together.at(subscribers))
        used = published + (upkeep + asked) / masters
        return used <= machines.utilisation and fits_memory(masters) and fits_port(masters)

    def fits_memory(masters: int) -> bool:
        return load.users * costs.user_bytes / masters <= machines.master_bytes

    def fits_port(masters: int) -> bool:
        return bits / masters <= machines.port_bits_per_s * machines.utilisation

    def fan_out(masters: int) -> float:
        return cores(changes / masters, apart.each * subscribers, together.each * subscribers)

    return [
        ("writes", enough(lambda masters: cores(changes / masters, apart.base, together.base))),
        ("fan-out", enough(fan_out)),
        ("upkeep", enough(lambda masters: upkeep / masters)),
        ("questions", enough(lambda masters: asked / masters)),
        ("memory", fits_memory),
        ("network", fits_port),
        ("all", all_fits),
    ]


def users_until(load: Load, holds: Callable[[Load], bool]) -> float | None:
    """Up to how many users something holds, to three digits; None if with any number."""
    low, high = FEWEST_USERS, MOST_USERS
    if holds(replace(load, users=high)):
        return None
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(replace(load, users=middle)) else (low, middle)
    return low


class Past(Enum):
    """What helps past a limit."""

    MORE_MASTERS = "more masters"
    SEVERAL_MASTERS = "more masters, for several causes at once"
    NOT_NEEDED = "it is only a sign"
    NOTHING = "no number of machines"


@dataclass(frozen=True)
class Limit:
    """Something that holds up to some number of users, and what helps past it."""

    name: str
    holds: Callable[[Sizing, Machines], bool]
    past: Past = Past.MORE_MASTERS


ONE_MASTER: Final = Limit("one master does all of it", lambda found, _: found.masters == 1, Past.SEVERAL_MASTERS)

LIMITS: Final = (
    ONE_MASTER,
    Limit("one master publishes all", lambda found, _: found.masters_by["fan-out"] == 1),
    Limit("one master writes all", lambda found, _: found.masters_by["writes"] == 1),
    Limit("one master does the upkeep of all nodes", lambda found, _: found.masters_by["upkeep"] == 1),
    Limit("one master answers all questions", lambda found, _: found.masters_by["questions"] == 1),
    Limit("one master remembers all", lambda found, _: found.masters_by["memory"] == 1),
    Limit("the feed is a tenth of what a gateway may do", lambda found, _: found.feed_share <= 0.1, Past.NOT_NEEDED),
    Limit("the feed leaves a gateway room for users", lambda found, _: found.gateways is not None, Past.NOTHING),
    Limit("as many masters as partitions are enough", lambda found, _: found.masters is not None, Past.NOTHING),
    Limit(
        "a gateway's port takes the feed",
        lambda found, machines: found.feed_in_bits_per_s <= machines.port_bits_per_s * machines.utilisation,
        Past.NOTHING,
    ),
)


def limits(load: Load, machines: Machines, costs: Costs, *, routed: bool = False) -> dict[Limit, float | None]:
    """Up to how many users each of `LIMITS` holds."""

    def up_to(limit: Limit) -> float | None:
        return users_until(load, lambda more: limit.holds(size(more, machines, costs, routed=routed), machines))

    return {limit: up_to(limit) for limit in LIMITS}
