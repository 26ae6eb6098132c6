"""The six methods as a gRPC client sees them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from adsum.adapters.memory import MemoryStore
from adsum.adapters.rpc.server import RpcServer
from adsum.adapters.rpc.user import AdminGate, UserService
from adsum.adapters.tokens import JwtAuthenticator
from adsum.domain.errors import StoreError
from adsum.domain.presence import Cause
from adsum.ports import Meter
from adsum.proto import user_pb2 as pb
from adsum.proto.errinfo_pb2 import ErrorInfo
from adsum.proto.status_pb2 import Status
from adsum.service.presence import Presence

Metadata = tuple[tuple[str, str], ...]
OPERATION: Metadata = (("operationid", "op1"),)


class Refused(NamedTuple):
    """What a failed call told: OpenIM's code (from the details) or gRPC's, message, cause (if any)."""

    code: int
    message: str
    cause: str | None


async def call(channel: grpc.aio.Channel, request: Message, metadata: Metadata = OPERATION) -> Any:  # noqa: ANN401
    """The reply to a request; its message's name tells the method."""
    method = request.DESCRIPTOR.name.removesuffix("Req")
    reply_type: type[Message] = getattr(pb, f"{method}Resp")
    stub: grpc.aio.UnaryUnaryMultiCallable[Message, Message] = channel.unary_unary(
        f"/openim.user.user/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reply_type.FromString,
    )
    return await stub(request, metadata=metadata, timeout=10)


