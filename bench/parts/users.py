"""Users in the store, from few to many: what one costs to set, to ask for and to list, in time and in memory.

Asking is measured twice: of users asked for again and again (hot), and of users asked for once
each, in random order among the many (cold), whom no cache can know.
"""

from dataclasses import dataclass

from bench.record import Phase, Record
from bench.service import ENGINES, WINDOW, Target, started
from tests.support.redis import RedisServer

SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = SIZES[:2]
LISTED = 300_000
"""Users walked over in a few walks at least, so that small sizes take a time that can be measured."""
MOST_WALKS = 20

GONE = 1_000
HOT = 2_000


@dataclass(frozen=True)
class Case:
    """getUserStatus: users a call, calls in flight, and how many users there are to ask for, cold.

    These are enough for about a window each; together they are fewer than were set last.
    """

    users: int
    in_flight: int
    cold: int
    cold_quick: int


CASES = (
    Case(1, 1, 6_000, 4_000),
    Case(1, 32, 24_000, 20_000),
    Case(100, 1, 90_000, 16_000),
    Case(100, 32, 300_000, 20_000),
    Case(1_000, 1, 120_000, 10_000),
    Case(1_000, 32, 350_000, 16_000),
)
GROWTH_CASE = CASES[2]
"""How is asked at each size; at the last it is one of the cases anyhow."""


async def measure(record: Record) -> None:
    """Measure both engines."""
    for engine in ENGINES:
        async with record.step(f"users.{engine}", 240), started(engine) as target:
            await measure_engine(record, engine, target)


async def measure_engine(record: Record, engine: str, target: Target) -> None:
    """Grow, ask and list at each size, then ask in every way."""
    sizes = QUICK_SIZES if record.quick else SIZES
    empty = await warm_up(target, sizes[-1])
    known = 0
    for size in sizes:
        name = f"users.{engine}.{size}"
        async with record.step(name, 120):
            written = await set_all(target, known, size)
            record.cost(f"{name}.write", "user", written, target.load_cores)
            bytes_used = await redis_bytes(target.redis) if target.redis else written.service_rss_bytes
            record.figure(f"{name}.bytes", (bytes_used - empty) / size, "B")
            if size < sizes[-1]:
                await ask_cold(record, target, GROWTH_CASE, known, size, f"{name}.query")
            await list_all(record, f"{name}.list", target, size)
        known = size
    # Those below were asked for while the store grew.
    first = sizes[-2]
    for case in CASES:
        await ask_hot(record, f"users.{engine}.hot.{case.users}.{case.in_flight}", target, case)
        end = first + (case.cold_quick if record.quick else case.cold)
        name = f"users.{engine}.cold.{case.users}.{case.in_flight}"
        more = [f"users.{engine}.{sizes[-1]}.query"] if case is GROWTH_CASE else []
        async with record.step(name, 30):
            await ask_cold(record, target, case, first, end, name, *more)
        first = end


async def warm_up(target: Target, first: int) -> int:
    """Have the process load what all calls use; bytes of the empty store. Those users are offline again after it."""
    users = f"-from={first}", f"-to={first + GONE}"
    await set_all(target, first, first + GONE)
    await target.load("get", *users, "-users=100", "-hot", "-for=0.5s")
    phase = (await target.load("set", *users, "-once=offline")).phases["writes"]
    return await redis_bytes(target.redis) if target.redis else phase.service_rss_bytes


async def set_all(target: Target, first: int, end: int) -> Phase:
    """Set users online, each once."""
    result = await target.load("set", f"-from={first}", f"-to={end}", "-batch=100", "-in-flight=8", "-once=online")
    return result.phases["writes"]


async def ask_hot(record: Record, name: str, target: Target, case: Case) -> None:
    """Ask for the same users again and again."""
    async with record.step(name, 30):
        flags = (f"-users={case.users}", f"-in-flight={case.in_flight}", WINDOW)
        # A user is remembered from the second time on.
        await target.load("get", f"-to={HOT}", "-hot", "-users=100", "-for=0.3s")
        result = await target.load("get", f"-to={HOT}", "-hot", *flags, in_turns=case.in_flight == 1)
        record.values(name, result.values)
        record.cost(name, "call", result.phases["calls"], target.load_cores)


async def ask_cold(record: Record, target: Target, case: Case, first: int, end: int, *names: str) -> None:
    """Ask for users who have not been asked for; the figures go by all these names."""
    flags = (f"-users={case.users}", f"-in-flight={case.in_flight}", "-for=8s")
    result = await target.load("get", f"-from={first}", f"-to={end}", *flags, in_turns=case.in_flight == 1)
    for name in names:
        record.values(name, result.values)
        record.cost(name, "call", result.phases["calls"], target.load_cores)


async def list_all(record: Record, name: str, target: Target, size: int) -> None:
    """Walk over all who are online; nobody may be missing, nobody else shown."""
    walks = min(max(1, LISTED // size), MOST_WALKS)
    result = await target.load("list", f"-online={size}", f"-walks={walks}", in_turns=True)
    record.values(name, result.values)
    record.figure(f"{name}.missing", result.values["missing"], "users")
    record.figure(f"{name}.wrongly_shown", result.values["wrongly_shown"], "users")
    record.cost(name, "user", result.phases["walks"], target.load_cores)


async def redis_bytes(redis: RedisServer) -> int:
    """Memory that Redis uses for users.

    The feed's entries, which are kept for catch-up up to a fixed number, are no cost of a user.
    """
    for key in await redis.run("KEYS", "adsum:{*}:feed"):
        await redis.run("XTRIM", key, "MAXLEN", 0)
    return int((await redis.run("INFO", "memory"))["used_memory"])
