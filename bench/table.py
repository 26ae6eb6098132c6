"""The table of the results: what the original does, quoted, what Adsum aims at, and which figures tell.

The original is OpenIM's user service and gateway, with the store apart; Centrifugo is a second
one of its kind. Their figures were measured once, on a machine with 2 cores, and are quoted as they were.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.record import Results


class Met(StrEnum):
    """Whether an aim is met, as the results show it: by the median, by the best window alone, or not."""

    YES = "yes"
    AT_BEST = "at best"
    NO = "**no**"


@dataclass(frozen=True)
class Aim:
    """A figure, `scale` times, and its bound: at most, or with `least` at least.

    `original` is the original's best figure in the same unit, None where it had none.
    """

    figure: str
    bound: float
    unit: str
    original: float | None = None
    scale: float = 1
    least: bool = False

    def median(self, results: Results) -> float | None:
        """The figure's median over its windows, in the aim's unit."""
        found = results.figures.get(self.figure)
        return None if found is None else found.median * self.scale

    def best(self, results: Results) -> float | None:
        """The figure's best window, in the aim's unit."""
        found = results.figures.get(self.figure)
        return None if found is None else found.best(least=self.least) * self.scale

    def is_met(self, value: float | None) -> bool:
        """Whether there is a value, and it is within the bound."""
        if value is None:
            return False
        return value >= self.bound if self.least else value <= self.bound

    def times_better(self, value: float) -> float | None:
        """How many times as good as the original's best."""
        if self.original is None or not value:
            return None
        return value / self.original if self.least else self.original / value

    def embedded(self) -> "Aim | None":
        """The same with the embedded engine, if it is about an engine."""
        figure = self.figure.replace(".redis.", ".memory.")
        return (
            None if figure == self.figure else Aim(figure, self.bound, self.unit, self.original, self.scale, self.least)
        )


@dataclass(frozen=True)
class Row:
    """One kind of work. `cost` names the phase whose CPU and memory are shown beside it.

    `profile` says where the time goes, as profiles of the parts in one process found; it is
    shown where an aim is missed.
    """

    work: str
    original: str
    aims: tuple[Aim, ...]
    cost: str = ""
    profile: str = ""

    def met(self, results: Results) -> Met:
        """Whether all its aims are."""
        if all(aim.is_met(aim.median(results)) for aim in self.aims):
            return Met.YES
        return Met.AT_BEST if all(aim.is_met(aim.best(results)) for aim in self.aims) else Met.NO


LATENCY_PROFILE: Final = (
    "Of a connect 45 µs are the handshake in Python, 170 to 300 the write to Redis and the feed's way back (measured "
    "alone, on one core and on two). Then one watcher after another is written to: the median is the watcher in the "
    "middle. What a push costs is in the row of that name; the floor is one write to a socket."
)
CONNECT_PROFILE: Final = (
    "Python takes 40 µs from the handshake to the mark that the user must be written, and 32 for a write, which under "
    "load is for several users; the rest is the kernel's, the event loop, and hearing the change from the feed."
)
WRITE_PROFILE: Final = (
    "Alone on a core, Redis takes 400 µs for a call of 100 users: 160 for their 16 partitions, each of which is "
    "changed and told of by itself, the rest for the users. A third of it is in Redis's commands, the rest is Lua. "
    "Left out, the deadlines would save 17 %, the stream 7 %, publishing 6 %. Beside a service its caches are cold, "
    "and it takes a fifth more."
)
COLD_PROFILE: Final = (
    "In one process, without HTTP/2, a cold call takes 21 µs (1 user, 32 in flight), 170 (100 users) and 1,430 (1,000 "
    "users) of the service; the rest is HTTP/2, the kernel's, and caches that the core shares."
)
HOT_PROFILE: Final = (
    "In one process, without sockets, a call takes 15 µs where its header has a deadline of its own, 9 of them HTTP/2; "
    "the rest is the kernel's and the event loop."
)


def _latency(watchers: int, median_ms: float, p99_ms: float) -> tuple[Aim, ...]:
    name = f"latency.redis.{watchers}.all"
    return Aim(f"{name}_median_ms", median_ms, "ms", 500), Aim(f"{name}_p99_ms", p99_ms, "ms", 950)


def _set(
    quantity: str, bounds: tuple[float, ...], originals: tuple[float, ...], in_flight: tuple[int, ...]
) -> tuple[Aim, ...]:
    least, unit, scale = (True, "k users/s", 1e-3) if quantity == "per_s" else (False, "µs", 1.0)
    return tuple(
        Aim(f"writes.redis.many.{flying}.{quantity}", bound, unit, original, scale, least)
        for flying, bound, original in zip(in_flight, bounds, originals, strict=True)
    )


def _asked(users: int, original: str, bounds: tuple[int, int], originals: tuple[int, int]) -> tuple[Row, ...]:
    return tuple(
        Row(
            f"getUserStatus of {users:,} user{'s' if users > 1 else ''}, {kind}, 1 / 32 in flight: calls/s",
            original,
            tuple(
                Aim(f"users.redis.{kind}.{users}.{flying}.per_s", bound, "/s", best, least=True)
                for flying, bound, best in zip((1, 32), bounds, originals, strict=True)
            ),
            f"users.redis.{kind}.{users}.32",
            COLD_PROFILE if kind == "cold" else HOT_PROFILE,
        )
        for kind in ("hot", "cold")
    )


