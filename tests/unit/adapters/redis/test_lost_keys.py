"""A partition that has lost one of its keys, as by eviction, while leases live: what the store mends by itself."""

import pytest

from adsum.adapters.redis.scripts import keys_of
from adsum.adapters.redis.store import RedisStore
from adsum.domain.errors import ArgumentError, LeaseLost
from adsum.domain.presence import TimedEdit
from tests.support.redis import RedisServer, redis_server
from tests.support.world import IOS, WEB, hold_batch
from tests.unit.adapters.redis.conftest import OpenStore

LEASE_MS, TIMED_MS = 60_000, 90_000
USERS, FEED, _, DEADLINES, STATE, LEASES, LANES = keys_of("adsum", 0)
MANY = 700
"""More than one look takes in, and than Redis keeps in the form of which a scan gives all."""


async def mask(store: RedisStore, user: str = "u") -> int:
    (reading,) = await store.read([user])
    return reading.mask


async def let_leases_end(redis: RedisServer) -> None:
    """All leases are over."""
    for field, value in (await redis.run("HGETALL", LEASES)).items():
        number = value.decode().partition(":")[0]
        await redis.run("HSET", LEASES, field, f"{number}:1")


async def sweep_all(store: RedisStore) -> None:
    """As often as it takes to look at everybody."""
    for _ in range(2 * MANY // 100 + 2):
        await store.sweep("sweep")


async def test_holds_whose_lease_is_lost_end_after_the_time_of_a_lease(open_store: OpenStore) -> None:
    """Their gateway has that long to write them under a new name; no longer, or nobody would ever end them."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1, lease_ttl_ms=LEASE_MS)
        users = [f"u{n}" for n in range(MANY)]
        await store.grant("a", LEASE_MS)
        await store.write_holds(hold_batch("a", 1, dict.fromkeys(users, IOS)))
        await redis.run("DEL", LEASES)
        with pytest.raises(LeaseLost):
            await store.write_holds(hold_batch("a", 2, {"u0": 0}))
        await store.grant("b", LEASE_MS)
        await store.release("a", "op", "b")
        await store.write_holds(hold_batch("b", 3, {"u0": WEB}))
        await sweep_all(store)
        assert (await store.census()).online == MANY
        await let_leases_end(redis)
        await store.grant("c", LEASE_MS)
        await store.write_holds(hold_batch("c", 1, {"u1": IOS}))
        await sweep_all(store)
        assert (await store.census()).by_platform == {1: 1}
        assert await mask(store, "u1") == IOS


async def test_a_number_given_before_is_not_given_again(open_store: OpenStore) -> None:
    """Where the last number is lost, what a holder of the same number did would be taken for the new one's."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await store.grant("a", LEASE_MS)
        await store.write_holds(hold_batch("a", 5, {"u": IOS}))
        await redis.run("DEL", STATE)
        await store.grant("b", LEASE_MS)
        await store.write_holds(hold_batch("b", 1, {"u": WEB}))
        assert await mask(store) == IOS | WEB
        await store.release("b", "op")
        assert await mask(store) == IOS
        await redis.run("DEL", STATE, USERS, LEASES)
        await store.grant("c", LEASE_MS)
        await store.write_holds(hold_batch("c", 1, {"u": WEB}))
        assert await mask(store) == WEB


async def test_set_platforms_whose_deadlines_are_lost_get_new_ones(open_store: OpenStore) -> None:
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1, timed_ttl_ms=TIMED_MS)
        await store.write_timed("op", [TimedEdit(f"u{n}", IOS | 1 << 40, 0) for n in range(MANY)])
        await redis.run("DEL", DEADLINES)
        await sweep_all(store)
        assert await redis.run("ZCARD", DEADLINES) == 2 * MANY
        ((_, deadline),), (time_s, _) = await redis.run("ZPOPMIN", DEADLINES), await redis.run("TIME")
        assert 0 < float(deadline) - 1000 * int(time_s) <= TIMED_MS + 1000


async def test_set_platforms_that_are_lost_are_set_again_until_their_deadlines(open_store: OpenStore) -> None:
    """All but those whose deadline has passed meanwhile; what else is held of a user stays."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await store.write_timed("op", [TimedEdit(f"u{n}", WEB | 1 << 40, 0) for n in range(MANY)])
        await redis.run("DEL", USERS)
        await redis.run("ZADD", DEADLINES, 1, "40:u0")
        await store.grant("a", LEASE_MS)
        await store.write_holds(hold_batch("a", 1, {"u1": IOS}))
        await sweep_all(store)
        assert (await store.census()).by_platform == {1: 1, 5: MANY, 40: MANY - 1}
        assert await mask(store, "u1") == IOS | WEB | 1 << 40


async def test_nothing_is_mended_where_nothing_is_lost(open_store: OpenStore) -> None:
    """Looks change no version and no lease."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await store.grant("a", LEASE_MS)
        await store.write_holds(hold_batch("a", 1, {f"u{n}": IOS for n in range(MANY)}))
        await store.write_timed("op", [TimedEdit(f"u{n}", WEB, 0) for n in range(MANY)])
        before = await store.versions(), await redis.run("HGETALL", LEASES)
        await sweep_all(store)
        assert (await store.versions(), await redis.run("HGETALL", LEASES)) == before


async def test_the_layout_is_said_again(open_store: OpenStore) -> None:
    """Or a node with other partitions would be let in one day."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=2)
        await store.grant("a", LEASE_MS)
        await redis.run("DEL", STATE)
        assert await store.renew("a", LEASE_MS)
        with pytest.raises(ArgumentError, match="2 partitions"):
            await open_store(redis.url, partitions=4)


@pytest.mark.parametrize("key", [FEED, LANES])
async def test_what_else_is_lost_needs_no_mending(open_store: OpenStore, key: str) -> None:
    """Without its feed or its lanes a partition goes on, and followers see that the feed was cut."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=1)
        await store.grant("a", LEASE_MS)
        await store.write_holds(hold_batch("a", 1, {"u": IOS}))
        (first,) = await store.versions()
        await store.write_holds(hold_batch("a", 2, {"u": WEB}))
        await redis.run("DEL", key)
        await store.write_holds(hold_batch("a", 3, {"u": IOS}))
        await store.sweep("sweep")
        assert await mask(store) == IOS
        changes = await store.changes_since(0, first)
        assert changes is None if key == FEED else changes is not None and len(changes) == 2
