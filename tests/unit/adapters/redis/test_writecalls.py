"""Script calls for several partitions, where one server has them all."""

import pytest

from adsum.adapters.redis.store import RedisStore
from adsum.adapters.redis.writecalls import USERS_A_CALL
from adsum.core.partition import partition_of
from adsum.domain.errors import LeaseLost, StoreError
from adsum.domain.presence import FeedEntry, TimedEdit
from tests.support.redis import RedisServer, eventually, redis_server
from tests.support.world import ANDROID, IOS, hold_batch
from tests.unit.adapters.redis.conftest import OpenStore

PARTITIONS = 4
USERS = [f"u{number}" for number in range(40)]
"""Some in each partition."""


async def script_calls(redis: RedisServer) -> int:
    stats = await redis.run("INFO", "commandstats")
    return sum(int(stats[name]["calls"]) for name in ("cmdstat_evalsha",) if name in stats)


async def set_online(store: RedisStore, users: list[str]) -> None:
    await store.write_timed("op", [TimedEdit(user, IOS, 0) for user in users])


async def test_one_call_writes_all_partitions_and_publishes_once(open_store: OpenStore) -> None:
    """Followers hear of each partition's entry as if it had been written alone."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=PARTITIONS)
        heard: list[FeedEntry] = []
        store.follow(heard.append)
        await set_online(store, ["warm"])
        calls, messages = await script_calls(redis), len(heard)
        await set_online(store, USERS)

        async def all_heard() -> bool:
            return len(heard) == messages + PARTITIONS

        await eventually(all_heard)
        assert await script_calls(redis) == calls + 1
        for entry in heard[messages:]:
            assert {change.user_id for change in entry.changes} == {
                user for user in USERS if partition_of(user, PARTITIONS) == entry.partition
            }
            assert entry.version == (await store.versions())[entry.partition]


async def test_a_call_has_a_size(open_store: OpenStore) -> None:
    """All others wait for it: so a write of many users is several calls."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=PARTITIONS)
        await set_online(store, ["warm"])
        calls = await script_calls(redis)
        await set_online(store, [f"user-{number}" for number in range(USERS_A_CALL * PARTITIONS * 2)])
        assert await script_calls(redis) == calls + PARTITIONS


async def test_a_server_in_cluster_mode_gets_a_call_for_each_partition(open_store: OpenStore) -> None:
    """Also one that has all slots: it refuses keys of several."""
    async with redis_server("--cluster-enabled", "yes") as redis:
        await redis.run("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await eventually(lambda: is_whole(redis))
        store = await open_store(redis.url, partitions=PARTITIONS)
        await set_online(store, USERS)
        assert (await store.census()).online == len(USERS)


async def test_what_fails_in_one_partition_is_no_other_ones_loss(open_store: OpenStore) -> None:
    """Written, told of, and answered."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=PARTITIONS)
        await store.grant("a", 60_000)
        heard: list[FeedEntry] = []
        store.follow(heard.append)
        broken, *others = (
            USERS[0],
            *(user for user in USERS if partition_of(user, PARTITIONS) != partition_of(USERS[0], PARTITIONS)),
        )
        key = f"adsum:{{{partition_of(broken, PARTITIONS)}}}:users"
        await redis.run("SET", key, "no hash")

        async def all_heard() -> bool:
            return {change.user_id for entry in heard for change in entry.changes} == set(others)

        for write in (
            lambda: store.write_holds(hold_batch("a", 1, dict.fromkeys(USERS, IOS))),
            lambda: store.write_timed("op", [TimedEdit(user, ANDROID, 0) for user in USERS]),
        ):
            with pytest.raises(StoreError, match="refused: WRONGTYPE"):
                await write()
            await eventually(all_heard)
            heard.clear()
        await redis.run("DEL", key)
        await store.write_holds(hold_batch("a", 1, dict.fromkeys(USERS, IOS)))
        assert (await store.read([broken]))[0].mask == IOS


async def test_a_failure_says_what_redis_says(open_store: OpenStore) -> None:
    """Its code tells whether the partitions are, or soon will be, with another server."""
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=PARTITIONS)
        await store.grant("a", 60_000)
        await redis.run("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreError, match="refused: READONLY"):
            await set_online(store, USERS)
        with pytest.raises(StoreError, match="refused: READONLY"):
            await store.write_holds(hold_batch("a", 1, dict.fromkeys(USERS, IOS)))


async def is_whole(redis: RedisServer) -> bool:
    return b"cluster_state:ok" in await redis.run("CLUSTER", "INFO")


async def test_a_lease_lost_in_one_partition_is_no_write_in_any(open_store: OpenStore) -> None:
    async with redis_server() as redis:
        store = await open_store(redis.url, partitions=PARTITIONS)
        await store.grant("a", 60_000)
        await redis.run("HDEL", f"adsum:{{{PARTITIONS - 1}}}:leases", "a")
        with pytest.raises(LeaseLost):
            await store.write_holds(hold_batch("a", 1, dict.fromkeys(USERS, IOS)))
        assert (await store.census()).online == 0
