"""A store in trouble: what a server forgets, refuses, or takes with it, and that nothing leaks."""

import asyncio
import logging
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from adsum.adapters.redis import link as link_module
from adsum.adapters.redis.scripts import slot_of
from adsum.domain.errors import StoreError
from adsum.domain.presence import FeedEntry, TimedEdit
from adsum.ports import Store
from tests.support.proxy import proxy_to
from tests.support.redis import RedisServer, Sentinel, eventually, redis_cluster, redis_server
from tests.support.world import IOS
from tests.unit.adapters.redis.conftest import OpenStore


async def put(store: Store, user_id: str) -> None:
    await store.write_timed(f"op-{user_id}", [TimedEdit(user_id, IOS, 0)])


async def masks(store: Store, *user_ids: str) -> list[int]:
    return [reading.mask for reading in await store.read(user_ids)]


def works(call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[bool]]:
    """Whether a call succeeds now."""

    async def tried() -> bool:
        try:
            await call()
        except StoreError:
            return False
        return True

    return tried


async def clients(redis: RedisServer) -> int:
    """How many connections a server has, but for the one that asks."""
    return len((await redis.run("CLIENT", "LIST")).splitlines()) - 1


async def test_scripts_that_were_forgotten_are_loaded_again(open_store: OpenStore) -> None:
    """Nobody notices."""
    async with redis_server() as redis:
        store = await open_store(redis.url)
        await put(store, "u")
        await redis.run("SCRIPT", "FLUSH")
        await put(store, "v")
        assert await masks(store, "u", "v") == [IOS, IOS]


