"""The six methods of OpenIM's `openim.user.user`, over the presence service.

Every call needs the metadata `operationID` (gRPC lower-cases keys; empty will
do), as in OpenIM. A malformed message is answered and counted like any other bad
argument. A call is counted before its answer is sent: who has the answer finds it
in the metrics.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from adsum.adapters.rpc.method import Method, Unary
from adsum.adapters.rpc.status import OperationIdMissing, refusal
from adsum.core.seldom import Seldom
from adsum.domain.errors import (
    AdsumError,
    ArgumentError,
    DataError,
    InternalError,
    PermissionDenied,
    StoreError,
    TokenKicked,
    TokenMalformed,
)
from adsum.domain.presence import Cause, Status
from adsum.ports import Authenticator, Meter
from adsum.proto import user_pb2 as pb
from adsum.service.presence import OnlineEdit, Presence
from adsum.wire.protobuf import encode_statuses, has_more_than
from adsum.wire.rpc import Metadata, text_of

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["user"].full_name

SUBSCRIBE = 1
CANCEL = 2
"""`genre` of subscribeOrCancelUsersStatus."""

OPERATION_ID_KEY = b"operationid"
TOKEN_KEY = b"token"

PLAIN_REQUEST_BYTES = 16_384
"""Of a request without a list: a user ID, a connection ID and a few numbers."""

RequestT = TypeVar("RequestT", bound=Message)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdminGate:
    """Lets only administrators call: who tells tokens apart, the user IDs that may, and which tokens logins ended.

    `is_ended` is asked with a token's digest.
    """

    authenticator: Authenticator
    admins: frozenset[str]
    is_ended: Callable[[bytes], bool]

    def check(self, token: str | None) -> None:
        """Pass if the metadata `token` is an administrator's; raises a `TokenError` or `PermissionDenied`."""
        if not token:
            raise TokenMalformed("the metadata has no `token`: only an administrator's token opens this service")
        identity = self.authenticator.verify(token)
        if self.is_ended(identity.digest):
            raise TokenKicked("a later login ended this token: take a new one")
        if identity.user_id not in self.admins:
            raise PermissionDenied("only an administrator may call this service")


class UserService:
    """Answers `openim.user.user`. With a gate, only to administrators."""

    def __init__(self, presence: Presence, meter: Meter, gate: AdminGate | None = None) -> None:
        self._presence = presence
        self.meter = meter
        self._gate = gate
        self._store_failures = Seldom()

    def methods(self) -> dict[str, Method]:
        """The methods by path. The prompt ones are those that the store can often answer from memory."""
        return dict(
            (
                self._method(pb.setUserStatusReq, self._set_user_status, prompt=True),
                self._method(pb.setUserOnlineStatusReq, self._set_user_online_status, prompt=True),
                self._method(pb.getUserStatusReq, self._get_user_status, prompt=True),
                self._method(pb.getAllOnlineUsersReq, self._get_all_online_users),
                self._method(pb.subscribeOrCancelUsersStatusReq, self._subscribe_or_cancel),
                self._method(pb.getSubscribeUsersStatusReq, self._get_subscribed),
            )
        )

    def _method(
        self,
        request_type: type[RequestT],
        work: Callable[[RequestT], Coroutine[Any, Any, bytes]],
        *,
        prompt: bool = False,
    ) -> tuple[str, Method]:
        endpoint = _Endpoint(self, request_type, work)
        return f"/{SERVICE_NAME}/{endpoint.name}", Unary(endpoint.answer, prompt, endpoint.admit, endpoint.max_bytes)

    def check_users(self, body: bytes, number: int) -> None:
        """Raise `ArgumentError` for more users than a call may have, before each becomes an object."""
        most = self._presence.max_users
        try:
            if has_more_than(most, body, number):
                raise ArgumentError(f"too many users in one call: at most {most}")
        except DataError as error:
            raise ArgumentError(error.detail) from None

    def store_failed(self, error: StoreError) -> None:
        """Log what the caller is not told, now and then."""
        count = self._store_failures.due(int(monotonic() * 1000))
        if count:
            _log.warning("the store failed %d calls; the last: %s", count, error)

    def admit(self, metadata: Metadata) -> None:
        """Raise an `AdsumError` for who may not call."""
        if OPERATION_ID_KEY not in metadata:
            raise OperationIdMissing
        if self._gate is not None:
            self._gate.check(text_of(metadata, TOKEN_KEY))

    async def _set_user_status(self, request: pb.setUserStatusReq) -> bytes:
        cause = Cause(request.connID, request.isBackground)
        await self._presence.set_status(request.userID, request.status, request.platformID, cause)
        return b""

    async def _set_user_online_status(self, request: pb.setUserOnlineStatusReq) -> bytes:
        edits = [OnlineEdit(edit.userID, edit.connID, edit.online, edit.offline) for edit in request.status]
        await self._presence.set_online(edits)
        return b""

    async def _get_user_status(self, request: pb.getUserStatusReq) -> bytes:
        user_ids = list(request.userIDs)
        known = self._presence.known_entries(user_ids)
        if known is not None:
            return known
        answer = await self._presence.query(user_ids)
        return encode_statuses(list(map(str.encode, user_ids)), answer.masks)

    async def _get_all_online_users(self, request: pb.getAllOnlineUsersReq) -> bytes:
        page = await self._presence.online_page(request.cursor)
        return encode_statuses(page.names, page.masks, page.next_cursor)

    async def _subscribe_or_cancel(self, request: pb.subscribeOrCancelUsersStatusReq) -> bytes:
        user_ids = list(request.userIDs)
        if request.genre == SUBSCRIBE:
            statuses = await self._presence.subscribe(request.userID, user_ids)
            return _encode(statuses)
        if request.genre == CANCEL:
            await self._presence.cancel(request.userID, user_ids)
            return b""
        raise ArgumentError(f"unknown genre {request.genre}: use {SUBSCRIBE} (subscribe) or {CANCEL} (cancel)")

    async def _get_subscribed(self, request: pb.getSubscribeUsersStatusReq) -> bytes:
        statuses = await self._presence.subscriptions(request.userID)
        return _encode(statuses)


