"""One client watches many users who all come online: it must be told of all of them."""

from bench.record import Record
from bench.service import ENGINES, Target, started

USERS = 10_000


async def measure(record: Record) -> None:
    """Measure both engines, with a client that reads and with one that for a while does not."""
    for engine in ENGINES:
        for case in ("reading", "stalled"):
            name = f"watching.{engine}.{case}"
            # Users of the one case would be online in the other already.
            async with record.step(name, 60), started(engine) as target:
                await measure_case(record, name, target, stalled=case == "stalled")


async def measure_case(record: Record, name: str, target: Target, *, stalled: bool) -> None:
    """Measure one."""
    result = await target.load("watch", f"-users={USERS}", *(("-stall",) if stalled else ()))
    record.figure(f"{name}.told", result.values["told"], "users", rough=True)
    record.figure(f"{name}.frames", result.values["frames"], "frames", rough=True)
    record.figure(f"{name}.took_ms", result.values["took_ms"], "ms", rough=True)
    record.cost(f"{name}.burst", "user", result.phases["burst"], target.load_cores)
