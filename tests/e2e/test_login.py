"""What a login does to the same user's other connections, under each policy."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc.aio
import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from adsum.adapters.tokens import JwtAuthenticator
from adsum.proto import user_pb2 as pb
from adsum.proto.status_pb2 import Status
from adsum.wire.frames import CODECS
from adsum.wire.messages import Op
from tests.e2e.conftest import check_log
from tests.e2e.rpc import call
from tests.support.client import Client, client, metrics, websocket
from tests.support.receiver import Receiver, receiver
from tests.support.service import HOUR_MS, SECRET, RunningService, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

KICKED = 'adsum_connections_closed_total{reason="kicked"}'

ASK, ANSWER = pb.getUserStatusReq(userIDs=["boss"]), pb.getUserStatusResp.FromString

IOS, ANDROID, WINDOWS, OSX, WEB, MINI_WEB, LINUX, APAD, IPAD, ADMIN, HARMONY = range(1, 12)

EXPECTED: dict[int, dict[tuple[int, int], bool]] = {
    0: {(IOS, IOS): False, (IOS, ANDROID): False},
    1: {(IOS, IOS): True, (IOS, ANDROID): False, (WEB, WEB): True, (WINDOWS, OSX): False, (WINDOWS, WINDOWS): True},
    4: {
        (IOS, IOS): True,
        (IOS, ANDROID): True,
        (HARMONY, IOS): True,
        (IOS, WEB): False,
        (WINDOWS, LINUX): True,
        (WEB, MINI_WEB): False,
        (APAD, IPAD): True,
        (APAD, IOS): False,
        (ADMIN, IOS): False,
    },
    5: {
        (IOS, ANDROID): True,
        (WEB, IOS): True,
        (IOS, WEB): True,
        (IPAD, ADMIN): True,
        (WINDOWS, OSX): False,
        (WINDOWS, WINDOWS): False,
        (IOS, WINDOWS): False,
        (WINDOWS, IOS): False,
    },
}
"""By policy: whether a login on the first platform ends a connection on the second."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hooks() -> AsyncIterator[Receiver]:
    """Receives the webhooks of all services here."""
    async with receiver() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(hooks: Receiver) -> AsyncIterator[dict[int, RunningService]]:
    """A service for each policy."""
    async with AsyncExitStack() as stack:
        running: dict[int, RunningService] = {}
        for policy in EXPECTED:
            flags = ("--log-level=debug", f"--login-policy={policy}", f"--webhook-url={hooks.url}")
            running[policy] = await stack.enter_async_context(running_service(*flags))
        yield running
    for service in running.values():
        check_log(service)


def another_token(user_id: str, platform_id: int) -> str:
    """A token other than those of `service.token`, also within the same second."""
    return JwtAuthenticator(SECRET).issue(user_id, platform_id, HOUR_MS * 2)


def code_of(error: grpc.aio.AioRpcError) -> int:
    """OpenIM's number, which is in the details."""
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    return Status.FromString(details if isinstance(details, bytes) else b"").code


@pytest.mark.parametrize(
    ("policy", "newcomer", "other", "kicked"),
    [(policy, *pair, kicked) for policy, pairs in EXPECTED.items() for pair, kicked in pairs.items()],
)
async def test_whom_a_login_kicks(
    services: dict[int, RunningService],
    policy: int,
    newcomer: int,
    other: int,
    kicked: bool,  # noqa: FBT001
) -> None:
    """One who is kicked gets 2002 and a goodbye; watchers end with the platforms that are left, and hear no offline."""
    service = services[policy]
    user = f"user-{newcomer}-{other}"
    codec = CODECS[(newcomer + other) % 4]
    async with client(service, "watcher", WINDOWS) as watcher, client(service, user, other, codec) as old:
        await watcher.watch(user)
        async with client(service, user, newcomer, token=another_token(user, newcomer)) as new:
            if kicked:
                code, _, before = await old.closed()
                assert [response.op for response in before] == [Op.KICKED]
                assert not before[0].data
                assert not before[0].msg_incr
                assert code == 1000
            await watcher.hears(user, *sorted({newcomer} if kicked else {newcomer, other}))
            assert not (await new.ask(Op.NEWEST_SEQ)).err_code
            if not kicked:
                assert not (await old.ask(Op.NEWEST_SEQ)).err_code
        assert () not in watcher.pushes_of(user)