async def refused(channel: grpc.aio.Channel, request: Message, metadata: Metadata = OPERATION) -> Refused:
    """How a request is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, request, metadata)
    return told(caught.value)


def told(error: grpc.aio.AioRpcError) -> Refused:
    trailers = dict(error.trailing_metadata())
    body = trailers.get("grpc-status-details-bin")
    if body is None:
        return Refused(error.code().value[0], error.details() or "", None)
    status = Status.FromString(body)
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert error.details() == f"{status.message}: {info.cause}"
    return Refused(status.code, status.message, info.cause)


def online(*users: tuple[str, Sequence[int]]) -> pb.setUserOnlineStatusReq:
    return pb.setUserOnlineStatusReq(status=[pb.userOnlineStatus(userID=user, online=ids) for user, ids in users])


def rows(statuses: Sequence[pb.onlineStatus]) -> list[tuple[str, int, list[int]]]:
    return [(status.userID, status.status, list(status.platformIDs)) for status in statuses]


async def test_platforms_are_told_ascending_and_offline_users_too(channel: grpc.aio.Channel) -> None:
    await call(channel, online(("ann", [5, 1]), ("bob", [2])))
    reply = await call(channel, pb.getUserStatusReq(userIDs=["nobody", "ann", "bob", "ann"]))
    assert rows(reply.statusList) == [("nobody", 0, []), ("ann", 1, [1, 5]), ("bob", 1, [2]), ("ann", 1, [1, 5])]


async def test_one_platform_is_set_online_and_offline(channel: grpc.aio.Channel, store: MemoryStore) -> None:
    causes: list[Cause] = []
    store.follow(lambda entry: causes.extend(change.cause for change in entry.changes))
    on = pb.setUserStatusReq(userID="ann", status=1, platformID=5, connID="c7", isBackground=True)
    assert await call(channel, on) == pb.setUserStatusResp()
    assert rows((await call(channel, pb.getUserStatusReq(userIDs=["ann"]))).statusList) == [("ann", 1, [5])]
    await call(channel, pb.setUserStatusReq(userID="ann", status=0, platformID=5))
    assert rows((await call(channel, pb.getUserStatusReq(userIDs=["ann"]))).statusList) == [("ann", 0, [])]
    assert causes == [("c7", True), ("", False)]


async def test_platforms_of_one_user_go_on_and_off_in_one_edit(channel: grpc.aio.Channel) -> None:
    await call(channel, online(("ann", [1, 2])))
    edit = pb.userOnlineStatus(userID="ann", connID="c1", online=[3], offline=[1])
    assert await call(channel, pb.setUserOnlineStatusReq(status=[edit])) == pb.setUserOnlineStatusResp()
    reply = await call(channel, pb.getUserStatusReq(userIDs=["ann"]))
    assert rows(reply.statusList) == [("ann", 1, [2, 3])]


async def test_the_edits_before_a_bad_one_are_applied(channel: grpc.aio.Channel) -> None:
    bad = await refused(channel, online(("ann", [1]), ("bob", [1, 63]), ("cid", [1])))
    assert (bad.code, bad.message) == (1001, "ArgsError")
    reply = await call(channel, pb.getUserStatusReq(userIDs=["ann", "bob", "cid"]))
    assert [status.status for status in reply.statusList] == [1, 0, 0]


async def test_pages_show_every_online_user(channel: grpc.aio.Channel) -> None:
    users = [f"user-{number}" for number in range(95)]
    await call(channel, online(*((user, [2, 1]) for user in users)))
    seen: list[str] = []
    cursor, pages = 0, 0
    while cursor or not pages:
        page = await call(channel, pb.getAllOnlineUsersReq(cursor=cursor))
        assert all((status.status, list(status.platformIDs)) == (1, [1, 2]) for status in page.StatusList)
        seen += [status.userID for status in page.StatusList]
        cursor, pages = page.nextCursor, pages + 1
    assert sorted(seen) == sorted(users)
    assert pages > 1


async def test_a_cursor_is_any_uint64(channel: grpc.aio.Channel) -> None:
    bad = await refused(channel, pb.getAllOnlineUsersReq(cursor=2**64 - 1))
    assert bad.code == 1001
    assert bad.cause is not None
    assert str(2**64 - 1) in bad.cause


async def test_subscribing_tells_the_present_and_cancelling_nothing(channel: grpc.aio.Channel) -> None:
    await call(channel, online(("bob", [1])))
    subscribe = pb.subscribeOrCancelUsersStatusReq(userID="ann", userIDs=["bob", "cid"], genre=1)
    assert rows((await call(channel, subscribe)).statusList) == [("bob", 1, [1]), ("cid", 0, [])]
    await call(channel, online(("cid", [5])))
    mine = pb.getSubscribeUsersStatusReq(userID="ann")
    assert rows((await call(channel, mine)).statusList) == [("bob", 1, [1]), ("cid", 1, [5])]
    cancel = pb.subscribeOrCancelUsersStatusReq(userID="ann", userIDs=["bob"], genre=2)
    assert rows((await call(channel, cancel)).statusList) == []
    assert rows((await call(channel, mine)).statusList) == [("cid", 1, [5])]


@pytest.mark.parametrize(
    ("request_message", "cause"),
    [
        (pb.getUserStatusReq(userID="me"), "UserIDs is empty"),
        (pb.getUserStatusReq(userIDs=["ann", ""]), "userID is empty"),
        (pb.getUserStatusReq(userIDs=["x" * 17]), "userID is longer than 16 bytes"),
        (pb.getUserStatusReq(userIDs=["x"] * 101), "too many users in one call: at most 100"),
        (pb.setUserStatusReq(userID="ann", status=2, platformID=1), "unknown status 2: use 1 (online) or 0 (offline)"),
        (
            pb.subscribeOrCancelUsersStatusReq(userID="ann", userIDs=["bob"]),
            "unknown genre 0: use 1 (subscribe) or 2 (cancel)",
        ),
        (pb.getSubscribeUsersStatusReq(), "userID is empty"),
        (
            pb.setUserStatusReq(userID="ann", status=1, platformID=1, connID="c" * 257),
            "connID is longer than 256 bytes",
        ),
    ],
    ids=lambda value: value.DESCRIPTOR.name if isinstance(value, Message) else None,
)
async def test_bad_arguments_are_1001_and_name_the_cause(
    channel: grpc.aio.Channel, request_message: Message, cause: str
) -> None:
    assert await refused(channel, request_message) == (1001, "ArgsError", cause)


async def test_a_negative_platform_is_refused(channel: grpc.aio.Channel) -> None:
    bad = await refused(channel, pb.setUserStatusReq(userID="ann", status=1, platformID=-1))
    assert bad.code == 1001
    assert "unknown platform -1" in (bad.cause or "")


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x12\x02\xff\xfe"], ids=["tag", "cut", "utf8"])
async def test_bytes_that_are_no_message_are_a_bad_argument(channel: grpc.aio.Channel, body: bytes) -> None:
    raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/openim.user.user/getUserStatus")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw(body, metadata=OPERATION, timeout=10)
    assert told(caught.value) == (1001, "ArgsError", "the request is not a valid openim.user.getUserStatusReq")


async def test_a_call_needs_an_operation_id(channel: grpc.aio.Channel) -> None:
    request = pb.getUserStatusReq(userIDs=["ann"])
    assert await refused(channel, request, ()) == (3, "operationID error", None)
    await call(channel, request, (("operationid", ""),))


async def test_a_failing_store_is_openims_500(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it is, and what it said, has the log."""

    async def read(_user_ids: Sequence[str]) -> list[int]:
        raise StoreError("127.0.0.1:6379: connection refused")

    monkeypatch.setattr(MemoryStore, "masks", staticmethod(read))
    bad = await refused(channel, pb.getUserStatusReq(userIDs=["ann"]))
    assert bad == (500, "ServerInternalError", "the store cannot be reached")
    assert "the store failed 1 calls; the last: 127.0.0.1:6379: connection refused" in caplog.text


