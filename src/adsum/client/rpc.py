"""A client of `openim.user.user`, the service's gRPC port.

Answers come as the values the WebSocket client uses too, and errors with OpenIM's
code and the sentence from `grpc-status-details-bin`, which gRPC itself shows
nobody.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from adsum.client.errors import ClientError, ServerError, Unreachable
from adsum.core.opids import OpIds
from adsum.domain.presence import OFFLINE, ONLINE
from adsum.proto import user_pb2 as pb
from adsum.proto.errinfo_pb2 import ErrorInfo
from adsum.proto.status_pb2 import Status
from adsum.wire.protobuf import UserStatus

SERVICE_NAME = "openim.user.user"
DETAILS_KEY = "grpc-status-details-bin"
CALL_S = 10
MAX_ANSWER_BYTES = 64 * 1024 * 1024
SUBSCRIBE = 1
CANCEL = 2

RECONNECT_MIN_MS, RECONNECT_MAX_MS = 200, 2_000

AnswerT = TypeVar("AnswerT", bound=Message)


class RpcClient:
    """Calls to one address, `HOST:PORT`; `token` is an administrator's, where the service asks for one.

    Used in `async with`. Every call raises `ServerError` or `Unreachable`.
    """

    def __init__(self, target: str, token: str | None = None) -> None:
        self._target = target
        self._next_operation_id = OpIds(f"client-{secrets.token_hex(6)}")
        self._metadata = (("token", token),) if token else ()
        options = (
            # Presence is an internal service: a proxy for the web is not on the way to it.
            ("grpc.enable_http_proxy", 0),
            # A service that comes back is found soon, not after gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
            ("grpc.min_reconnect_backoff_ms", RECONNECT_MIN_MS),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        )
        self._channel = grpc.aio.insecure_channel(target, options=options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def statuses(self, user_ids: Iterable[str]) -> list[UserStatus]:
        """The platforms of each user, in the order asked, offline users included."""
        request = pb.getUserStatusReq(userIDs=user_ids)
        return _statuses((await self._call("getUserStatus", request, pb.getUserStatusResp.FromString)).statusList)

    async def online(self) -> AsyncIterator[list[UserStatus]]:
        """Everybody online, page by page; a user may come twice."""
        cursor = 0
        while True:
            request = pb.getAllOnlineUsersReq(cursor=cursor)
            page = await self._call("getAllOnlineUsers", request, pb.getAllOnlineUsersResp.FromString)
            yield _statuses(page.StatusList)
            cursor = page.nextCursor
            if not cursor:
                return

    async def set_status(self, user_id: str, platform_id: int, *, online: bool) -> None:
        """Hold a user online on a platform until the service's deadline for such holds, or let go."""
        status = ONLINE if online else OFFLINE
        request = pb.setUserStatusReq(userID=user_id, platformID=platform_id, status=status)
        await self._call("setUserStatus", request, pb.setUserStatusResp.FromString)

    async def set_online(self, users: Mapping[str, Iterable[int]]) -> None:
        """Hold users online on these platforms until the service's deadline for such holds."""
        status = [pb.userOnlineStatus(userID=user_id, online=platforms) for user_id, platforms in users.items()]
        await self._call(
            "setUserOnlineStatus", pb.setUserOnlineStatusReq(status=status), pb.setUserOnlineStatusResp.FromString
        )

    async def subscribe(self, subscriber: str, user_ids: Iterable[str]) -> list[UserStatus]:
        """Have changes of these users pushed to all connections of the subscriber; their present state."""
        request = pb.subscribeOrCancelUsersStatusReq(userID=subscriber, userIDs=user_ids, genre=SUBSCRIBE)
        answer = await self._call(
            "subscribeOrCancelUsersStatus", request, pb.subscribeOrCancelUsersStatusResp.FromString
        )
        return _statuses(answer.statusList)

    async def cancel(self, subscriber: str, user_ids: Iterable[str]) -> None:
        """Take back subscriptions."""
        request = pb.subscribeOrCancelUsersStatusReq(userID=subscriber, userIDs=user_ids, genre=CANCEL)
        await self._call("subscribeOrCancelUsersStatus", request, pb.subscribeOrCancelUsersStatusResp.FromString)

    async def subscribed(self, subscriber: str) -> list[UserStatus]:
        """The users the subscriber is subscribed to, with their present state."""
        request = pb.getSubscribeUsersStatusReq(userID=subscriber)
        answer = await self._call("getSubscribeUsersStatus", request, pb.getSubscribeUsersStatusResp.FromString)
        return _statuses(answer.statusList)

    async def _call(self, method: str, request: Message, read: Callable[[bytes], AnswerT]) -> AnswerT:
        invoke = self._channel.unary_unary(f"/{SERVICE_NAME}/{method}", _serialize, read)
        metadata = (("operationid", self._next_operation_id()), *self._metadata)
        try:
            return await invoke(request, metadata=metadata, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raise self._told(error) from None

    def _told(self, error: grpc.aio.AioRpcError) -> ClientError:
        code, message = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE:
            # gRPC tells the whole way there; the reason comes last.
            return Unreachable(f"{self._target} cannot be reached: {message.rpartition(': ')[2].rstrip(']')}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"{self._target} did not answer within {CALL_S} s")
        details = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
        number: int = code.value[0]
        return (_detailed(details) if isinstance(details, bytes) else None) or ServerError(number, code.name, message)


def _serialize(request: Message) -> bytes:
    return request.SerializeToString()


def _statuses(entries: Iterable[pb.onlineStatus]) -> list[UserStatus]:
    return [UserStatus(entry.userID, tuple(entry.platformIDs)) for entry in entries]


def _detailed(details: bytes) -> ServerError | None:
    """The error in OpenIM's own words; None if the bytes are something else."""
    try:
        status = Status.FromString(details)
        info = ErrorInfo()
        if status.details:
            status.details[0].Unpack(info)
    except DecodeError:
        return None
    return ServerError(status.code, status.message, info.cause)
