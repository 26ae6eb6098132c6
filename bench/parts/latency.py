"""From a user's connect or disconnect to each watcher's receipt, and what a push costs; nothing else goes on."""

from bench.record import Record
from bench.service import ENGINES, Target, started

WATCHERS = (100, 1_000)
EVENTS = 50
"""Connects, and as many disconnects, in a window."""


async def measure(record: Record) -> None:
    """Measure both engines."""
    for engine in ENGINES:
        async with record.step(f"latency.{engine}", 120), started(engine) as target:
            for watchers in WATCHERS:
                name = f"latency.{engine}.{watchers}"
                async with record.step(name, 60):
                    await measure_watchers(record, name, target, watchers)


async def measure_watchers(record: Record, name: str, target: Target, watchers: int) -> None:
    """With so many watchers."""
    result = await target.load("latency", f"-watchers={watchers}", f"-rounds={EVENTS}")
    record.values(name, result.values)
    record.cost(f"{name}.push", "push", result.phases["pushes"], target.load_cores)
