"""gRPC and WebSocket together: what is set by call is heard by clients, and the other way round."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from adsum.client.rpc import DETAILS_KEY
from adsum.proto import user_pb2 as pb
from adsum.proto.status_pb2 import Status
from adsum.wire.frames import CODECS
from tests.e2e.rpc import call, listed_users
from tests.support.client import client, metrics
from tests.support.service import RunningService, running_service

FLAGS = ("--page-size=5", "--max-users-per-call=100", "--max-watched-per-subscriber=20")

pytestmark = pytest.mark.asyncio(loop_scope="module")

IOS, ANDROID, WINDOWS, WEB = 1, 2, 3, 5
SUBSCRIBE, CANCEL = 1, 2

Users = dict[str, tuple[int, ...]]
T = TypeVar("T")


async def becomes(ask: Callable[[], Awaitable[T]], expected: T) -> None:
    """Ask until the answer is as expected: a client that comes or goes is written a moment later."""
    async with asyncio.timeout(10):
        while await ask() != expected:  # noqa: ASYNC110 - the service is in another process
            await asyncio.sleep(0.01)


async def set_status(service: RunningService, user_id: str, platform_id: int, *, online: bool) -> None:
    """Call setUserStatus."""
    request = pb.setUserStatusReq(userID=user_id, status=int(online), platformID=platform_id)
    await call(service.grpc, "setUserStatus", request, pb.setUserStatusResp.FromString)


async def set_online(service: RunningService, *edits: pb.userOnlineStatus) -> None:
    """Call setUserOnlineStatus."""
    request = pb.setUserOnlineStatusReq(status=edits)
    await call(service.grpc, "setUserOnlineStatus", request, pb.setUserOnlineStatusResp.FromString)


async def get_status(service: RunningService, *user_ids: str) -> list[tuple[str, int, tuple[int, ...]]]:
    """Call getUserStatus."""
    request = pb.getUserStatusReq(userID="caller", userIDs=user_ids)
    answer = await call(service.grpc, "getUserStatus", request, pb.getUserStatusResp.FromString)
    return [(status.userID, status.status, tuple(status.platformIDs)) for status in answer.statusList]


async def subscribe(service: RunningService, user_id: str, *user_ids: str, genre: int = SUBSCRIBE) -> Users:
    """Call subscribeOrCancelUsersStatus."""
    request = pb.subscribeOrCancelUsersStatusReq(userID=user_id, userIDs=user_ids, genre=genre)
    answer = await call(
        service.grpc, "subscribeOrCancelUsersStatus", request, pb.subscribeOrCancelUsersStatusResp.FromString
    )
    return {status.userID: tuple(status.platformIDs) for status in answer.statusList}


async def subscriptions(service: RunningService, user_id: str) -> Users:
    """Call getSubscribeUsersStatus."""
    request = pb.getSubscribeUsersStatusReq(userID=user_id)
    answer = await call(service.grpc, "getSubscribeUsersStatus", request, pb.getSubscribeUsersStatusResp.FromString)
    return {status.userID: tuple(status.platformIDs) for status in answer.statusList}


def bare(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method that takes and gives bytes."""
    return channel.unary_unary(f"/openim.user.user/{method}", bytes, bytes)


def code_of(error: grpc.aio.AioRpcError) -> int:
    """OpenIM's code in the details of an error."""
    trailers = dict(error.trailing_metadata() or ())
    details = trailers[DETAILS_KEY]
    assert isinstance(details, bytes)
    return Status.FromString(details).code


async def test_watchers_hear_what_is_set(service: RunningService) -> None:
    """By both calls, each whole edit as one change."""
    async with client(service, "watcher") as watcher:
        await watcher.watch("set", "other")
        await set_status(service, "set", ANDROID, online=True)
        await watcher.hears("set", ANDROID)
        await set_online(
            service,
            pb.userOnlineStatus(userID="set", connID="c", online=[WEB, IOS], offline=[ANDROID]),
            pb.userOnlineStatus(userID="other", online=[WINDOWS]),
        )
        await watcher.hears("set", IOS, WEB)
        await watcher.hears("other", WINDOWS)
        await set_online(service, pb.userOnlineStatus(userID="set", offline=[IOS, WEB, ANDROID]))
        await watcher.hears("set")
        await set_status(service, "other", WINDOWS, online=False)
        await watcher.hears("other")
        assert watcher.pushes_of("set") == [(ANDROID,), (IOS, WEB), ()]


