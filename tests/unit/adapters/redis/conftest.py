"""Stores on servers of the tests' own, closed at the end."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from adsum.adapters.redis.store import RedisOptions, RedisStore
from adsum.adapters.redis.url import parse_store_url

OpenStore = Callable[..., Awaitable[RedisStore]]


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    """Open a store at a URL; more arguments are options."""
    stores: list[RedisStore] = []

    async def made(url: str, **options: object) -> RedisStore:
        defaults: dict[str, object] = {"partitions": 4, "timeout_ms": 20_000, "retry_max_ms": 200}
        store = RedisStore(parse_store_url(url), RedisOptions(**(defaults | options)))  # type: ignore[arg-type]
        stores.append(store)
        await store.open()
        return store

    yield made
    for store in stores:
        await store.close()
