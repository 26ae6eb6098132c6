"""Faults of the real thing, with users coming and going: afterwards not one state is wrong, counted over all.

Short here; `make faults` gives them their full length (FAULTS=long).
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from unittest.mock import ANY

import grpc
import pytest

from adsum.adapters.redis.scripts import keys_of
from adsum.app.settings import Settings
from adsum.core.partition import user_hash
from adsum.proto import user_pb2 as pb
from tests.e2e.rpc import call
from tests.support.client import http_get
from tests.support.crowd import until
from tests.support.population import Population
from tests.support.proxy import proxy_to
from tests.support.redis import RedisServer, eventually, redis_cluster, redis_server
from tests.support.service import RunningService, running_service


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how many. Of a lease, renewal is every third."""

    lease_ms: int
    users: int
    reconnects_a_second: int
    churn_s: float
    outage_s: float
    cuts_s: float


SHORT = Scale(lease_ms=3_000, users=300, reconnects_a_second=60, churn_s=1, outage_s=2, cuts_s=6)
LONG = Scale(lease_ms=15_000, users=2_000, reconnects_a_second=150, churn_s=10, outage_s=5, cuts_s=30)
SCALE = LONG if os.environ.get("FAULTS") == "long" else SHORT

pytestmark = pytest.mark.timeout(900)


@contextlib.asynccontextmanager
async def nodes(count: int, store_url: str) -> AsyncIterator[list[RunningService]]:
    """Services that share a store."""
    async with contextlib.AsyncExitStack() as stack:
        flags = (f"--store={store_url}", f"--lease-ttl-ms={SCALE.lease_ms}", "--heartbeat-timeout-ms=600000")
        starting = [stack.enter_async_context(running_service(*flags)) for _ in range(count)]
        yield list(await asyncio.gather(*starting))


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