@pytest.mark.parametrize("policy", [1, 4, 5])
async def test_a_kicked_token_is_refused(services: dict[int, RunningService], policy: int) -> None:
    """With 1506, as long as the service lives; the new token connects again, and again."""
    service = services[policy]
    old_url = service.url("repeats")
    async with websocket(old_url) as ws:
        old = Client(ws, "repeats", CODECS[0])
        async with client(service, "repeats", token=another_token("repeats", IOS)):
            await old.closed()
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                await websocket(old_url)
            assert b'"errCode":1506' in caught.value.response.body
        for _ in range(2):
            async with client(service, "repeats", token=another_token("repeats", IOS)) as new:
                assert not (await new.ask(Op.NEWEST_SEQ)).err_code


async def test_an_ended_token_opens_no_port() -> None:
    """However its signature is written; also not the gRPC port to an administrator."""
    async with running_service("--login-policy=1", "--grpc-require-admin", "--admins=boss") as service:
        old_token = service.token("boss")
        async with client(service, "boss", token=old_token) as old:
            await call(service.grpc, "getUserStatus", ASK, ANSWER, old_token)
            async with client(service, "boss", token=another_token("boss", IOS)) as new:
                await old.closed()
                for token in (old_token, f"{old_token}=", f"{old_token}=="):
                    refused = 1506 if token == old_token else 1503
                    with pytest.raises(InvalidStatus) as caught:
                        await websocket(service.url("boss", token=token))
                    assert b'"errCode":%d' % refused in caught.value.response.body
                    with pytest.raises(grpc.aio.AioRpcError) as failed:
                        await call(service.grpc, "getUserStatus", ASK, ANSWER, token)
                    assert code_of(failed.value) == refused
                assert not (await new.ask(Op.NEWEST_SEQ)).err_code


@pytest.mark.parametrize("policy", [1, 4, 5])
async def test_a_reconnect_with_the_same_token_kicks_nobody(services: dict[int, RunningService], policy: int) -> None:
    service = services[policy]
    before = (await metrics(service))[KICKED]
    token = service.token("roams")
    async with client(service, "roams", token=token) as old, client(service, "roams", token=token) as new:
        for one in (old, new):
            assert not (await one.ask(Op.NEWEST_SEQ)).err_code
    assert (await metrics(service))[KICKED] == before


async def test_the_same_platform_is_never_heard_offline_by_a_kick(services: dict[int, RunningService]) -> None:
    """20 logins in turn, each of which kicks the one before: to watchers the user is just online."""
    async with AsyncExitStack() as stack:
        service = services[1]
        watcher = await stack.enter_async_context(client(service, "watcher", WINDOWS))
        await watcher.watch("turns", "marker")
        last: Client | None = None
        for number in range(20):
            token = JwtAuthenticator(SECRET).issue("turns", IOS, HOUR_MS + 1000 * number)
            new = await stack.enter_async_context(client(service, "turns", IOS, token=token))
            if last:
                await last.closed()
            last = new
        await stack.enter_async_context(client(service, "marker"))
        await watcher.hears("marker", IOS)
        assert watcher.pushes_of("turns") == [(IOS,)]


async def test_a_kick_is_told_by_webhook(services: dict[int, RunningService], hooks: Receiver) -> None:
    """Besides the platform's offline, which is told only where it is one."""
    service = services[4]
    newcomer = client(service, "hooked", ANDROID, token=another_token("hooked", ANDROID))
    async with client(service, "hooked", IOS) as old, newcomer:
        await old.closed()
        events = await hooks.events_of("hooked", 4)
    told = {(hook.command, hook.body["platformID"]) for hook in events}
    assert told == {
        ("callbackAfterUserOnlineCommand", IOS),
        ("callbackAfterUserOfflineCommand", IOS),
        ("callbackAfterUserOnlineCommand", ANDROID),
        ("callbackAfterUserKickOffCommand", IOS),
    }
    (kick,) = [hook for hook in events if hook.command == "callbackAfterUserKickOffCommand"]
    assert set(kick.body) == {"callbackCommand", "operationID", "platformID", "platform", "userID", "seq"}
    assert kick.body["platform"] == "IOS"
