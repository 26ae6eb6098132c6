"""Removing ended holders while a replica that knows less takes over."""

import pytest

from adsum.adapters.redis.store import RedisStore
from adsum.domain.errors import LeaseLost
from tests.support.redis import RedisServer, redis_server
from tests.support.world import IOS, hold_batch
from tests.unit.adapters.redis.conftest import OpenStore

LEASE_MS = 60_000
LEASES, USERS = "adsum:{0}:leases", "adsum:{0}:users"


async def dead_holder(store: RedisStore, redis: RedisServer) -> None:
    """A holder of one user, whose lease is over."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await redis.run("HSET", LEASES, "a", "1:1")


async def mask(store: RedisStore) -> int:
    (reading,) = await store.read(["u"])
    return reading.mask


async def removal_may_begin_again(redis: RedisServer) -> None:
    """The time that a node is given for a removal is over."""
    for field, value in (await redis.run("HGETALL", LEASES)).items():
        number = value.decode().partition(":")[0]
        await redis.run("HSET", LEASES, field, f"{number}:-1")


async def test_a_holder_is_forgotten_once_a_scan_has_found_nothing_of_it(open_store: OpenStore) -> None:
    """Not by the one that removed its holds: a replica may not have heard of that yet."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await dead_holder(store, redis)
        await store.sweep("first")
        assert await mask(store) == 0
        assert await redis.run("HLEN", LEASES) == 1
        await removal_may_begin_again(redis)
        await store.sweep("second")
        assert await redis.run("HLEN", LEASES) == 0


async def test_holds_that_a_replica_brings_back_are_removed_again(open_store: OpenStore) -> None:
    """As long as the lease that was ended is known, nobody stays online for ever."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await dead_holder(store, redis)
        await store.sweep("first")
        await redis.run("HSET", USERS, "u", "1:1")
        await removal_may_begin_again(redis)
        await store.sweep("second")
        assert await mask(store) == 0


async def test_what_is_being_removed_is_left_to_who_does_it(open_store: OpenStore) -> None:
    """Other nodes do not scan for the same holder meanwhile."""
    async with redis_server() as redis:
        one, other = [await open_store(redis.url, partitions=1) for _ in range(2)]
        await dead_holder(one, redis)
        await one.sweep("first")
        await redis.run("HSET", USERS, "u", "1:1")
        await other.sweep("at the same time")
        assert await mask(one) == IOS


async def test_a_lease_that_a_replica_brings_back_is_not_forgotten(open_store: OpenStore) -> None:
    """Its holder may go on, or its end is noticed once more."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await dead_holder(store, redis)
        await store.sweep("first")
        await redis.run("HSET", USERS, "u", "1:1")
        await redis.run("HSET", LEASES, "a", "1:1")
        await store.sweep("second")
        assert await mask(store) == 0
        assert await redis.run("HLEN", LEASES) == 1


async def test_a_former_name_stays_while_its_successor_has_no_lease(open_store: OpenStore) -> None:
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await store.grant("a", LEASE_MS)
        await store.write_holds(hold_batch("a", 1, {"u": IOS}))
        with pytest.raises(LeaseLost):
            await store.release("a", "op", "b")
        assert await mask(store) == IOS
