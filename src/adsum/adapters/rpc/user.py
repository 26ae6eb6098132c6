"""The six methods of OpenIM's `openim.user.user`, over the presence service.

Every call needs the metadata `operationID` (gRPC lower-cases keys; empty will
do), as in OpenIM. Messages are decoded and encoded here rather than by grpcio, so
that a malformed one is answered and counted like any other bad argument.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from adsum.adapters.rpc.status import OperationIdMissing, refusal
from adsum.domain.errors import AdsumError, ArgumentError, InternalError, PermissionDenied, TokenMalformed
from adsum.domain.platforms import ids_of
from adsum.domain.presence import OFFLINE, ONLINE, Cause, Status
from adsum.ports import Authenticator, Meter
from adsum.proto import user_pb2 as pb
from adsum.service.presence import OnlineEdit, Presence

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["user"].full_name

SUBSCRIBE = 1
CANCEL = 2
"""`genre` of subscribeOrCancelUsersStatus."""

OPERATION_ID_KEY = "operationid"
TOKEN_KEY = "token"  # noqa: S105 - the key's name, not a token

Metadata = dict[str, str | bytes]
RequestT = TypeVar("RequestT", bound=Message)
ServicerContext = grpc.aio.ServicerContext[bytes, bytes]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdminGate:
    """Lets only administrators call: who tells tokens apart, and the user IDs that may."""

    authenticator: Authenticator
    admins: frozenset[str]

    def check(self, metadata: Metadata) -> None:
        """Pass if the metadata `token` is an administrator's; raises a `TokenError` or `PermissionDenied`."""
        token = metadata.get(TOKEN_KEY)
        if not isinstance(token, str) or not token:
            raise TokenMalformed("the metadata has no `token`: only an administrator's token opens this service")
        if self.authenticator.verify(token).user_id not in self.admins:
            raise PermissionDenied("only an administrator may call this service")


class UserService:
    """Answers `openim.user.user`. With a gate, only to administrators."""

    def __init__(self, presence: Presence, meter: Meter, gate: AdminGate | None = None) -> None:
        self._presence = presence
        self._meter = meter
        self._gate = gate

    def handler(self) -> grpc.GenericRpcHandler:
        """The methods, as a grpcio server takes them."""
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "setUserStatus": self._method(pb.setUserStatusReq, self._set_user_status),
                "setUserOnlineStatus": self._method(pb.setUserOnlineStatusReq, self._set_user_online_status),
                "getUserStatus": self._method(pb.getUserStatusReq, self._get_user_status),
                "getAllOnlineUsers": self._method(pb.getAllOnlineUsersReq, self._get_all_online_users),
                "subscribeOrCancelUsersStatus": self._method(
                    pb.subscribeOrCancelUsersStatusReq, self._subscribe_or_cancel
                ),
                "getSubscribeUsersStatus": self._method(pb.getSubscribeUsersStatusReq, self._get_subscribed),
            },
        )

    def _method(
        self, request_type: type[RequestT], work: Callable[[RequestT], Awaitable[Message]]
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """One method on the wire's bytes: admit, decode, work, encode, count, and answer any error."""
        name = request_type.DESCRIPTOR.name.removesuffix("Req")

        async def call(body: bytes, context: ServicerContext) -> bytes:
            started = perf_counter()
            outcome = "ok"
            metadata = _metadata(context)
            try:
                self._admit(metadata)
                reply = await work(_decode(request_type, body))
                return reply.SerializeToString()
            except asyncio.CancelledError:
                outcome = "Cancelled"
                raise
            except Exception as caught:  # noqa: BLE001 - the last line of defence: nothing inside may leak
                error = _public(caught, name, metadata)
                outcome = error.name
                await context.abort(*refusal(error))
            finally:
                self._meter.query(name, outcome, perf_counter() - started)

        return grpc.unary_unary_rpc_method_handler(call)

    def _admit(self, metadata: Metadata) -> None:
        if OPERATION_ID_KEY not in metadata:
            raise OperationIdMissing
        if self._gate is not None:
            self._gate.check(metadata)

    async def _set_user_status(self, request: pb.setUserStatusReq) -> Message:
        cause = Cause(request.connID, request.isBackground)
        await self._presence.set_status(request.userID, request.status, request.platformID, cause)
        return pb.setUserStatusResp()

    async def _set_user_online_status(self, request: pb.setUserOnlineStatusReq) -> Message:
        edits = [OnlineEdit(edit.userID, edit.connID, edit.online, edit.offline) for edit in request.status]
        await self._presence.set_online(edits)
        return pb.setUserOnlineStatusResp()

    async def _get_user_status(self, request: pb.getUserStatusReq) -> Message:
        statuses = await self._presence.statuses(list(request.userIDs))
        return pb.getUserStatusResp(statusList=_status_list(statuses))

    async def _get_all_online_users(self, request: pb.getAllOnlineUsersReq) -> Message:
        page = await self._presence.online_page(request.cursor)
        return pb.getAllOnlineUsersResp(StatusList=_status_list(page.users), nextCursor=page.next_cursor)

    async def _subscribe_or_cancel(self, request: pb.subscribeOrCancelUsersStatusReq) -> Message:
        user_ids = list(request.userIDs)
        if request.genre == SUBSCRIBE:
            statuses = await self._presence.subscribe(request.userID, user_ids)
            return pb.subscribeOrCancelUsersStatusResp(statusList=_status_list(statuses))
        if request.genre == CANCEL:
            await self._presence.cancel(request.userID, user_ids)
            return pb.subscribeOrCancelUsersStatusResp()
        raise ArgumentError(f"unknown genre {request.genre}: use {SUBSCRIBE} (subscribe) or {CANCEL} (cancel)")

    async def _get_subscribed(self, request: pb.getSubscribeUsersStatusReq) -> Message:
        statuses = await self._presence.subscriptions(request.userID)
        return pb.getSubscribeUsersStatusResp(statusList=_status_list(statuses))


def _metadata(context: ServicerContext) -> Metadata:
    return dict(context.invocation_metadata() or ())


def _decode(request_type: type[RequestT], body: bytes) -> RequestT:
    try:
        return request_type.FromString(body)
    except DecodeError:
        raise ArgumentError(f"the request is not a valid {request_type.DESCRIPTOR.full_name}") from None


def _public(caught: Exception, method: str, metadata: Metadata) -> AdsumError:
    """The error to show a caller; an unforeseen one goes to the log instead."""
    if isinstance(caught, AdsumError):
        return caught
    _log.error("%s failed, operation ID %.100r", method, metadata.get(OPERATION_ID_KEY), exc_info=caught)
    return InternalError("the service failed; its log has the reason under this operation ID")


def _status_list(statuses: Iterable[Status]) -> list[pb.onlineStatus]:
    return [
        pb.onlineStatus(userID=user_id, status=ONLINE if mask else OFFLINE, platformIDs=ids_of(mask))
        for user_id, mask in statuses
    ]
