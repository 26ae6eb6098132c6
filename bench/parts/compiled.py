"""What compiling the hot modules gives: the service with them, beside the same sources interpreted.

Both run at once, each on a Redis of its own, and are asked in turns; the one that is not asked rests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench import machine
from bench.record import Record
from bench.service import ROOT, WINDOW, Target, started

SOURCES: Final = ROOT.parent / "src"

HOT = 2_000
USERS = 100_000
AT_ONCE = "-in-flight=32"


@dataclass(frozen=True)
class Case:
    """A row of the results, and the load generator's command for it. `figure` tells, besides CPU time a unit."""

    work: str
    unit: str
    command: tuple[str, ...]
    figure: str = "per_s"


CASES: Final[Mapping[str, Case]] = {
    "latency": Case(
        "to a watcher's receipt, over 100 watchers: median",
        "push",
        ("latency", "-watchers=100", "-rounds=25"),
        "all_median_ms",
    ),
    "requests": Case("2004 requests, gob", "request", ("requests", WINDOW)),
    "many": Case(
        "setUserOnlineStatus, 32 in flight: users",
        "user",
        ("set", f"-from={USERS}", f"-to={USERS + 32_000}", AT_ONCE, WINDOW),
    ),
    "one": Case("setUserStatus, 32 in flight", "call", ("setone", f"-from={2 * USERS}", AT_ONCE, WINDOW)),
    "hot": Case("getUserStatus of 1 user, hot, 32 in flight", "call", ("get", f"-to={HOT}", "-hot", AT_ONCE, WINDOW)),
    "cold": Case(
        "getUserStatus of 100 users, cold, 32 in flight",
        "call",
        ("get", f"-from={HOT}", f"-to={USERS}", "-users=100", AT_ONCE),
    ),
}


async def measure(record: Record) -> None:
    """Measure both; nothing where no modules are compiled."""
    if not machine.is_compiled():
        return
    async with started("redis") as compiled, started("redis", sources=SOURCES) as interpreted:
        targets = {"compiled": compiled, "interpreted": interpreted}
        for target in targets.values():
            await target.load("set", f"-to={USERS}", "-in-flight=8", "-once=online")
            # A user is remembered from the second time on.
            await target.load("get", f"-to={HOT}", "-hot", "-users=100", "-for=0.3s")
        for name, case in CASES.items():
            async with record.step(f"compiled.{name}", 60):
                for build, target in targets.items():
                    await measure_case(record, f"compiled.{build}.{name}", target, case)


async def measure_case(record: Record, name: str, target: Target, case: Case) -> None:
    """Measure one of both."""
    result = await target.load(*case.command)
    (phase,) = result.phases.values()
    record.values(name, result.values)
    record.cost(name, case.unit, phase, target.load_cores)
