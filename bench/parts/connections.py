"""Many clients connect at once, stay, and leave: time, CPU and memory of each, as their number grows."""

from bench import machine
from bench.record import Record
from bench.service import Target, started

NEEDED_FILES = 500
"""Open files that a process needs besides a connection each."""

MOST = 100_000

USUAL = 10_000

LOOKS = ("-idle=5s", "-pinged=3s")
"""With the connecting, these take less than the 30 s after which a silent client is dropped."""


async def measure(record: Record) -> None:
    """Measure the usual number on Redis, and beside it in each round one of the others.

    These are the usual number embedded, few, and as many as the system lets a process have.
    """
    most = min(machine.allow_open_files() - NEEDED_FILES, MOST)
    others = [("memory", USUAL), ("redis", 1_000), *([("redis", most)] if most > USUAL else [])]
    for engine, count in [("redis", USUAL), *others[record.round_number :][:1]]:
        name = f"connections.{engine}.{count}"
        async with record.step(name, 90), started(engine) as target:
            await measure_crowd(record, name, target, count, looked_at=count == USUAL)


async def measure_crowd(record: Record, name: str, target: Target, count: int, *, looked_at: bool) -> None:
    """With so many connections, on a service that has had none; `looked_at`: also while they are idle."""
    # The first connections of a process make it load what all of them use.
    await target.load("crowd", "-connections=100")
    result = await target.load("crowd", f"-connections={count}", *(LOOKS if looked_at else ()))
    for phase in ("accept", "connect", "disconnect"):
        record.cost(f"{name}.{phase}", "connection", result.phases[phase], target.load_cores)
    record.figure(f"{name}.bytes", result.values["rss_per_connection"], "B")
    if looked_at:
        idle = result.phases["idle"]
        record.figure(f"{name}.idle.percent", idle.service_cpu_s / idle.took_s * 100, "%")
        record.cost(f"{name}.pinged", "ping", result.phases["pinged"], target.load_cores)
