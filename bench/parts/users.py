"""Users in the store, from few to many: what one costs to set, to ask for and to list, in time and in memory.

Asking is measured twice: of users asked for again and again (hot), and of users asked for once
each, in random order among the many (cold), whom no cache can know.
"""

from dataclasses import dataclass

from bench.record import Record
from bench.service import ENGINES, Target, started
from tests.support.redis import RedisServer

SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = SIZES[:2]
LISTED = 100_000
GONE = 1_000
HOT = 2_000


@dataclass(frozen=True)
class Case:
    """getUserStatus: users a call, calls in flight, and how many users there are to ask for, cold."""

    users: int
    in_flight: int
    cold: int
    cold_quick: int


CASES = (
    Case(1, 1, 12_000, 4_000),
    Case(1, 32, 90_000, 20_000),
    Case(100, 1, 90_000, 16_000),
    Case(100, 32, 250_000, 20_000),
    Case(1_000, 1, 120_000, 10_000),
    Case(1_000, 32, 250_000, 16_000),
)


async def measure(record: Record) -> None:
    """Measure both engines."""
    for engine in ENGINES:
        async with record.step(f"users.{engine}", 240), started(engine) as target:
            await measure_engine(record, engine, target)


async def measure_engine(record: Record, engine: str, target: Target) -> None:
    """Grow, ask and list at each size, then ask in every way."""
    sizes = QUICK_SIZES if record.quick else SIZES
    # The first calls make the process load what all of them use.
    await set_online(target, sizes[-1], sizes[-1] + GONE)
    await target.load("get", f"-from={sizes[-1]}", f"-to={sizes[-1] + GONE}", "-users=100", "-hot", "-for=1s")
    await target.load("set", f"-from={sizes[-1]}", f"-to={sizes[-1] + GONE}", "-once", "-offline")
    empty_bytes = await bytes_used(target)
    known = 0
    for size in sizes:
        name = f"users.{engine}.{size}"
        async with record.step(name, 120):
            record.cost(f"{name}.write", "user", await set_online(target, known, size), target.load_cores)
            record.figure(f"{name}.bytes", (await bytes_used(target) - empty_bytes) / size, "B")
            if size < sizes[-1]:
                await ask_cold(record, f"{name}.query", target, Case(100, 1, 0, 0), known, size)
            await list_all(record, f"{name}.list", target, size)
        known = size
    # Those below were asked for while the store grew.
    first = SIZES[0] if record.quick else SIZES[1]
    for case in CASES:
        name = f"users.{engine}.hot.{case.users}.{case.in_flight}"
        async with record.step(name, 30):
            flags = (f"-users={case.users}", f"-in-flight={case.in_flight}", record.seconds(3, 1.5))
            result = await target.load("get", f"-to={HOT}", "-hot", *flags)
            record.values(name, result.values)
            record.cost(name, "call", result.phases["calls"], target.load_cores)
        name = f"users.{engine}.cold.{case.users}.{case.in_flight}"
        end = first + (case.cold_quick if record.quick else case.cold)
        async with record.step(name, 30):
            await ask_cold(record, name, target, case, first, end)
        first = end


async def set_online(target: Target, first: int, end: int):  # type: ignore
    """Set users online, each once."""
    result = await target.load("set", f"-from={first}", f"-to={end}", "-batch=100", "-in-flight=8", "-once")
    return result.phases["writes"]


async def ask_cold(record: Record, name: str, target: Target, case: Case, first: int, end: int) -> None:
    """Ask for users who have not been asked for."""
    flags = (f"-users={case.users}", f"-in-flight={case.in_flight}", "-for=8s")
    result = await target.load("get", f"-from={first}", f"-to={end}", *flags)
    record.values(name, result.values)
    record.cost(name, "call", result.phases["calls"], target.load_cores)


async def list_all(record: Record, name: str, target: Target, size: int) -> None:
    """Walk over all who are online; nobody may be missing, nobody else shown."""
    walks = max(1, LISTED // size) * (1 if record.quick else 3)
    result = await target.load("list", f"-online={size}", f"-walks={min(walks, 20)}")
    record.values(name, result.values)
    record.figure(f"{name}.missing", result.values["missing"], "users")
    record.figure(f"{name}.wrongly_shown", result.values["wrongly_shown"], "users")
    record.cost(name, "user", result.phases["walks"], target.load_cores)


async def bytes_used(target: Target) -> int:
    """Memory of the store: Redis's, or the whole process's if it is embedded.

    The feed's entries, which Redis keeps for catch-up up to a fixed number, are no cost of a user.
    """
    redis = target.redis
    if redis is None:
        ...
    return await redis_bytes(redis)
