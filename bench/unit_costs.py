"""The unit costs that the capacity model multiplies out, as `make bench` measured them.

Times are in microseconds of CPU, memory in bytes. Each is the median of its windows: how many machines
are needed depends on what they mostly do, not on their best second.
"""

from dataclasses import dataclass
from typing import Final

from bench.record import Results

ASKED: Final = 100
"""Users in a query whose cost was measured."""

BASE_CONNECTIONS: Final = 10_000


class Missing(Exception):
    """A figure was not measured; the message says how it is."""


@dataclass(frozen=True)
class Line:
    """A cost that grows evenly: `base` and as much again for each `each`."""

    base: float
    each: float

    def at(self, number: float) -> float:
        """The cost with so many."""
        return self.base + self.each * number


@dataclass(frozen=True)
class Costs:
    """Unit costs, microseconds and bytes. `publish` is Redis's, by subscribers; `upkeep` a node's a second, by nodes.

    `publish` has the whole script that writes a change. `hear` and `publish` are each one that comes apart from others,
    and one that comes together with others.
    """

    connect: float
    disconnect: float
    ping: float
    push: float
    ask: float
    ask_redis: float
    set: float
    idle_share: float
    base_bytes: float
    connection_bytes: float
    watch_bytes: float
    further_watch_bytes: float
    user_bytes: float
    entry_bytes: float
    change_bytes: float
    hear_apart: float
    hear_together: float
    publish_apart: Line
    publish_together: Line
    upkeep: Line


def read_costs(results: Results) -> Costs:
    """The unit costs among these results; raises `Missing`."""

    def value(name: str) -> float:
        figure = results.figures.get(name)
        if figure is None:
            part = name.partition(".")[0]
            raise Missing(
                f"{name} is not among the results ({results.why_missing(name)}): `make bench` measures it, or "
                f"`python -m bench {part} --out DIR` this part alone"
            )
        return figure.median

    def line(before: str) -> Line:
        sizes = sorted(
            int(size)
            for name in results.figures
            if (size := name.removeprefix(before).removesuffix(".redis_us")).isdecimal()
        )
        if len(sizes) < 2:
            raise Missing(f"{before}*.redis_us is not among the results for two sizes: `make bench` measures it")
        low, high = (value(f"{before}{size}.redis_us") for size in (sizes[0], sizes[-1]))
        each = max(high - low, 0) / (sizes[-1] - sizes[0])
        return Line(max(low - each * sizes[0], 0), each)

    crowd = f"connections.redis.{BASE_CONNECTIONS}"
    connection_bytes = value(f"{crowd}.bytes")
    filled = results.costs[f"{crowd}.connect"].service_bytes
    entry, larger = value("feed.wire.1.bytes"), value("feed.wire.100.bytes")
    return Costs(
        connect=value(f"{crowd}.connect.service_us"),
        disconnect=value(f"{crowd}.disconnect.service_us"),
        ping=value(f"{crowd}.pinged.service_us"),
        push=value("latency.redis.100.push.service_us"),
        ask=value(f"users.redis.cold.{ASKED}.32.service_us") / ASKED,
        ask_redis=value(f"users.redis.cold.{ASKED}.32.redis_us") / ASKED,
        set=value("writes.redis.many.32.service_us"),
        idle_share=value(f"{crowd}.idle.percent") / 100,
        base_bytes=max(filled - BASE_CONNECTIONS * connection_bytes, 0),
        connection_bytes=connection_bytes,
        watch_bytes=value("feed.watch.first.bytes"),
        further_watch_bytes=value("feed.watch.further.bytes"),
        user_bytes=value("redis.ours.bytes"),
        entry_bytes=entry,
        change_bytes=(larger - entry) / 99,
        hear_apart=value("feed.node.apart.1.service_us"),
        hear_together=value("feed.node.together.1.service_us"),
        publish_apart=line("feed.publish.apart."),
        publish_together=line("feed.publish.together."),
        upkeep=line("feed.upkeep."),
    )
