"""The parts of the bench: each measures one side of the service.

A part is a coroutine function that takes a `Record`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bench.parts import connections, latency, redis, requests, users, watching, workers, writes
from bench.record import Record

PARTS: Final[Mapping[str, Callable[[Record], Awaitable[None]]]] = {
    "latency": latency.measure,
    "watching": watching.measure,
    "connections": connections.measure,
    "requests": requests.measure,
    "writes": writes.measure,
    "users": users.measure,
    "workers": workers.measure,
    "redis": redis.measure,
}
