"""What a seed decides beforehand: how large the world is, what its clients do, which faults come when.

A plan is a value, so that a failing run can be repeated with fewer faults. What it does
not fix, such as how long each message takes, is drawn as the run goes, from the same seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from adsum.core.writer import WriterOptions
from adsum.domain.login import LoginPolicy
from adsum.service.keeper import KeeperOptions
from adsum.testing.network import Weather
from adsum.testing.node import NodeOptions


class Act(Enum):
    """What a client or an API caller does."""

    CONNECT = "connect"
    LEAVE = "leave"
    BLINK = "blink"  # connect, and leave within milliseconds
    MOVE = "move"  # to another gateway, opening there before or after closing here
    WATCH = "watch"
    UNWATCH = "unwatch"
    SUBSCRIBE = "subscribe"  # by the API
    CANCEL = "cancel"
    SET = "set"
    UNSET = "unset"
    QUERY = "query"
    STALL = "stall"  # read nothing for a while


class Ill(Enum):
    """What goes wrong."""

    CRASH = "crash"  # a node is killed; another comes in its place
    STOP = "stop"  # a node is told to stop, as for an upgrade
    PAUSE = "pause"  # SIGSTOP, SIGCONT
    CUT = "cut"  # between a node and a server: one way or both
    OUTAGE = "outage"  # a server answers nobody
    STORM = "storm"  # messages get lost, doubled, late, out of order: everywhere
    SQUALL = "squall"  # the same between one node and one server
    LOSE = "lose"  # a server comes back empty
    FALL_BACK = "fall back"  # a replica takes over without the last writes
    STEP = "step"  # a server's clock jumps
    WALL = "wall"  # the wall clock of a node jumps
    HOOKS = "hooks"  # the receiver of a node's webhooks is down


@dataclass(frozen=True, slots=True)
class Operation:
    """One act at a time; `picks` choose who and where among those who are there then."""

    at_s: float
    act: Act
    picks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when, how long, where (`node`, `server`), and how much (`amount` in [0, 1))."""

    at_s: float
    for_s: float
    ill: Ill
    node: int
    server: int
    amount: float

    def __str__(self) -> str:
        where = f"node {self.node} server {self.server} amount {self.amount:.2f}"
        return f"{self.at_s:.3f} s: {self.ill.value} for {self.for_s:.3f} s, {where}"


@dataclass(frozen=True, slots=True)
class Size:
    """How large and how fast the world is."""

    nodes: int
    servers: int
    partitions: int
    users: int
    history: int
    timed_ttl_ms: int
    node: NodeOptions
    fair: Weather
    rough: Weather


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it. Nothing new happens from `quiet_s` on, but that `flooders` go on until they are told to go."""

    seed: int
    size: Size
    operations: Sequence[Operation]
    faults: Sequence[Fault]
    quiet_s: float
    flooders: int = 0


_ACTS = {
    Act.CONNECT: 30,
    Act.LEAVE: 18,
    Act.BLINK: 5,
    Act.MOVE: 12,
    Act.WATCH: 16,
    Act.UNWATCH: 3,
    Act.SUBSCRIBE: 4,
    Act.CANCEL: 1,
    Act.SET: 8,
    Act.UNSET: 3,
    Act.QUERY: 20,
    Act.STALL: 2,
}
MAX_FAULTS = 6


def make_plan(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(f"plan {seed}")
    size = _size(chance)
    acts_s = chance.uniform(3, 9)
    picks = [chance.choices(list(_ACTS), list(_ACTS.values()))[0] for _ in range(chance.randint(50, 150))]
    # Some things happen at the same moment, many soon after each other.
    moments = [chance.uniform(0.2, acts_s) for _ in range(chance.randint(len(picks) // 4, len(picks)))]
    operations = [
        Operation(
            chance.choice(moments) + chance.choice((0, 0.0005, 0.003, 0.05)) * chance.random(),
            act,
            tuple(chance.randrange(1 << 16) for _ in range(6)),
        )
        for act in picks
    ]
    faults = _faults(chance, size, acts_s)
    ends_s = [acts_s + 0.3, *(fault.at_s + fault.for_s for fault in faults)]
    return Plan(seed, size, sorted(operations, key=lambda operation: operation.at_s), faults, max(ends_s))


def _size(chance: Random) -> Size:
    lease_ms = chance.choice((4_000, 6_000, 6_000, 9_000))
    servers = chance.choice((1, 1, 1, 2))
    writer = WriterOptions(chance.randint(1, 3), chance.choice((2, 5, 100)), 20, chance.choice((200, 1_000)))
    most_ms = chance.choice((1, 5, 20, 60))
    return Size(
        nodes=chance.choice((2, 2, 3, 3, 4)),
        servers=servers,
        partitions=servers * chance.randint(1, 2),
        users=chance.randint(5, 25),
        history=chance.choice((4, 30, 1_000)),
        timed_ttl_ms=chance.choice((2_000, 5_000)),
        node=NodeOptions(
            writer=writer,
            keeper=KeeperOptions(lease_ms, chance.choice((500, 1_000))),
            policy=chance.choice(list(LoginPolicy)),
            flush_max_wait_ms=chance.choice((300, 1_000)),
            look_interval_ms=chance.choice((300, 1_000)),
            store_timeout_ms=500,
            hook_most_s=chance.choice((0.02, 0.6)),
            query_cache_users=chance.choice((0, 3, 1_000)),
        ),
        fair=Weather(0.2, most_ms),
        rough=Weather(
            0.2,
            most_ms * 2,
            lost=chance.choice((0.05, 0.3)),
            doubled=chance.choice((0, 0.2)),
            late=chance.choice((0, 0.2)),
            late_ms=chance.choice((200, 1_500)),
            overtaking=chance.choice((0, 0.3)),
        ),
    )


def _faults(chance: Random, size: Size, acts_s: float) -> list[Fault]:
    """A few faults, of only some kinds: where everything is mixed, each hides what the other would show."""
    ills = chance.sample(list(Ill), chance.randint(1, 4))
    lease_s = size.node.keeper.lease_ttl_ms / 1000
    faults = []
    for _ in range(chance.randint(0, MAX_FAULTS)):
        longest_s = chance.choice((0.05, lease_s / 5, lease_s / 3, lease_s / 2, lease_s * 1.4))
        faults.append(
            Fault(
                chance.uniform(0.1, acts_s),
                chance.uniform(0.2, 1) * longest_s,
                chance.choice(ills),
                chance.randrange(size.nodes),
                chance.randrange(size.servers),
                chance.random(),
            )
        )
    return sorted(faults, key=lambda fault: fault.at_s)