class _Endpoint:
    """One method on the wire's bytes: admit; decode, work, encode, count, and answer any error."""

    def __init__(
        self,
        service: UserService,
        request_type: type[RequestT],
        work: Callable[[RequestT], Coroutine[Any, Any, bytes]],
    ) -> None:
        fields = request_type.DESCRIPTOR.fields
        self.name = request_type.DESCRIPTOR.name.removesuffix("Req")
        self._service = service
        self._meter = service.meter
        self._request_type: type[Message] = request_type
        self._work: Callable[[Any], Coroutine[Any, Any, bytes]] = work
        self._of_users: int | None = next((field.number for field in fields if field.is_repeated), None)
        self.max_bytes = PLAIN_REQUEST_BYTES if self._of_users is None else None

    def admit(self, metadata: Metadata) -> None:
        started = perf_counter()
        try:
            self._service.admit(metadata)
        except Exception as caught:  # noqa: BLE001 - as below
            error = _public(caught, self.name, metadata)
            self._meter.query(self.name, error.name, perf_counter() - started)
            raise refusal(error) from None

    async def answer(self, body: bytes, metadata: Metadata) -> bytes:
        started = perf_counter()
        outcome = "ok"
        try:
            if self._of_users is not None:
                self._service.check_users(body, self._of_users)
            return await self._work(_decode(self._request_type, body))
        except asyncio.CancelledError:
            outcome = "Cancelled"
            raise
        except Exception as caught:  # noqa: BLE001 - the last line of defence: nothing inside may leak
            error = _public(caught, self.name, metadata)
            if isinstance(error, StoreError):
                self._service.store_failed(error)
            outcome = error.name
            raise refusal(error) from None
        finally:
            self._meter.query(self.name, outcome, perf_counter() - started)


def _encode(statuses: Sequence[Status]) -> bytes:
    return encode_statuses([user_id.encode() for user_id, _ in statuses], [mask for _, mask in statuses])


def _decode(request_type: type[RequestT], body: bytes) -> RequestT:
    try:
        return request_type.FromString(body)
    except DecodeError:
        raise ArgumentError(f"the request is not a valid {request_type.DESCRIPTOR.full_name}") from None


def _public(caught: Exception, method: str, metadata: Metadata) -> AdsumError:
    """The error to show a caller; an unforeseen one goes to the log instead."""
    if isinstance(caught, AdsumError):
        return caught
    _log.error("%s failed, operation ID %.100r", method, text_of(metadata, OPERATION_ID_KEY), exc_info=caught)
    return InternalError("the service failed; its log has the reason under this operation ID")