async def test_a_platform_is_online_while_a_client_or_a_call_holds_it(service: RunningService) -> None:
    async with client(service, "watcher") as watcher:
        await watcher.watch("held", "marker")
        await set_status(service, "held", IOS, online=True)
        async with client(service, "held", IOS):
            await set_status(service, "held", IOS, online=False)
            assert await get_status(service, "held") == [("held", 1, (IOS,))]
            await set_status(service, "held", IOS, online=True)
        await set_status(service, "marker", IOS, online=True)
        await watcher.hears("marker", IOS)
        assert await get_status(service, "held") == [("held", 1, (IOS,))]
        await set_status(service, "held", IOS, online=False)
        await watcher.hears("held")
        assert watcher.pushes_of("held") == [(IOS,), ()]
        await set_status(service, "marker", IOS, online=False)


async def test_the_status_of_clients_by_call(service: RunningService) -> None:
    """In the order asked, offline and repeated users included."""
    async with client(service, "phone", IOS), client(service, "phone", WEB), client(service, "desk", WINDOWS) as desk:
        expected = [("nobody", 0, ()), ("desk", 1, (WINDOWS,)), ("phone", 1, (IOS, WEB)), ("desk", 1, (WINDOWS,))]
        await becomes(lambda: get_status(service, "nobody", "desk", "phone", "desk"), expected)
        await desk.watch("phone")
    async with client(service, "watcher") as watcher:
        await watcher.watch("phone")
        await watcher.hears("phone")
        assert await get_status(service, "phone") == [("phone", 0, ())]


async def test_a_deadline_that_passes_is_heard() -> None:
    """A platform set by call goes offline by itself unless it is set again; one with a client stays."""
    async with (
        running_service("--timed-ttl-ms=500", "--sweep-interval-ms=50") as service,
        client(service, "watcher") as watcher,
        client(service, "connected"),
    ):
        await watcher.watch("brief", "renewed", "connected")
        await set_online(
            service,
            pb.userOnlineStatus(userID="brief", online=[IOS, WEB]),
            pb.userOnlineStatus(userID="connected", online=[IOS]),
        )
        await watcher.hears("brief", IOS, WEB)
        renewals = asyncio.create_task(_renew(service))
        await watcher.hears("renewed", IOS)
        await watcher.hears("brief")
        renewals.cancel()
        await asyncio.gather(renewals, return_exceptions=True)
        await watcher.hears("renewed")
        assert watcher.pushes_of("renewed") == [(IOS,), ()]
        assert not watcher.pushes_of("connected")
        assert (await listed_users(service.grpc)).keys() == {"watcher", "connected"}


async def _renew(service: RunningService) -> None:
    while True:
        await set_status(service, "renewed", IOS, online=True)
        await asyncio.sleep(0.05)


async def test_subscriptions_are_pushed_to_all_connections(service: RunningService) -> None:
    """In each one's codec; also to those that come later; until they are cancelled."""
    assert await subscribe(service, "sub", "a", "b") == {"a": (), "b": ()}
    async with client(service, "sub", IOS) as one, client(service, "sub", WEB, CODECS[3]) as other:
        async with client(service, "a"):
            await one.hears("a", IOS)
            await other.hears("a", IOS)
            assert await subscriptions(service, "sub") == {"a": (IOS,), "b": ()}
            async with client(service, "sub", ANDROID) as late:
                await late.hears("a", IOS)
            assert await subscribe(service, "sub", "b", genre=CANCEL) == {}
        await one.hears("a")
        async with client(service, "b"), client(service, "a"):
            await one.hears("a", IOS)
            await other.hears("a", IOS)
        for each in (one, other):
            assert not [platforms for platforms in each.pushes_of("b") if platforms]
    offline: Users = {"a": ()}
    await becomes(lambda: subscriptions(service, "sub"), offline)
    await subscribe(service, "sub", "a", genre=CANCEL)
    assert await subscriptions(service, "sub") == {}


async def test_watching_and_subscribing_to_one_user(service: RunningService) -> None:
    """A connection that watches and a subscription of its user: each change comes once; ending one leaves the other."""
    await subscribe(service, "double", "friend")
    async with client(service, "double") as one:
        await one.watch("friend", "double-marker")
        async with client(service, "friend"):
            await one.hears("friend", IOS)
        await one.hears("friend")
        await set_status(service, "double-marker", IOS, online=True)
        await one.hears("double-marker", IOS)
        await set_status(service, "double-marker", IOS, online=False)
        assert [platforms for platforms in one.pushes_of("friend") if platforms] == [(IOS,)]
        await one.watch(drop=["friend"])
        async with client(service, "friend", WEB):
            await one.hears("friend", WEB)
        await one.watch("friend")
        await subscribe(service, "double", "friend", genre=CANCEL)
        async with client(service, "friend", ANDROID):
            await one.hears("friend", ANDROID)


