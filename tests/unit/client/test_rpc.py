"""The gRPC client against a server that plays OpenIM's part."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from adsum.adapters.rpc.status import refusal
from adsum.client import rpc
from adsum.client.errors import ServerError, Unreachable
from adsum.client.rpc import RpcClient
from adsum.domain.errors import AdsumError, ArgumentError, PermissionDenied, TooManyConnections
from adsum.proto import user_pb2 as pb
from adsum.wire.protobuf import UserStatus


class OpenImCode(NamedTuple):
    """A status code that `grpc.StatusCode` lacks; grpcio sends `value[0]` of whatever it is given."""

    value: tuple[int, str]


Answer = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[Message]]


@asynccontextmanager
async def serving(method: str, answer: Answer) -> AsyncIterator[str]:
    """A server with one method; where it listens."""

    async def call(body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        return (await answer(body, context)).SerializeToString()

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {method: grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(rpc.SERVICE_NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def test_the_metadata_names_the_operation_and_carries_the_token() -> None:
    seen: list[dict[str, str | bytes]] = []

    async def answer(_body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Message:
        seen.append(dict(context.invocation_metadata() or ()))
        return pb.getUserStatusResp()

    async with serving("getUserStatus", answer) as target, RpcClient(target, "T") as client:
        await client.statuses(["a"])
        await client.statuses(["a"])
    assert [metadata["token"] for metadata in seen] == ["T", "T"]
    assert len({metadata["operationid"] for metadata in seen}) == 2


async def test_the_listing_walks_all_pages() -> None:
    async def answer(body: bytes, _context: object) -> Message:
        cursor = pb.getAllOnlineUsersReq.FromString(body).cursor
        status = pb.onlineStatus(userID=f"user-{cursor}", status=1, platformIDs=[1, 5])
        return pb.getAllOnlineUsersResp(StatusList=[status], nextCursor=(7, 0)[cursor == 7])

    async with serving("getAllOnlineUsers", answer) as target, RpcClient(target) as client:
        pages = [page async for page in client.online()]
    assert pages == [[UserStatus("user-0", (1, 5))], [UserStatus("user-7", (1, 5))]]


@pytest.mark.parametrize("error", [ArgumentError("no users"), PermissionDenied("not you"), TooManyConnections("full")])
async def test_errors_come_in_openims_own_words(error: AdsumError) -> None:
    async def answer(_body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Message:
        refused = refusal(error)
        code = cast("grpc.StatusCode", OpenImCode((refused.code, refused.message)))
        await context.abort(code, refused.message, ((rpc.DETAILS_KEY, refused.details),))
        raise AssertionError

    async with serving("getUserStatus", answer) as target, RpcClient(target) as client:
        with pytest.raises(ServerError) as caught:
            await client.statuses([])
    assert (caught.value.code, caught.value.name, caught.value.detail) == (error.code, error.name, error.detail)


@pytest.mark.parametrize("details", [b"\xff\xff", None])
async def test_an_error_without_readable_details_keeps_grpcs_code(details: bytes | None) -> None:
    async def answer(_body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Message:
        trailers = ((rpc.DETAILS_KEY, details),) if details else ()
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "what?", trailers)
        raise AssertionError

    async with serving("getUserStatus", answer) as target, RpcClient(target) as client:
        with pytest.raises(ServerError, match=r"what\? \(INVALID_ARGUMENT 3\)"):
            await client.statuses(["a"])


async def test_nobody_there_and_no_answer_are_unreachable() -> None:
    async with RpcClient("127.0.0.1:1") as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 cannot be reached"):
            await client.statuses(["a"])

    async def answer(_body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Message:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
        raise AssertionError

    async with serving("getUserStatus", answer) as target, RpcClient(target) as client:
        with pytest.raises(Unreachable, match="did not answer"):
            await client.statuses(["a"])
