"""What setting users' status by gRPC costs, every write a change."""

from bench.record import Record
from bench.service import ENGINES, WINDOW, started

IN_FLIGHT = (1, 8, 32)
BATCH = 100
USERS = 32_000
POPULATION = 100_000
"""Others, who stay online: a store that fills up from nothing costs otherwise than one in use."""


async def measure(record: Record) -> None:
    """Measure both engines."""
    for engine in ENGINES:
        async with record.step(f"writes.{engine}", 180), started(engine) as target:
            await target.load("set", f"-to={POPULATION}", "-in-flight=8", "-once=online")
            # Each case has users of its own: a user whom an earlier one left online would not change.
            first = POPULATION
            # The first case finds a store that was just filled, and pays for what is put off until then: the largest.
            for in_flight in reversed(IN_FLIGHT):
                name = f"writes.{engine}.many.{in_flight}"
                flags = (f"-from={first}", f"-in-flight={in_flight}", WINDOW)
                first += USERS
                async with record.step(name, 30):
                    result = await target.load(
                        "set", f"-to={first}", f"-batch={BATCH}", *flags, in_turns=in_flight == 1
                    )
                    record.cost(name, "user", result.phases["writes"], target.load_cores)
            for in_flight in (IN_FLIGHT[0], IN_FLIGHT[-1]):
                name = f"writes.{engine}.one.{in_flight}"
                flags = (f"-from={first}", f"-in-flight={in_flight}", WINDOW)
                first += USERS
                async with record.step(name, 30):
                    result = await target.load("setone", *flags, in_turns=in_flight == 1)
                    record.values(name, result.values)
                    record.cost(name, "call", result.phases["writes"], target.load_cores)
