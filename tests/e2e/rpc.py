"""Calls of `openim.user` through the real gRPC client."""

from collections.abc import Callable
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message

from adsum.proto import user_pb2 as pb

AnswerT = TypeVar("AnswerT", bound=Message)

METADATA = (("operationid", "test"),)


async def call(
    target: str, method: str, request: Message, answer: Callable[[bytes], AnswerT], token: str | None = None
) -> AnswerT:
    """One call, with an administrator's token if one is given; raises `grpc.aio.AioRpcError`."""
    metadata = METADATA if token is None else (*METADATA, ("token", token))
    async with grpc.aio.insecure_channel(target) as channel:
        serialize = type(request).SerializeToString
        method_of = channel.unary_unary(f"/openim.user.user/{method}", serialize, answer)
        found: AnswerT = await method_of(request, metadata=metadata)
        return found


async def listed_users(target: str) -> dict[str, tuple[int, ...]]:
    """Every online user by the listing, with platforms; walks all pages."""
    users: dict[str, tuple[int, ...]] = {}
    cursor = 0
    while True:
        request = pb.getAllOnlineUsersReq(cursor=cursor)
        page = await call(target, "getAllOnlineUsers", request, pb.getAllOnlineUsersResp.FromString)
        users.update((status.userID, tuple(status.platformIDs)) for status in page.StatusList)
        cursor = page.nextCursor
        if not cursor:
            return users
