"""What a user sees who starts all on one machine: no process has a core of its own.

Clients, service and Redis share all cores, as the system places them. Calls are grpc-go's, with its
defaults; watchers speak JSON. Compiled and interpreted run at once, each on a Redis of its own, and are asked in turns.
"""

from dataclasses import dataclass
from typing import Final

from bench import machine
from bench.parts.compiled import SOURCES
from bench.record import Record
from bench.service import WINDOW, Target, started
from bench.table import Aim

HOT = 2_000
USERS = 10_000
STOCK = "-stock"


@dataclass(frozen=True)
class Case:
    """A row of the results: the load generator's command, and the figures that tell, with their aims.

    `peer` is the best of OpenIM and Centrifugo, measured so in one run with Adsum on a machine with 2 cores.
    """

    work: str
    command: tuple[str, ...]
    unit: str
    peer: str
    aims: tuple[Aim, ...]


def _watched(watchers: int, rounds: int) -> tuple[str, ...]:
    return "latency", "-codec=json", f"-watchers={watchers}", f"-rounds={rounds}"


def _asked(in_flight: int) -> tuple[str, ...]:
    return "get", STOCK, f"-to={HOT}", "-hot", f"-in-flight={in_flight}", WINDOW


CASES: Final = {
    "watchers.100": Case(
        "from a user's connect · disconnect to a watcher's receipt, JSON, over 100 watchers: medians, ms",
        _watched(100, 50),
        "push",
        "Centrifugo 2.25 · 1.6",
        (Aim("connect_median_ms", 1.6, "ms"), Aim("disconnect_median_ms", 1.4, "ms")),
    ),
    "watchers.1000": Case(
        "the same over 1,000, both: median · p99, ms",
        _watched(1_000, 25),
        "push",
        "Centrifugo 8.5 · 14",
        (Aim("all_median_ms", 7, "ms"), Aim("all_p99_ms", 12, "ms")),
    ),
    "get.1": Case(
        "getUserStatus of 1 user, one caller: calls/s",
        _asked(1),
        "call",
        "OpenIM 5,860",
        (Aim("per_s", 6_500, "/s", least=True),),
    ),
    "get.32": Case(
        "the same, 32 callers on one connection: calls/s",
        _asked(32),
        "call",
        "OpenIM 30,900",
        (Aim("per_s", 33_000, "/s", least=True),),
    ),
    "set": Case(
        "setUserStatus, one caller, every call a change: median, µs",
        ("setone", STOCK, f"-from={USERS}", "-in-flight=1", WINDOW),
        "call",
        "OpenIM 231",
        (Aim("call_median_ms", 220, "µs", scale=1e3),),
    ),
}


async def measure(record: Record) -> None:
    """Measure both builds; where no modules are compiled, the interpreted one."""
    if not machine.is_compiled():
        async with started("redis", pinned=False) as interpreted:
            await measure_all(record, {"interpreted": interpreted})
        return
    async with (
        started("redis", pinned=False) as compiled,
        started("redis", sources=SOURCES, pinned=False) as interpreted,
    ):
        await measure_all(record, {"compiled": compiled, "interpreted": interpreted})


async def measure_all(record: Record, targets: dict[str, Target]) -> None:
    """Measure all cases, with the builds in turns."""
    for target in targets.values():
        await target.load("set", f"-to={HOT}", "-in-flight=8", "-once=online")
        # A user is remembered from the second time on.
        await target.load("get", f"-to={HOT}", "-hot", "-users=100", "-for=0.3s")
    for name, case in CASES.items():
        async with record.step(f"unpinned.{name}", 60):
            for build, target in targets.items():
                result = await target.load(*case.command)
                (phase,) = result.phases.values()
                record.values(f"unpinned.{build}.{name}", result.values)
                record.cost(f"unpinned.{build}.{name}", case.unit, phase, target.load_cores)
