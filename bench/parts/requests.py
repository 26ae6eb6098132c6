"""What answering a client's request costs, by codec.

The request is 2004, which sets whether the client's app is in the background: the service
notes that and answers with no data.
"""

from bench.record import Record
from bench.service import WINDOW, started

CODECS = ("gob", "gob-gzip", "json")
CONNECTIONS = 50


async def measure(record: Record) -> None:
    """Measure; the store has no part in it."""
    async with record.step("requests", 90), started("redis") as target:
        for codec in CODECS:
            async with record.step(f"requests.{codec}", 30):
                result = await target.load("requests", f"-connections={CONNECTIONS}", f"-codec={codec}", WINDOW)
                record.cost(f"requests.{codec}", "request", result.phases["requests"], target.load_cores)