async def test_a_defect_is_logged_and_not_told(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(_user_ids: Sequence[str]) -> list[int]:
        raise ZeroDivisionError("inner detail")

    monkeypatch.setattr(MemoryStore, "masks", staticmethod(read))
    metadata = (*OPERATION, ("token", "s3cret"))
    bad = await refused(channel, pb.getUserStatusReq(userIDs=["ann"]), metadata)
    assert (bad.code, bad.message) == (500, "ServerInternalError")
    assert "inner detail" not in (bad.cause or "")
    assert "inner detail" in caplog.text
    assert "getUserStatus failed, operation ID 'op1'" in caplog.text
    assert "s3cret" not in caplog.text


async def test_calls_are_counted_by_method_and_outcome(
    channel: grpc.aio.Channel, queries: list[tuple[str, str, float]]
) -> None:
    await call(channel, pb.getUserStatusReq(userIDs=["ann"]))
    await refused(channel, pb.getUserStatusReq())
    await refused(channel, pb.getAllOnlineUsersReq(), ())
    assert [query[:2] for query in queries] == [
        ("getUserStatus", "ok"),
        ("getUserStatus", "ArgsError"),
        ("getAllOnlineUsers", "operationID error"),
    ]
    assert all(seconds >= 0 for _, _, seconds in queries)


async def test_a_call_its_client_gave_up_is_counted(
    channel: grpc.aio.Channel,
    meter: Meter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered = asyncio.Event()
    counted: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()

    async def read(_user_ids: Sequence[str]) -> list[int]:
        entered.set()
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(MemoryStore, "masks", staticmethod(read))
    monkeypatch.setattr(meter, "query", lambda method, outcome, _seconds: counted.set_result((method, outcome)))
    pending = asyncio.create_task(call(channel, pb.getUserStatusReq(userIDs=["ann"])))
    await entered.wait()
    pending.cancel()
    assert await asyncio.wait_for(counted, 10) == ("getUserStatus", "Cancelled")


AUTHENTICATOR = JwtAuthenticator("a secret of the tests, long enough")
ENDED = AUTHENTICATOR.issue("imAdmin", 10, 7_200_000)


@pytest.fixture
async def gated(presence: Presence, meter: Meter) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server that serves administrators only."""
    ended = {AUTHENTICATOR.verify(ENDED).digest}
    gate = AdminGate(AUTHENTICATOR, frozenset({"imAdmin"}), lambda digest: digest in ended)
    server = RpcServer(UserService(presence, meter, gate))
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


@pytest.mark.parametrize(
    ("token", "code", "name"),
    [
        (None, 1503, "TokenMalformedError"),
        ("", 1503, "TokenMalformedError"),
        (AUTHENTICATOR.issue("imAdmin", 10, -3_600_000), 1501, "TokenExpiredError"),
        (JwtAuthenticator("the secret of another service").issue("imAdmin", 10, 3_600_000), 1505, "TokenUnknownError"),
        (AUTHENTICATOR.issue("ann", 10, 3_600_000), 1002, "NoPermissionError"),
        (ENDED, 1506, "TokenKickedError"),
        (f"{ENDED}=", 1503, "TokenMalformedError"),
    ],
    ids=["absent", "empty", "expired", "forged", "no-admin", "ended", "ended-and-padded"],
)
async def test_the_gate_refuses_all_but_administrators(
    gated: grpc.aio.Channel, token: str | None, code: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = OPERATION if token is None else (*OPERATION, ("token", token))
    bad = await refused(gated, pb.getUserStatusReq(userIDs=["bob"]), metadata)
    assert (bad.code, bad.message) == (code, name)
    assert not token or token not in f"{caplog.text} {bad.cause}"


async def test_the_gate_lets_an_administrator_pass(gated: grpc.aio.Channel) -> None:
    metadata = (*OPERATION, ("token", AUTHENTICATOR.issue("imAdmin", 10, 3_600_000)))
    reply = await call(gated, pb.getUserStatusReq(userIDs=["bob"]), metadata)
    assert rows(reply.statusList) == [("bob", 0, [])]


@pytest.mark.parametrize("tag", [b"\x0a", b"\x8a\x00"])
async def test_too_many_edits_are_refused_before_they_are_decoded(channel: grpc.aio.Channel, tag: bytes) -> None:
    """However their tag is written; what follows them is no message, and that is not found out."""
    stub: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/openim.user.user/setUserOnlineStatus")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub((tag + b"\x00") * 101 + b"\xff", metadata=OPERATION, timeout=10)
    assert told(caught.value) == Refused(1001, "ArgsError", "too many users in one call: at most 100")


async def test_an_edit_names_only_so_many_platforms(channel: grpc.aio.Channel) -> None:
    refusal = await refused(channel, online(("ann", [1] * 101)))
    assert refusal == Refused(1001, "ArgsError", "more than 100 platform IDs for one user")
