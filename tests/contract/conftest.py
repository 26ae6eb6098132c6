"""Every test of the contract runs on every engine."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from adsum.ports import Store
from tests.contract.engine import ENGINES, Engine
from tests.contract.follower import Follower
from tests.support.redis import SharedCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[SharedCluster]:
    """One cluster for all tests: it takes seconds to form."""
    shared = SharedCluster(masters=3)
    yield shared
    shared.kill()


@pytest_asyncio.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
async def engine(request: pytest.FixtureRequest, cluster: SharedCluster) -> AsyncIterator[Engine]:
    made: Engine = request.param(cluster)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def store(engine: Engine) -> Store:
    return await engine.open()


@pytest_asyncio.fixture
async def feed(store: Store) -> Follower:
    return Follower(store)
