"""A server of the store, and who waits for a connection to it."""

import asyncio

import pytest

from adsum.adapters.redis.server import Address, Door, LinkOptions, Server
from adsum.adapters.redis.url import parse_store_url
from adsum.domain.errors import StoreError


async def test_who_waits_for_a_server_that_is_given_up_has_failed_and_is_not_cancelled() -> None:
    """As when a cluster has another master meanwhile: background work must outlive it."""
    looking = asyncio.Event()

    async def find() -> Address:
        looking.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    server = Server("one", Door(parse_store_url("redis://localhost")), LinkOptions(), find)
    waiting = asyncio.create_task(server.link())
    await looking.wait()
    await server.close()
    with pytest.raises(StoreError, match="no longer"):
        await waiting


async def test_one_callers_giving_up_is_no_reason_for_others_to_fail() -> None:
    looking, found = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def find() -> Address:
        looking.set()
        await found
        raise StoreError("not found")

    server = Server("one", Door(parse_store_url("redis://localhost")), LinkOptions(), find)
    first, second = asyncio.create_task(server.link()), asyncio.create_task(server.link())
    await looking.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    found.set_result(None)
    with pytest.raises(StoreError, match="not found"):
        await second
