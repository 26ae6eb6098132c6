"""A gRPC server on a free loopback port, over the real presence service and the memory store."""

from collections.abc import AsyncIterator

import grpc.aio
import pytest

from adsum.adapters.clock import SystemClock
from adsum.adapters.memory import MemoryStore
from adsum.adapters.metrics.meter import PrometheusMeter
from adsum.adapters.rpc.server import RpcServer
from adsum.adapters.rpc.user import UserService
from adsum.core.opids import OpIds
from adsum.domain.platforms import parse_platforms
from adsum.ports import Meter
from adsum.service.presence import Presence, PresenceLimits
from adsum.service.states import States
from adsum.service.watching import Watching, WatchingLimits

Query = tuple[str, str, float]


class QueryMeter(PrometheusMeter):
    """Keeps each API call that was counted, and why connections were closed."""

    def __init__(self, queries: list[Query]) -> None:
        super().__init__()
        self.queries = queries
        self.closed: list[str] = []

    def closing(self, reason: str) -> None:
        super().closing(reason)
        self.closed.append(reason)

    def query(self, method: str, outcome: str, seconds: float) -> None:
        super().query(method, outcome, seconds)
        self.queries.append((method, outcome, seconds))


@pytest.fixture
def queries() -> list[Query]:
    """The calls counted so far: method, outcome, seconds."""
    return []


@pytest.fixture
def meter(queries: list[Query]) -> Meter:
    return QueryMeter(queries)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(SystemClock())


@pytest.fixture
def presence(store: MemoryStore, meter: Meter) -> Presence:
    states = States(store, lambda: None, meter, max_hot=0)
    watching = Watching(states, lambda _user_id: (), meter, WatchingLimits())
    store.follow(states.on_feed)
    limits = PresenceLimits(max_user_id_bytes=16, max_users=100, page_users=10)
    return Presence(store, states, watching, parse_platforms(["openim"]), limits, OpIds("test"))


@pytest.fixture
async def channel(presence: Presence, meter: Meter) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel to a server that serves `presence`."""
    server = RpcServer(UserService(presence, meter))
    port = await server.start("127.0.0.1:0")
    server.set_serving(serving=True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)
