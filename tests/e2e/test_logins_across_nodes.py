"""What a login on one node does to the same user's connections on others, over a real Redis."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from adsum.adapters.tokens import JwtAuthenticator
from adsum.wire.messages import Op
from tests.e2e.conftest import check_log
from tests.support.client import Client, client, eventually, metrics, websocket
from tests.support.redis import redis_server
from tests.support.service import HOUR_MS, SECRET, RunningService, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

IOS, ANDROID, WINDOWS, WEB = 1, 2, 3, 5
KICKED = 'adsum_connections_closed_total{reason="kicked"}'

_serial = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes() -> AsyncIterator[tuple[RunningService, RunningService]]:
    """Two nodes of one service where one phone may be connected at a time."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        flags = (f"--store={redis.url}", "--login-policy=4")
        first = await stack.enter_async_context(running_service(*flags))
        second = await stack.enter_async_context(running_service(*flags))
        yield first, second
    for service in (first, second):
        check_log(service)


def new_token(user_id: str, platform_id: int = IOS) -> str:
    """A token unlike any other, also within the same second."""
    return JwtAuthenticator(SECRET).issue(user_id, platform_id, HOUR_MS + 1000 * next(_serial))


async def lives(connection: Client) -> bool:
    """Whether a connection still answers."""
    return not (await connection.ask(Op.NEWEST_SEQ)).err_code


async def apart() -> None:
    """Let so much time pass that logins before and after are not simultaneous: more than a write may take."""
    await asyncio.sleep(0.2)


async def refused(node: RunningService, user_id: str, token: str) -> bool:
    """Whether a node refuses a token as ended by a login."""
    try:
        connection = await websocket(node.url(user_id, token=token))
    except InvalidStatus as caught:
        return b'"errCode":1506' in caught.response.body
    await connection.close()
    return False


async def test_a_login_kicks_on_another_node(nodes: tuple[RunningService, RunningService]) -> None:
    """The other phone gets 2002 and a goodbye, once; watchers hear no offline in between; a PC stays."""
    first, second = nodes
    async with (
        client(first, "watcher", WINDOWS) as watcher,
        client(first, "moves", WINDOWS) as desktop,
        client(first, "moves", IOS) as old,
    ):
        await watcher.watch("moves")
        await watcher.hears("moves", IOS, WINDOWS)
        await apart()
        async with client(second, "moves", ANDROID) as new:
            code, _, before = await old.closed()
            assert [response.op for response in before] == [Op.KICKED]
            assert code == 1000
            await watcher.hears("moves", ANDROID, WINDOWS)
            assert await lives(new)
            assert await lives(desktop)
            assert () not in watcher.pushes_of("moves")


async def test_a_token_ended_on_one_node_is_refused_on_all(nodes: tuple[RunningService, RunningService]) -> None:
    """With 1506, wherever its owner comes back, whether a login here or there ended it."""
    for index, (here, there) in enumerate(itertools.product(nodes, nodes)):
        user = f"ended-{index}"
        token = new_token(user)
        async with client(here, user, token=token) as old:
            await apart()
            async with client(there, user, token=new_token(user)):
                await old.closed()
                for node in nodes:
                    await eventually(partial(refused, node, user, token))


async def test_a_reconnect_elsewhere_with_the_same_token_kicks_nobody(
    nodes: tuple[RunningService, RunningService],
) -> None:
    """A client that comes back through another node does not end itself."""
    first, second = nodes
    before = [(await metrics(node))[KICKED] for node in nodes]
    token = new_token("roams")
    async with client(first, "roams", token=token) as old, client(second, "roams", token=token) as new:
        for _ in range(3):
            assert await lives(old)
            assert await lives(new)
    assert [(await metrics(node))[KICKED] for node in nodes] == before


async def test_of_logins_at_the_same_moment_one_stays(nodes: tuple[RunningService, RunningService]) -> None:
    """Eight at once over two nodes, 20 times: seven are kicked, whichever they are, and one is left."""
    for number in range(20):
        user = f"race-{number}"
        async with AsyncExitStack() as stack:
            tokens = [new_token(user) for _ in range(8)]
            logins = [client(nodes[index % 2], user, token=token) for index, token in enumerate(tokens)]
            connections = await asyncio.gather(*(stack.enter_async_context(login) for login in logins))
            kicked: list[Client] = []

            async def wait(connection: Client, kicked: list[Client] = kicked) -> None:
                _, _, before = await connection.closed()
                assert [response.op for response in before] == [Op.KICKED]
                kicked.append(connection)

            waits = [asyncio.create_task(wait(connection)) for connection in connections]

            async def all_but_one(kicked: list[Client] = kicked) -> bool:
                return len(kicked) == 7

            await eventually(all_but_one)
            (left,) = (one for one in connections if one not in kicked)
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            assert await lives(left)


async def test_the_later_of_two_logins_stays(nodes: tuple[RunningService, RunningService]) -> None:
    """In turn on both nodes, each after the one before has been answered: only the last is there."""
    async with AsyncExitStack() as stack:
        connections: list[Client] = []
        for number in range(10):
            one = client(nodes[number % 2], "turns", token=new_token("turns"))
            connections.append(await stack.enter_async_context(one))
            await apart()
        for connection in connections[:-1]:
            await connection.closed()
        assert await lives(connections[-1])
