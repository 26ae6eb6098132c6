"""OpenIM's keys in a Redis of its own: two nodes keep them, and one of them is killed."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest

from adsum.app.settings import Settings
from adsum.proto import user_pb2 as pb
from tests.e2e.rpc import call
from tests.support.client import http_get, metric_is, metrics
from tests.support.population import Population
from tests.support.redis import RedisServer, eventually, redis_server
from tests.support.service import RunningService, running_service

pytestmark = pytest.mark.timeout(300)

LEASE_MS = 2_000


def flags(store: RedisServer, copy: RedisServer) -> tuple[str, ...]:
    return (
        f"--store={store.url}",
        f"--projection-url={copy.url}",
        f"--lease-ttl-ms={LEASE_MS}",
        "--heartbeat-timeout-ms=600000",
    )


@contextlib.asynccontextmanager
async def nodes(count: int, store: RedisServer, copy: RedisServer) -> AsyncIterator[list[RunningService]]:
    async with contextlib.AsyncExitStack() as stack:
        starting = [stack.enter_async_context(running_service(*flags(store, copy))) for _ in range(count)]
        yield list(await asyncio.gather(*starting))


async def copied(copy: RedisServer) -> dict[str, tuple[int, ...]]:
    """Who is online as OpenIM's services read it."""
    users: dict[str, tuple[int, ...]] = {}
    async with copy.client() as client:
        now_s = (await client.time())[0]
        async for key in client.scan_iter("ONLINE:*", count=1_000):
            members: list[bytes] = await client.execute_command("ZRANGEBYSCORE", key, now_s, "+inf")  # type: ignore[no-untyped-call]
            if members:
                users[key.decode().removeprefix("ONLINE:")] = tuple(sorted(map(int, members)))
    return users


class Subscriber:
    """Hears `online_change`, as OpenIM's services do."""

    def __init__(self) -> None:
        self.heard: dict[str, tuple[int, ...]] = {}

    async def listen(self, copy: RedisServer, ready: asyncio.Event) -> None:
        async with copy.client() as client, client.pubsub() as pubsub:
            await pubsub.subscribe("online_change")
            async for message in pubsub.listen():
                ready.set()
                if message["type"] == "message":
                    *platforms, user = message["data"].decode().split(":")
                    self.heard[user] = tuple(sorted(map(int, platforms)))


@contextlib.asynccontextmanager
async def subscriber(copy: RedisServer) -> AsyncIterator[Subscriber]:
    made, ready = Subscriber(), asyncio.Event()
    task = asyncio.create_task(made.listen(copy, ready))
    await ready.wait()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_node_is_killed_while_users_come_and_go() -> None:
    """Afterwards the keys are the presence, and the last word of each user was published."""
    async with redis_server() as store, redis_server() as copy, nodes(2, store, copy) as (doomed, other):
        users = [f"user-{number}" for number in range(300)]
        people = Population([doomed, other], seed=1)
        async with subscriber(copy) as heard:
            await people.settle_in(users, 0)
            killed, over = asyncio.Event(), asyncio.Event()

            async def kill() -> None:
                await asyncio.sleep(1)
                people.nodes = [other]
                doomed.process.kill()
                killed.set()
                await asyncio.sleep(LEASE_MS / 1000)
                over.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(kill())
                churn = group.create_task(people.churn(users, 100, over.is_set))
            assert churn.result()
            await people.comes_true()

            async def is_copied() -> bool:
                return await copied(copy) == people.truth()

            async def is_heard() -> bool:
                return {user: last for user, last in heard.heard.items() if last} == people.truth()

            await eventually(is_copied)
            await eventually(is_heard)
            await metric_is(other, 'adsum_owned_partitions{role="projection"}', Settings().partitions)
            people.disperse()
            await eventually(is_copied)
            await eventually(is_heard)


async def test_a_node_stands_still_while_users_come_and_go() -> None:
    """Another takes its partitions; when it goes on it writes nothing that is out of date, and gets its share again."""
    async with redis_server() as store, redis_server() as copy, nodes(2, store, copy) as (stopped, other):
        owned = 'adsum_owned_partitions{role="projection"}'
        await metric_is(other, owned, Settings().partitions // 2)
        users = [f"user-{number}" for number in range(100)]
        people = Population([stopped, other], seed=2)
        await people.settle_in(users, 0)
        people.nodes = [other]
        over = asyncio.Event()

        async def stand_still() -> None:
            await asyncio.sleep(0.5)
            stopped.process.send_signal(signal.SIGSTOP)
            await metric_is(other, owned, Settings().partitions)
            await asyncio.sleep(0.5)
            stopped.process.send_signal(signal.SIGCONT)
            await metric_is(other, owned, Settings().partitions // 2)
            over.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(stand_still())
            group.create_task(people.churn(users, 100, over.is_set))
        people.nodes = [stopped, other]
        await people.comes_true()

        async def is_copied() -> bool:
            return await copied(copy) == people.truth()

        await eventually(is_copied)


async def test_who_was_online_before_is_copied_and_a_lost_copy_is_made_again() -> None:
    """The copy is away at first, which disturbs nobody; it loses all later, and has it again after a failure."""
    async with redis_server() as store, redis_server() as copy:
        async with running_service(f"--store={store.url}") as before:
            await set_online(before, {f"user-{number}": [1, 5] for number in range(2_000)})
        await copy.stop()
        async with nodes(1, store, copy) as (node,):
            await set_online(node, {"late": [2]})
            status, page = await http_get(node, "/readyz")
            assert status == 200
            assert "projection" in page
            await eventually(lambda: is_lagging(node))
            await copy.start()
            wanted = {f"user-{number}": (1, 5) for number in range(2_000)} | {"late": (2,)}

            async def whole() -> bool:
                return await copied(copy) == wanted

            await eventually(whole)
            await metric_is(node, "adsum_projection_waiting_users", 0)
            await copy.stop()
            await set_online(node, {"last": [3]})
            await eventually(lambda: is_lagging(node))
            await copy.start()
            wanted["last"] = (3,)
            await eventually(whole)


async def is_lagging(node: RunningService) -> bool:
    return (await metrics(node))["adsum_projection_lag_seconds"] > 0


async def set_online(node: RunningService, users: dict[str, list[int]]) -> None:
    status = [pb.userOnlineStatus(userID=user, online=platforms) for user, platforms in users.items()]
    request = pb.setUserOnlineStatusReq(status=status)
    await call(node.grpc, "setUserOnlineStatus", request, pb.setUserOnlineStatusResp.FromString)