ROWS: Final = (
    Row(
        "from a user's connect or disconnect to a watcher's receipt, over 100 watchers, Redis engine, idle: "
        "median · p99",
        "500 · 950 ms; Centrifugo 1.3 · 2.2 ms",
        _latency(100, 1.3, 3),
        "latency.redis.100.push",
        LATENCY_PROFILE,
    ),
    Row(
        "the same, 1,000 watchers",
        "500 · 950 ms; Centrifugo 7.4 · 12 ms (the limit is 1,000 writes of 7-8 µs)",
        _latency(1_000, 9, 15),
        "latency.redis.1000.push",
        LATENCY_PROFILE,
    ),
    Row(
        "server CPU a push (gob, 1,000 watchers)",
        "16.5 µs",
        (Aim("latency.redis.1000.push.service_us", 12, "µs", 16.5),),
        "latency.redis.1000.push",
    ),
    Row(
        "one client watching 10,000 users who all come online: told of · in frames",
        "cut off after 256 frames",
        (
            Aim("watching.redis.reading.told", 10_000, "users", least=True),
            Aim("watching.redis.reading.frames", 255, "frames"),
        ),
        "watching.redis.reading.burst",
    ),
    Row(
        "the same, if it reads only when all are online",
        "cut off after 256 frames",
        (
            Aim("watching.redis.stalled.told", 10_000, "users", least=True),
            Aim("watching.redis.stalled.frames", 255, "frames"),
        ),
        "watching.redis.stalled.burst",
    ),
    Row(
        "memory a connection (10,000 idle, authenticated, gob)",
        "24-27 KB RSS; Centrifugo 38-53 KB",
        (Aim("connections.redis.10000.bytes", 10, "KB", 24, 1e-3),),
        "connections.redis.10000.connect",
    ),
    Row(
        "server CPU a connect (token checked, registered, written to Redis, told)",
        "90-120 µs, user service and store apart",
        (Aim("connections.redis.10000.connect.service_us", 150, "µs", 90),),
        "connections.redis.10000.connect",
        CONNECT_PROFILE,
    ),
    Row(
        "connections accepted a second, 10,000 at once",
        "6,600-9,000; Centrifugo 5,050-10,500",
        (Aim("connections.redis.10000.accept.per_s", 6_000, "/s", 9_000, least=True),),
        "connections.redis.10000.accept",
        CONNECT_PROFILE,
    ),
    Row(
        "idle CPU at 10,000 connections",
        "0-0.5 %",
        (Aim("connections.redis.10000.idle.percent", 0.5, "%"),),
        "connections.redis.10000.pinged",
    ),
    Row(
        "2004 requests, 50 connections: CPU a request, gob · gob + gzip · JSON",
        "34 · 47 · 13 µs",
        (
            Aim("requests.gob.service_us", 15, "µs", 34),
            Aim("requests.gob-gzip.service_us", 30, "µs", 47),
            Aim("requests.json.service_us", 10, "µs", 13),
        ),
        "requests.gob",
        "Python takes 7.7 µs (gob), 9.9 (gob and gzip) and 5.4 (JSON) from the read to the answer; the rest is the "
        "event loop, and the kernel's for one read and one write a request: 9 µs with JSON. A request comes alone, so "
        "nothing is shared.",
    ),
    Row(
        "setUserOnlineStatus, 100 users a call, every write a change, 1 / 8 / 32 in flight: users/s",
        "8-19k / 33-54k / 36-55k",
        _set("per_s", (60, 120, 120), (19, 54, 55), (1, 8, 32)),
        "writes.redis.many.32",
        "What a user costs is in the two rows below.",
    ),
    Row(
        "— service CPU a user, 1 / 32 in flight",
        "29-62 µs (1 in flight), 17 µs (32)",
        _set("service_us", (8, 8), (29, 17), (1, 32)),
        "",
        "Python takes 4.2 µs a user with one call in flight (decoding, checking, packing by partition, reading the "
        "answers); the rest is the kernel's, hearing the changes from the feed, and code that has left the caches "
        "while Redis and the generator had the core.",
    ),
    Row(
        "— Redis CPU a user, 1 / 32 in flight",
        "50 µs (1 in flight), 17 µs (32)",
        _set("redis_us", (5, 5), (50, 17), (1, 32)),
        "",
        WRITE_PROFILE,
    ),
    Row(
        "setUserStatus, 1 in flight: median · 32 in flight: calls/s",
        "190-280 µs · 21-27k",
        (
            Aim("writes.redis.one.1.call_median_ms", 250, "µs", 190, 1e3),
            Aim("writes.redis.one.32.per_s", 25, "k/s", 27, 1e-3, least=True),
        ),
        "writes.redis.one.32",
        "With 32 in flight the users of a dozen calls share a script call: 13 µs of Redis a call and 24 of the "
        "service. With one in flight the service waits three times a call (for the request, for Redis, for the feed), "
        "and finds its code out of the caches each time.",
    ),
    *_asked(1, "5,400-6,200 / 29-32k", (6_000, 31_000), (6_200, 32_000)),
    *_asked(100, "160-210 / 720-1,160", (2_000, 5_000), (210, 1_160)),
    *_asked(1_000, "16-22 / 82-110", (300, 600), (22, 110)),
    Row(
        "getAllOnlineUsers, walk over 100,000 online users: time · missing · shown though offline",
        "4.6-6.3 s, shows expired ones",
        (
            Aim("users.redis.100000.list.walk_median_ms", 0.25, "s", 4.6, 1e-3),
            Aim("users.redis.100000.list.missing", 0, "users"),
            Aim("users.redis.100000.list.wrongly_shown", 0, "users"),
        ),
        "users.redis.100000.list",
    ),
    Row("Redis bytes an online user", "145", (Aim("redis.ours.bytes", 80, "B", 145),)),
)
