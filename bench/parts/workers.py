"""What two workers do beside one, on Redis.

Calls go over several gRPC connections, so that each worker gets some. On a machine with two cores
the load generator and Redis share them with two workers; what a unit of work costs says more there
than how many there are a second.
"""

from bench.parts import connections
from bench.record import Record
from bench.service import WINDOW, Target, started

COUNTS = (1, 2)
CONNECTIONS = 10_000
CALLS = ("-in-flight=32", "-channels=8")


async def measure(record: Record) -> None:
    """Measure one, then two."""
    for count in COUNTS:
        async with record.step(f"workers.{count}", 180), started("redis", count) as target:
            await measure_workers(record, f"workers.{count}", target)


async def measure_workers(record: Record, name: str, target: Target) -> None:
    """Connections, requests, reads and writes."""
    async with record.step(f"{name}.crowd", 60):
        await connections.measure_crowd(record, f"{name}.crowd", target, CONNECTIONS, looked_at=False)
    async with record.step(f"{name}.requests", 30):
        result = await target.load("requests", WINDOW)
        record.cost(f"{name}.requests", "request", result.phases["requests"], target.load_cores)
    async with record.step(f"{name}.set", 30):
        result = await target.load("set", *CALLS, WINDOW)
        record.cost(f"{name}.set", "user", result.phases["writes"], target.load_cores)
    async with record.step(f"{name}.get", 30):
        # Users of the crowd are offline by now, those set may be either.
        await target.load("set", "-from=100000", "-to=101000", "-once=online")
        result = await target.load("get", "-from=100000", "-to=101000", "-hot", *CALLS, WINDOW)
        record.cost(f"{name}.get", "call", result.phases["calls"], target.load_cores)