async def test_subscribing_has_limits(service: RunningService) -> None:
    users = [f"user-{number}" for number in range(21)]
    await subscribe(service, "greedy", *users[:20])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await subscribe(service, "greedy", users[20])
    assert code_of(caught.value) == 1001
    assert len(await subscriptions(service, "greedy")) == 20
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await subscribe(service, "greedy", users[0], genre=3)
    assert code_of(caught.value) == 1001
    await subscribe(service, "greedy", *users[:20], genre=CANCEL)


async def test_the_listing_in_small_pages(service: RunningService) -> None:
    """Clients and users set by call, each once, on pages of about five."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(30):
            await stack.enter_async_context(client(service, f"listed-{number}", 1 + number % 3))
        edits = [pb.userOnlineStatus(userID=f"listed-set-{number}", online=[WEB]) for number in range(30)]
        await set_online(service, *edits)
        expected: Users = {f"listed-{number}": (1 + number % 3,) for number in range(30)}
        expected |= {edit.userID: (WEB,) for edit in edits}
        assert await listed_users(service.grpc) == expected
        request = pb.getAllOnlineUsersReq()
        page = await call(service.grpc, "getAllOnlineUsers", request, pb.getAllOnlineUsersResp.FromString)
        assert page.nextCursor
        assert len(page.StatusList) < 30
    await set_online(service, *(pb.userOnlineStatus(userID=edit.userID, offline=[WEB]) for edit in edits))
    async with client(service, "watcher") as watcher:
        await watcher.watch(*expected)
        for user_id in expected:
            await watcher.hears(user_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(
            service.grpc,
            "getAllOnlineUsers",
            pb.getAllOnlineUsersReq(cursor=2**63),
            pb.getAllOnlineUsersResp.FromString,
        )
    assert code_of(caught.value) == 1001


BAD_CALLS: list[tuple[str, Message]] = [
    ("setUserStatus", pb.setUserStatusReq(userID="", status=1, platformID=1)),
    ("setUserStatus", pb.setUserStatusReq(userID="x" * 257, status=1, platformID=1)),
    ("setUserStatus", pb.setUserStatusReq(userID="u", status=2, platformID=1)),
    ("setUserStatus", pb.setUserStatusReq(userID="u", status=1, platformID=0)),
    ("setUserStatus", pb.setUserStatusReq(userID="u", status=1, platformID=12)),
    ("setUserStatus", pb.setUserStatusReq(userID="u", status=1, platformID=-1)),
    ("setUserOnlineStatus", pb.setUserOnlineStatusReq(status=[pb.userOnlineStatus(userID="", online=[1])])),
    ("setUserOnlineStatus", pb.setUserOnlineStatusReq(status=[pb.userOnlineStatus(userID="u", online=[1, 63])])),
    ("getUserStatus", pb.getUserStatusReq()),
    ("getUserStatus", pb.getUserStatusReq(userIDs=["a", ""])),
    ("getUserStatus", pb.getUserStatusReq(userIDs=["a"] * 101)),
    ("subscribeOrCancelUsersStatus", pb.subscribeOrCancelUsersStatusReq(userIDs=["a"], genre=1)),
    ("subscribeOrCancelUsersStatus", pb.subscribeOrCancelUsersStatusReq(userID="u", genre=1)),
    ("getSubscribeUsersStatus", pb.getSubscribeUsersStatusReq()),
]


async def test_bad_arguments_are_told_and_change_nothing(service: RunningService) -> None:
    """OpenIM's code 1001; the user named stays offline."""
    for method, request in BAD_CALLS:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(service.grpc, method, request, Empty.FromString)
        assert code_of(caught.value) == 1001
        assert re.fullmatch(r"ArgsError: .+", caught.value.details() or "")
        assert dict(caught.value.trailing_metadata())["adsum-grpc-code"] == "INVALID_ARGUMENT"
    assert await get_status(service, "u") == [("u", 0, ())]


