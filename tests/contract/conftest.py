"""Every test of the contract runs on every engine."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adsum.ports import Store
from tests.contract.engine import ENGINES, Engine
from tests.contract.follower import Follower


@pytest_asyncio.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    made: Engine = request.param()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def store(engine: Engine) -> Store:
    return await engine.open()


@pytest_asyncio.fixture
async def feed(store: Store) -> Follower:
    return Follower(store)
