"""Presence under OpenIM's keys, in a real Redis and in a cluster."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from adsum.adapters.redis.projection import RedisProjection, slot_of_key
from adsum.adapters.redis.server import LinkOptions
from adsum.adapters.redis.url import parse_store_url
from adsum.domain.errors import StoreError
from adsum.domain.platforms import mask_of
from adsum.domain.presence import Status
from tests.support.redis import RedisServer, SharedCluster, redis_server


@asynccontextmanager
async def projection(url: str) -> AsyncIterator[RedisProjection]:
    made = RedisProjection(parse_store_url(url), LinkOptions(limit_ms=30_000))
    try:
        yield made
    finally:
        await made.close()


def status(user_id: str, *platform_ids: int) -> Status:
    return Status(user_id, mask_of(platform_ids))


async def members(redis: RedisServer, user_id: str) -> dict[str, int]:
    """A user's platforms as OpenIM reads them, each with the seconds it is good for."""
    now_s = int((await redis.run("TIME"))[0])
    found = await redis.run("ZRANGE", f"ONLINE:{user_id}", 0, -1, "WITHSCORES")
    pairs = (
        dict(found) if found and isinstance(found[0], list | tuple) else dict(zip(found[::2], found[1::2], strict=True))
    )
    return {member.decode(): int(float(score)) - now_s for member, score in pairs.items()}


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


async def test_keys_are_openims(redis: RedisServer) -> None:
    """A sorted set of platform IDs, good for 1,800 s, as the key is."""
    async with projection(redis.url) as made:
        await made.write([status("u1", 1, 5), status("用户", 62)])
    for user_id, platforms in (("u1", {"1", "5"}), ("用户", {"62"})):
        found = await members(redis, user_id)
        assert found.keys() == platforms
        assert all(1_790 <= left <= 1_800 for left in found.values())
        assert 1_790 <= await redis.run("TTL", f"ONLINE:{user_id}") <= 1_800


async def test_a_platform_that_went_is_gone_at_once(redis: RedisServer) -> None:
    async with projection(redis.url) as made:
        await made.write([status("u", 1, 5)])
        await made.write([status("u", 5, 7)])
        assert (await members(redis, "u")).keys() == {"5", "7"}
        await made.write([status("u")])
        assert not await redis.run("EXISTS", "ONLINE:u")


async def test_each_change_is_published_once_after_it_is_written(redis: RedisServer) -> None:
    """As OpenIM does it, whose own words these are; writing the same again tells nothing."""
    heard: list[bytes] = []
    async with redis.client() as client, client.pubsub() as pubsub, projection(redis.url) as made:
        await pubsub.subscribe("online_change")
        for statuses in (
            [status("u1", 1)],
            [status("u1", 1)],
            [status("u1", 1, 5)],
            [status("u2", 2, 3), status("u1", 5, 7)],
            [status("u2"), status("nobody")],
            [status("u2")],
            [status("a:b", 10, 2)],
        ):
            await made.write(statuses)
        while len(heard) < 6:
            message = await pubsub.get_message(timeout=30)
            assert message is not None
            if message["type"] == "message":
                heard.append(message["data"])
    assert heard == [b"1:u1", b"1:5:u1", b"2:3:u2", b"5:7:u1", b"u2", b"2:10:a:b"]


async def test_what_has_expired_counts_for_nothing(redis: RedisServer) -> None:
    """A key that OpenIM left behind: what is good of it is compared, the rest goes."""
    now_s = int((await redis.run("TIME"))[0])
    await redis.run("ZADD", "ONLINE:u", now_s - 1, 3, now_s + 1_000, 1)
    async with redis.client() as client, client.pubsub() as pubsub, projection(redis.url) as made:
        await pubsub.subscribe("online_change")
        await made.write([status("u", 1)])
        await made.write([status("u", 1, 2)])
        while (message := await pubsub.get_message(timeout=30)) is None or message["type"] != "message":
            pass
        assert message["data"] == b"1:2:u", "the first write changed nothing for those who read it"
    assert (await members(redis, "u")).keys() == {"1", "2"}


async def test_a_key_of_another_type_is_replaced(redis: RedisServer) -> None:
    await redis.run("SET", "ONLINE:u", "something")
    async with projection(redis.url) as made:
        await made.write([status("u", 1)])
    assert (await members(redis, "u")).keys() == {"1"}


async def test_a_key_of_another_type_is_left_alone_while_nobody_is_online(redis: RedisServer) -> None:
    await redis.run("SET", "ONLINE:u", "something")
    async with projection(redis.url) as made:
        await made.write([status("u")])
    assert await redis.run("GET", "ONLINE:u") == b"something"


async def test_everybody_with_a_key_is_listed(redis: RedisServer) -> None:
    async with redis.client() as client:
        await client.set(b"ONLINE:\xff", "no text")
    await redis.run("SET", "OTHER:u", "another key")
    users = {f"user-{i}" for i in range(2_500)}
    async with projection(redis.url) as made:
        await made.write([status(user_id, 1) for user_id in sorted(users)])
        assert {user_id async for portion in made.users() for user_id in portion} == users


async def test_many_users_are_written(redis: RedisServer) -> None:
    async with projection(redis.url) as made:
        await made.write([status(f"user-{i}", 1 + i % 9) for i in range(3_000)])
    assert await redis.run("DBSIZE") == 3_000


async def test_a_server_that_is_away_is_an_error_and_nothing_more(redis: RedisServer) -> None:
    async with projection(redis.url) as made:
        await redis.stop()
        with pytest.raises(StoreError):
            await made.write([status("u", 1)])


@pytest.fixture(scope="module")
def cluster() -> Iterator[SharedCluster]:
    shared = SharedCluster(masters=3)
    yield shared
    shared.kill()


async def test_a_cluster_has_each_key_where_clients_look_for_it(cluster: SharedCluster) -> None:
    """By the slot of the key, whatever braces a user ID has."""
    formed = await cluster.get()
    users = [f"user-{i}" for i in range(200)] + ["{a}b", "a{}b{c}", "{", "}{", "用{户}"]
    async with projection(formed.url) as made:
        await made.write([status(user_id, 1, 2) for user_id in users])
    assert sum([await server.run("DBSIZE") for server in formed.masters]) == len(users)
    for user_id in users:
        key = f"ONLINE:{user_id}"
        assert slot_of_key(key) == await formed.masters[0].run("CLUSTER", "KEYSLOT", key)