async def test_a_lease_waits_behind_no_client(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is granted and renewed while no more is asked for others."""
    async with redis_server() as redis:
        store = await open_store(redis.url)
        await store.grant("h", 60_000)
        monkeypatch.setattr(link_module, "MAX_WAITING", 10)
        asking = asyncio.create_task(store.census())
        await asyncio.sleep(0)
        renewing, granting = (asyncio.create_task(ask) for ask in (store.renew("h", 60_000), store.grant("i", 60_000)))
        with pytest.raises(StoreError, match="8 commands are unanswered"):
            await store.census()
        assert await renewing
        await granting
        assert (await asking).online == 0


async def test_a_dead_store_fails_callers_at_once_until_it_is_back(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """With two lines in the log, however many call."""
    caplog.set_level(logging.INFO)
    async with redis_server() as redis:
        store = await open_store(redis.url)
        await redis.stop()
        for _ in range(200):
            with pytest.raises(StoreError, match=r"connection refused|closed"):
                await store.census()
        await redis.start()
        await eventually(works(store.census))
        lines = [record.getMessage() for record in caplog.records if record.name.endswith(".server")]
        assert len(lines) == 2, lines
        assert "connection refused" in lines[0]
        assert "answers again" in lines[1]


async def test_a_store_that_hangs_is_found_out_once(open_store: OpenStore) -> None:
    """Those who wait fail by their limit; who comes then fails at once, until it answers again."""
    async with redis_server() as redis:
        store = await open_store(redis.url, timeout_ms=300, retry_min_ms=60_000, retry_max_ms=60_000)
        redis.send_signal(signal.SIGSTOP)
        outcomes = await asyncio.gather(*(store.census() for _ in range(20)), return_exceptions=True)
        assert all(isinstance(outcome, StoreError) for outcome in outcomes)
        for _ in range(1_000):
            with pytest.raises(StoreError, match="no answer within"):
                await store.census()
        redis.send_signal(signal.SIGCONT)
        # Whoever listens to the feed finds out for everybody.
        await eventually(works(store.census))


async def test_nothing_leaks_however_often_connections_are_cut(open_store: OpenStore) -> None:
    """Afterwards there are as many connections and tasks as at first, and the feed is whole."""
    async with redis_server() as redis, proxy_to(redis.port) as proxy:
        store = await open_store(f"redis://127.0.0.1:{proxy.port}")
        heard: list[FeedEntry] = []
        interruptions: list[None] = []
        store.follow(heard.append, lambda: interruptions.append(None))
        chance = random.Random(1)
        await put(store, "first")
        at_first = await clients(redis)
        tasks = {task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-")}
        for turn in range(60):
            await works(lambda turn=turn: put(store, f"u-{turn}"))()  # type: ignore[misc]
            proxy.cut(0.7, chance)
            await asyncio.sleep(chance.uniform(0, 0.02))

        async def heard_again() -> bool:
            before = len(heard)
            await works(lambda: put(store, f"new-{random.random()}"))()
            await asyncio.sleep(0.02)
            return len(heard) > before

        await eventually(heard_again)
        assert await clients(redis) <= at_first
        assert {task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-")} == tasks
        assert not interruptions, "the server is the same as before: it has forgotten nothing"


async def test_no_defect_ends_the_feed(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and tried again."""
    async with redis_server() as redis:
        store = await open_store(redis.url)
        heard: list[FeedEntry] = []
        store.follow(heard.append)
        tries = []

        async def refresh() -> None:
            tries.append(0)
            if len(tries) == 1:
                raise RuntimeError("a defect")

        monkeypatch.setattr(store._servers, "refresh", refresh)
        session = store.feed_session
        await redis.run("CLIENT", "KILL", "TYPE", "pubsub")

        async def followed() -> bool:
            return store.feed_session > session

        await eventually(followed)
        assert len(tries) > 1
        await put(store, "u")

        async def told() -> bool:
            return bool(heard)

        await eventually(told)


async def test_a_server_that_started_again_is_another_past(open_store: OpenStore) -> None:
    """Even one that kept its data may have lost the last of it: followers are told, once it is heard again."""
    async with redis_server("--appendonly", "yes") as redis:
        store = await open_store(redis.url)
        interrupted = asyncio.Event()
        store.follow(lambda _: None, interrupted.set)
        await put(store, "u")
        session = store.feed_session
        await redis.stop(gently=True)

        async def unheard() -> bool:
            return store.feed_session == 0

        await eventually(unheard)
        await redis.start()
        async with asyncio.timeout(30):
            await interrupted.wait()
        assert store.feed_session > session > 0
        assert await masks(store, "u") == [IOS]


async def test_a_partition_that_moves_is_followed(open_store: OpenStore) -> None:
    """To another master of the cluster, while the connection to the former one lives on."""
    async with redis_cluster(masters=2) as cluster:
        store = await open_store(cluster.url, partitions=1)
        heard: list[FeedEntry] = []
        interrupted = asyncio.Event()
        store.follow(heard.append, interrupted.set)
        await put(store, "before")
        await move(slot_of(0), *((0, 1) if slot_of(0) < 8192 else (1, 0)), cluster.servers)
        async with asyncio.timeout(30):
            await interrupted.wait()
        await eventually(works(lambda: put(store, "after")))
        assert await masks(store, "before", "after") == [IOS, IOS]
        await eventually(lambda: says_after(heard))


async def says_after(heard: list[FeedEntry]) -> bool:
    return any(change.user_id == "after" for entry in heard for change in entry.changes)


async def move(slot: int, source: int, target: int, servers: Sequence[RedisServer]) -> None:
    """Move a slot with its keys from one master to another, as redis-cli does."""
    giver, taker = servers[source], servers[target]
    giver_id, taker_id = await giver.run("CLUSTER", "MYID"), await taker.run("CLUSTER", "MYID")
    await taker.run("CLUSTER", "SETSLOT", slot, "IMPORTING", giver_id)
    await giver.run("CLUSTER", "SETSLOT", slot, "MIGRATING", taker_id)
    while keys := await giver.run("CLUSTER", "GETKEYSINSLOT", slot, 100):
        await giver.run("MIGRATE", "127.0.0.1", taker.port, "", 0, 5_000, "KEYS", *keys)
    for server in (taker, giver):
        await server.run("CLUSTER", "SETSLOT", slot, "NODE", taker_id)


async def test_a_master_that_dies_is_replaced_by_sentinel(open_store: OpenStore, tmp_path: Path) -> None:
    """The replica that Sentinel promotes is found by itself, and followers are told of the other past."""
    async with redis_server() as master, redis_server("--replicaof", "127.0.0.1", str(master.port)) as replica:
        await eventually(lambda: replicates(replica))
        sentinel = Sentinel(tmp_path, master)
        try:
            await sentinel.start()
            await eventually(lambda: knows_replica(sentinel))
            store = await open_store(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/main")
            interrupted = asyncio.Event()
            store.follow(lambda _: None, interrupted.set)
            await put(store, "before")
            await eventually(lambda: has_copied(master, replica))
            await master.stop()
            async with asyncio.timeout(60):
                await interrupted.wait()
            await eventually(works(lambda: put(store, "after")))
            assert await masks(store, "before", "after") == [IOS, IOS]
        finally:
            sentinel.kill()


async def replicates(replica: RedisServer) -> bool:
    return bool((await replica.run("ROLE"))[3] == b"connected")


async def has_copied(master: RedisServer, replica: RedisServer) -> bool:
    return bool((await replica.run("ROLE"))[4] >= (await master.run("ROLE"))[1])


async def knows_replica(sentinel: RedisServer) -> bool:
    return bool(await sentinel.run("SENTINEL", "REPLICAS", "main"))
