"""What a user sees who starts all on one machine: no process has a core of its own.

Clients, service and Redis share all cores, as the system places them. Calls are grpc-go's, with its
defaults; watchers speak JSON. Compiled and interpreted run at once, and beside them a server that only
answers (`bench/echo.py`): what that takes is the system's and the clients'. Each has a Redis of its own; they
are asked in turns.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bench import machine
from bench.parts.compiled import SOURCES
from bench.record import Record
from bench.service import ROOT, WINDOW, Target, started
from bench.table import Aim
from tests.support.redis import redis_server
from tests.support.service import RunningService

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


BUILDS: Final = ("compiled", "interpreted", "echo")


async def measure(record: Record) -> None:
    """Measure all there are: compiled modules may be missing."""
    async with AsyncExitStack() as stack:
        targets: dict[str, Target] = {}
        if machine.is_compiled():
            targets["compiled"] = await stack.enter_async_context(started("redis", pinned=False))
        interpreted = started("redis", sources=SOURCES, pinned=False)
        targets["interpreted"] = await stack.enter_async_context(interpreted)
        for target in targets.values():
            await target.load("set", f"-to={HOT}", "-in-flight=8", "-once=online")
            # A user is remembered from the second time on.
            await target.load("get", f"-to={HOT}", "-hot", "-users=100", "-for=0.3s")
        targets["echo"] = await stack.enter_async_context(echoing())
        await measure_all(record, targets)


@asynccontextmanager
async def echoing() -> AsyncIterator[Target]:
    """The server that only answers."""
    async with redis_server() as redis:
        command = sys.executable, str(ROOT / "echo.py"), str(redis.port)
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            ws, grpc = (f"127.0.0.1:{port}" for port in (await process.stdout.readline()).decode().split())
            yield Target(RunningService(process, ws, grpc, ""), redis, len(machine.cores()))
        finally:
            process.kill()
            await process.wait()


async def measure_all(record: Record, targets: dict[str, Target]) -> None:
    """Measure all cases, in turns."""
    for name, case in CASES.items():
        async with record.step(f"unpinned.{name}", 60):
            for build, target in targets.items():
                result = await target.load(*case.command)
                (phase,) = result.phases.values()
                record.values(f"unpinned.{build}.{name}", result.values)
                record.cost(f"unpinned.{build}.{name}", case.unit, phase, target.load_cores)