async def test_a_call_without_operation_id(service: RunningService) -> None:
    """The answer is gRPC's code 3, without a detail; an empty ID passes."""
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        method = bare(channel, "getUserStatus")
        request = pb.getUserStatusReq(userIDs=["u"]).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert DETAILS_KEY not in dict(caught.value.trailing_metadata() or ())
        await method(request, metadata=(("operationid", ""),))


async def test_a_batch_ends_at_its_first_bad_user(service: RunningService) -> None:
    """Those before it are applied; it and those after it are not."""
    edits = [
        pb.userOnlineStatus(userID="first", online=[IOS]),
        pb.userOnlineStatus(userID="second", online=[IOS, 99]),
        pb.userOnlineStatus(userID="third", online=[IOS]),
    ]
    with pytest.raises(grpc.aio.AioRpcError):
        await set_online(service, *edits)
    assert [online for _, online, _ in await get_status(service, "first", "second", "third")] == [1, 0, 0]
    await set_status(service, "first", IOS, online=False)


async def test_only_administrators_where_it_is_so_configured() -> None:
    async with running_service("--grpc-require-admin", "--admins=boss") as service:
        request = pb.getUserStatusReq(userIDs=["u"]).SerializeToString()
        async with grpc.aio.insecure_channel(service.grpc) as channel:
            for token, code in ((None, 1503), ("rubbish", 1503), (service.token("worker"), 1002)):
                metadata = [("operationid", "op"), *([("token", token)] if token else [])]
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await bare(channel, "getUserStatus")(request, metadata=tuple(metadata))
                assert code_of(caught.value) == code
            metadata = [("operationid", "op"), ("token", service.token("boss"))]
            await bare(channel, "getUserStatus")(request, metadata=tuple(metadata))


async def test_health(service: RunningService) -> None:
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            HealthCheckRequest.SerializeToString,
            HealthCheckResponse.FromString,
        )
        for name in ("", "openim.user.user"):
            answer = await check(HealthCheckRequest(service=name))
            assert answer.status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(HealthCheckRequest(service="no such service"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection(service: RunningService) -> None:
    """A caller that knows nothing finds the service and its six methods."""
    requests = [
        ServerReflectionRequest(list_services=""),
        ServerReflectionRequest(file_containing_symbol="openim.user.user"),
    ]
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        info = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        listed, described = [answer async for answer in info(iter(requests))]
    names = {found.name for found in listed.list_services_response.service}
    assert {"openim.user.user", "grpc.health.v1.Health"} <= names
    (user,) = FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0]).service
    assert {method.name for method in user.method} == {
        "setUserStatus",
        "setUserOnlineStatus",
        "getUserStatus",
        "getAllOnlineUsers",
        "subscribeOrCancelUsersStatus",
        "getSubscribeUsersStatus",
    }


async def test_calls_are_counted(service: RunningService) -> None:
    """By method and outcome."""
    ok = 'adsum_call_duration_seconds_count{method="getUserStatus",outcome="ok"}'
    bad = 'adsum_call_duration_seconds_count{method="getUserStatus",outcome="ArgsError"}'
    before = await metrics(service)
    await get_status(service, "u")
    with pytest.raises(grpc.aio.AioRpcError):
        await get_status(service)
    after = await metrics(service)
    assert after[ok] == before.get(ok, 0) + 1
    assert after[bad] == before.get(bad, 0) + 1


async def test_a_thousand_calls_at_once(service: RunningService) -> None:
    """Ten callers that set platforms on and off, as fast as they can: each user ends as the last call said."""
    users = [f"busy-{number}" for number in range(10)]

    async def set_many(user_id: str) -> None:
        async with grpc.aio.insecure_channel(service.grpc) as channel:
            method = bare(channel, "setUserStatus")
            for number in range(101):
                request = pb.setUserStatusReq(userID=user_id, status=1 - number % 2, platformID=IOS)
                await method(request.SerializeToString(), metadata=(("operationid", ""),))

    async with client(service, "watcher") as watcher:
        await watcher.watch(*users)
        async with asyncio.TaskGroup() as group:
            for user_id in users:
                group.create_task(set_many(user_id))
        assert await get_status(service, *users) == [(user_id, 1, (IOS,)) for user_id in users]
        await set_online(service, *(pb.userOnlineStatus(userID=user_id, offline=[IOS]) for user_id in users))
        for user_id in users:
            while not watcher.pushes_of(user_id) or watcher.heard[user_id]:
                await watcher.next()