async def under_churn(
    people: Population, fault: Callable[[], Awaitable[None]], scale: Scale = SCALE, *, stay: bool = True
) -> None:
    """A third of the users stay all along and the others reconnect, before, while and after something fails.

    In the end all is as it should be. If those who `stay` can, because their gateways do,
    they were connected throughout and nobody heard anything else.
    """
    stayers, movers = names("stayer", scale.users // 3), names("mover", scale.users - scale.users // 3)
    await people.settle_in([*stayers, *movers], 20)
    await people.comes_true()
    over = asyncio.Event()

    async def play() -> None:
        await asyncio.sleep(scale.churn_s)
        await fault()
        await asyncio.sleep(scale.churn_s)
        over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(play())
        churn = group.create_task(people.churn(movers, scale.reconnects_a_second, over.is_set))
    assert churn.result()
    await people.comes_true()
    if stay:
        assert set(stayers) <= set(people.members), "connections stay, whatever the store does"
        assert not people.offlines_of(stayers), "who stayed was told to have gone"


async def test_killed_gateway_each_user_is_told_offline_once() -> None:
    """A gateway with 1,000 users is killed: watchers on another hear of each, once, when its lease is over."""
    async with redis_server() as redis, nodes(2, redis.url) as (doomed, other):
        users = names("user", 1_000)
        people = Population([other], seed=1)
        await people.settle_in(names("stayer", 100), 20)
        await people.settle_in(users, 0, doomed)
        watchers = names("watcher", 5)
        people.watched.update(dict.fromkeys(watchers, users))
        await people.come_all(watchers)
        await people.comes_true()
        doomed.process.kill()
        assert await until(lambda: not any(user in people.members for user in users))
        await people.comes_true(20 if SCALE is LONG else 60)
        assert people.offlines_of(users) == dict.fromkeys(users, len(watchers))
        assert not people.offlines_of(names("stayer", 100))


async def test_a_gateway_that_stood_still_comes_back() -> None:
    """Stopped for longer than its lease, its users are told offline once; when it goes on, online again.

    Its own watchers, who heard nothing meanwhile, are told of those alone who have left.
    """
    async with redis_server() as redis, nodes(2, redis.url) as (stopped, other):
        users, watchers = names("user", 200), names("watcher", 5)
        people = Population([other], seed=2)
        await people.settle_in(users, 0, stopped)
        people.watched.update(dict.fromkeys(watchers, users))
        await people.come_all(watchers)
        people.watched["beside"] = users
        await people.come("beside", stopped)
        await people.comes_true()
        stopped.process.send_signal(signal.SIGSTOP)
        listeners = [people.members[watcher] for watcher in watchers]
        told = lambda: all(member.heard[user] == () for member in listeners for user in users)  # noqa: E731
        assert await until(told)
        # Some have found another gateway by the time this one goes on, and some have left.
        for user in users[:80]:
            people.leave(user)
        await people.come_all(users[:40])
        stopped.process.send_signal(signal.SIGCONT)
        people.nodes.append(stopped)
        await people.comes_true()
        beside = people.members["beside"].offlines
        assert all(people.members[watcher].offlines == dict.fromkeys(users, 1) for watcher in watchers)
        assert not any(beside[user] for user in users[80:])


async def test_redis_comes_back_empty() -> None:
    """A store that forgot everything is told everything again."""
    async with redis_server() as redis, nodes(2, redis.url) as gateways:

        async def fault() -> None:
            await redis.stop()
            await redis.start()

        await under_churn(Population(gateways, seed=3), fault)


async def test_partitions_lose_single_keys() -> None:
    """One `DEL` each, while all leases live: who is connected is online again, and nobody is told otherwise."""
    async with redis_server() as redis, nodes(2, redis.url) as gateways:

        async def fault() -> None:
            for partition in range(Settings().partitions):
                keys = keys_of("adsum", partition)
                await redis.run("DEL", keys[partition % len(keys)])
                await asyncio.sleep(SCALE.churn_s / 10)

        await under_churn(Population(gateways, seed=10), fault)


async def test_a_partition_that_nobody_writes_to_loses_its_users() -> None:
    """No write shows it, and no lease is lost: the versions do."""
    async with redis_server() as redis, nodes(2, redis.url) as gateways:
        people = Population(gateways, seed=11)
        users = names("user", 100)
        await people.settle_in(users, 20)
        await people.comes_true()
        for partition in range(Settings().partitions):
            await redis.run("DEL", keys_of("adsum", partition)[0])
        assert await people.wrong_listing()
        await people.comes_true()
        assert not people.offlines_of(users)


async def test_redis_evicts_for_lack_of_memory() -> None:
    """Whatever it drops, and however often: once there is memory again, all comes right by itself."""
    async with redis_server("--maxmemory-policy", "allkeys-lru") as redis, nodes(2, redis.url) as gateways:
        people = Population(gateways, seed=12)

        async def fault() -> None:
            await redis.run("CONFIG", "SET", "maxmemory", (await memory(redis, "used_memory")) + 1_000_000)
            loop = asyncio.get_running_loop()
            ends = loop.time() + SCALE.outage_s
            filler = 0
            while loop.time() < ends or not await memory(redis, "evicted_keys"):
                filler += 1
                await redis.run("SET", f"filler:{filler}", "x" * 100_000)
            await redis.run("CONFIG", "SET", "maxmemory", 0)

        # Under pressure the store may forget faster than it is told, so some do go offline.
        await under_churn(people, fault, stay=False)
        assert await memory(redis, "evicted_keys")
        assert set(names("stayer", SCALE.users // 3)) <= set(people.members)


async def memory(redis: RedisServer, field: str) -> int:
    """A number that Redis tells of itself."""
    info = await redis.run("INFO", "memory", "stats")
    return int(info[field])


async def test_redis_is_away_for_a_while() -> None:
    """A store that was away is told what changed meanwhile, and what it forgot."""
    async with redis_server("--appendonly", "yes") as redis, nodes(2, redis.url) as gateways:

        async def fault() -> None:
            await redis.stop(gently=True)
            await asyncio.sleep(SCALE.outage_s)
            await redis.start()

        await under_churn(Population(gateways, seed=4), fault)


async def test_a_master_of_the_cluster_dies() -> None:
    """Its replica takes over, without some of the last writes: all is mended."""
    async with redis_cluster(3, 1) as cluster, nodes(3, cluster.url) as gateways:

        async def fault() -> None:
            await cluster.masters[0].stop()
            await eventually(lambda: cluster.took_over(cluster.replicas[0]))

        await under_churn(Population(gateways, seed=5), fault)


async def test_every_connection_to_redis_is_cut_at_random() -> None:
    """However often a call's outcome is unknown and the feed is lost, the end is right."""
    async with redis_server() as redis, proxy_to(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with nodes(2, url) as gateways:
            chance = random.Random(6)

            async def fault() -> None:
                loop = asyncio.get_running_loop()
                ends = loop.time() + SCALE.cuts_s
                while loop.time() < ends:
                    await asyncio.sleep(chance.uniform(0.05, 0.6))
                    proxy.cut(0.5, chance)

            await under_churn(Population(gateways, seed=6), fault)
            assert proxy.cuts


async def test_one_platform_on_two_gateways() -> None:
    """The same user and platform on two gateways, one of them closed, 20 times: nobody hears an offline."""
    async with redis_server() as redis, nodes(2, redis.url) as (left, right):
        people = Population([left, right], seed=7)
        signs = names("sign", 20)
        people.watched["watcher"] = ("user", *signs)
        assert await people.come("watcher", right)
        assert await people.come("user", left, 1)
        await eventually(lambda: held_by(redis, "user", 1))
        for sign, node in zip(signs, (right, left) * 10, strict=True):
            old = people.members["user"]
            assert await people.come("user", node, 1)
            await eventually(lambda: held_by(redis, "user", 2))
            old.drop()
            await eventually(lambda: held_by(redis, "user", 1))
            # Once the watcher hears of somebody who came later, it has heard whatever was said of the user.
            assert await people.come(sign, node)
            await people.comes_true()
        assert not people.offlines_of(["user"])


async def held_by(redis: RedisServer, user: str, count: int) -> bool:
    """Whether so many gateways hold a user, as its record says."""
    key = keys_of("adsum", user_hash(user) % Settings().partitions)[0]
    record = await redis.run("HGET", key, user)
    return record is not None and len(record.split(b",")) == count


async def test_redis_down_is_told_and_passes() -> None:
    """Meanwhile connections stay, questions fail at once with the store's error, and readiness names the store."""
    async with redis_server("--appendonly", "yes") as redis, nodes(1, redis.url) as (node,):
        people = Population([node], seed=8)
        users = names("user", 50)
        await people.settle_in(users, 10)
        await people.comes_true()
        assert await http_get(node, "/readyz") == (200, ANY)
        await redis.stop(gently=True)
        await eventually(lambda: says(node, "/readyz", 503, '"store":{"ok":false,"text":"127.0.0.1:'))
        assert (await http_get(node, "/livez"))[0] == 200
        for user in users[:20]:
            people.leave(user)
        await people.come_all(users[:10])
        request = pb.getUserStatusReq(userID="user-1", userIDs=users)
        for _ in range(50):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call(node.grpc, "getUserStatus", request, pb.getUserStatusResp.FromString)
            assert failure.value.details() == "ServerInternalError: the store cannot be reached"
        assert len(people.members) == 40
        await redis.start()
        await people.comes_true()
        await eventually(lambda: says(node, "/readyz", 200, '"ready":true'))
        assert len([line for line in node.log if "WARNING" in line or "ERROR" in line]) < 15, "".join(node.log)


async def says(node: RunningService, path: str, status: int, text: str) -> bool:
    """Whether a page answers so."""
    found = await http_get(node, path)
    return found[0] == status and text in found[1].replace(" ", "")


async def test_everything_at_once() -> None:
    """Three gateways on three masters, users coming and going all the while, and one fault after another."""
    scale = replace(LONG, users=5_000, reconnects_a_second=200) if SCALE is LONG else SCALE
    async with redis_cluster(3, 1) as cluster, nodes(3, cluster.url) as gateways, contextlib.AsyncExitStack() as later:
        people = Population(gateways, seed=9)

        async def fault() -> None:
            stopped, doomed = gateways[1:]
            people.nodes = gateways[:1]
            stopped.process.send_signal(signal.SIGSTOP)
            await cluster.masters[0].stop()
            await eventually(lambda: cluster.took_over(cluster.replicas[0]))
            doomed.process.kill()
            await asyncio.sleep(scale.churn_s)
            stopped.process.send_signal(signal.SIGCONT)
            await cluster.masters[0].start()
            people.nodes += [stopped, *await later.enter_async_context(nodes(1, cluster.url))]
            await asyncio.sleep(scale.churn_s)
            await cluster.masters[1].stop()
            await eventually(lambda: cluster.took_over(cluster.replicas[1]))
            await asyncio.sleep(scale.churn_s)

        await under_churn(people, fault, scale, stay=False)
        assert len(people.members) > scale.users // 3
