"""The server around the methods: port, health, reflection, limits, and the status line on the wire."""

import asyncio
import struct
from collections.abc import Sequence
from typing import Self

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from adsum.adapters.memory import MemoryStore
from adsum.adapters.rpc import reflection
from adsum.adapters.rpc.method import RpcLimits
from adsum.adapters.rpc.server import RpcServer
from adsum.adapters.rpc.user import UserService
from adsum.ports import Meter
from adsum.proto import user_pb2 as pb
from adsum.service.presence import Presence

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
GET_ANN = pb.getUserStatusReq(userIDs=["ann"]).SerializeToString()


@pytest.fixture
def service(presence: Presence, meter: Meter) -> UserService:
    return UserService(presence, meter)


async def get_ann(channel: grpc.aio.Channel, times: int = 1) -> pb.getUserStatusResp:
    """Ask for one user, so many times in one request."""
    get: grpc.aio.UnaryUnaryMultiCallable[bytes, pb.getUserStatusResp] = channel.unary_unary(
        "/openim.user.user/getUserStatus", response_deserializer=pb.getUserStatusResp.FromString
    )
    return await get(GET_ANN * times, metadata=(("operationid", "op1"),), timeout=10)


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    check: grpc.aio.UnaryUnaryMultiCallable[bytes, health_pb2.HealthCheckResponse] = channel.unary_unary(
        "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
    )
    reply = await check(health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=10)
    return reply.status


def watch_health(
    channel: grpc.aio.Channel, service: str
) -> grpc.aio.UnaryStreamCall[bytes, health_pb2.HealthCheckResponse]:
    watch: grpc.aio.UnaryStreamMultiCallable[bytes, health_pb2.HealthCheckResponse] = channel.unary_stream(
        "/grpc.health.v1.Health/Watch", response_deserializer=health_pb2.HealthCheckResponse.FromString
    )
    return watch(health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=10)


@pytest.mark.parametrize("name", ["", "openim.user.user"])
async def test_health_follows_what_it_is_told_and_needs_no_operation_id(service: UserService, name: str) -> None:
    server = RpcServer(service)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await health_of(channel, name) == NOT_SERVING
        server.set_serving(serving=True)
        assert await health_of(channel, name) == SERVING
        server.set_serving(serving=False)
        assert await health_of(channel, name) == NOT_SERVING
    await server.stop(0)


async def test_health_of_an_unknown_service(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_of(channel, "openim.msg.msg")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    news = aiter(watch_health(channel, "openim.msg.msg"))
    assert (await anext(news)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_a_health_watcher_hears_of_the_drain_and_does_not_delay_it(service: UserService) -> None:
    server = RpcServer(service)
    port = await server.start("127.0.0.1:0")
    server.set_serving(serving=True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        news = aiter(watch_health(channel, ""))
        assert (await anext(news)).status == SERVING
        async with asyncio.timeout(10):
            await server.stop(60)
        server.set_serving(serving=True)
        assert [answer.status async for answer in news] == [NOT_SERVING]


async def test_a_health_watcher_that_takes_no_data_delays_nobody(service: UserService) -> None:
    server = RpcServer(service)
    port = await server.start("127.0.0.1:0")
    stuck = await RawCall.begin(port, "/grpc.health.v1.Health/Watch", b"", window_bytes=0)
    async with asyncio.timeout(10), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await stuck.headers(end=False)
        server.set_serving(serving=True)
        assert await health_of(channel, "") == SERVING
        news = aiter(watch_health(channel, ""))
        server.set_serving(serving=False)
        assert (await anext(news)).status == NOT_SERVING
        await server.stop(0.05)
    await stuck.close()


async def test_health_watchers_take_no_room_of_calls(service: UserService) -> None:
    """They ask for no token: only so many get in on a connection, and those that end make room."""
    server = RpcServer(service, RpcLimits(max_concurrent_calls=1, max_streaming_calls=2))
    port = await server.start("127.0.0.1:0")
    async with asyncio.timeout(10), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watches = [watch_health(channel, "") for _ in range(2)]
        for watch in watches:
            assert (await anext(aiter(watch))).status == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(watch_health(channel, "")))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await health_of(channel, "") == NOT_SERVING
        watches[0].cancel()
        while True:
            try:
                assert (await anext(aiter(watch_health(channel, "")))).status == NOT_SERVING
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
    await server.stop(0)


SYMBOLS = {
    "openim/user/user.proto": (
        "openim.user.user",
        "openim.user.user.getUserStatus",
        "openim.user.onlineStatus",
        "openim.user.onlineStatus.platformIDs",
        ".openim.user.setUserStatusReq",
    ),
    "grpc_health/v1/health.proto": (
        "grpc.health.v1.Health.Watch",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
        "grpc.health.v1.HealthCheckResponse.SERVING",
    ),
    "grpc/reflection/v1/reflection.proto": (
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
        "grpc.reflection.v1.ServerReflectionRequest.message_request",
    ),
    "grpc_reflection/v1alpha/reflection.proto": ("grpc.reflection.v1alpha.ServerReflection",),
}
"""Every kind of symbol that tools ask for, by the file it is in."""


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_every_symbol(channel: grpc.aio.Channel, version: str) -> None:
    ask: grpc.aio.StreamStreamMultiCallable[bytes, reflection_pb2.ServerReflectionResponse] = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="grpc.health.v1.HealthCheckRequest"),
        *(
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
            for symbols in SYMBOLS.values()
            for symbol in symbols
        ),
    ]
    answers = ask(iter([question.SerializeToString() for question in questions]), timeout=10)
    listed, extensions, *found = [answer async for answer in answers]
    assert {service.name for service in listed.list_services_response.service} == {
        "openim.user.user",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert extensions.all_extension_numbers_response == reflection_pb2.ExtensionNumberResponse(
        base_type_name="grpc.health.v1.HealthCheckRequest"
    )
    homes = [name for name, symbols in SYMBOLS.items() for _ in symbols]
    files = [answer.file_descriptor_response.file_descriptor_proto for answer in found]
    assert [FileDescriptorProto.FromString(file[0]).name for file in files] == homes


def test_what_reflection_tells_can_be_used() -> None:
    """A pool that knows nothing takes every file with what it needs, so names in them lead somewhere."""
    for name in SYMBOLS:
        pool = DescriptorPool()
        for text in reversed(reflection.SYMBOLS.file(name)):
            pool.AddSerializedFile(text)
        (service,) = pool.FindFileByName(name).services_by_name.values()
        assert all(method.input_type.file.name == name for method in service.methods)


async def test_every_method_of_the_service_is_answered(service: UserService) -> None:
    methods = pb.DESCRIPTOR.services_by_name["user"].methods
    assert service.methods().keys() == {f"/openim.user.user/{method.name}" for method in methods}
    assert all(method.input_type.name == f"{method.name}Req" for method in methods)
    assert len(methods) == 6


async def test_a_taken_port_is_an_error_that_names_it(service: UserService) -> None:
    first, second = RpcServer(service), RpcServer(service)
    port = await first.start("127.0.0.1:0")
    with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
        await second.start(f"127.0.0.1:{port}")
    await first.stop(0)
    await second.stop(0)


async def test_a_request_over_the_limit_is_refused(service: UserService) -> None:
    server = RpcServer(service, RpcLimits(max_request_bytes=1_000))
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_ann(channel, times=1_000)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await get_ann(channel)
    await server.stop(0)


class SlowReads:
    """Has the reads of a store wait until they are let go."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self._read = store.masks
        monkeypatch.setattr(MemoryStore, "masks", staticmethod(self))

    async def __call__(self, user_ids: Sequence[str]) -> list[int]:
        self.entered.set()
        await self.go.wait()
        return await self._read(user_ids)


async def test_a_call_over_the_limit_is_refused(
    service: UserService, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowReads(store, monkeypatch)
    server = RpcServer(service, RpcLimits(max_concurrent_calls=1))
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        first = asyncio.create_task(get_ann(channel))
        await slow.entered.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_ann(channel)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        slow.go.set()
        await first
    await server.stop(0)


async def test_stopping_lets_a_call_under_way_finish(
    service: UserService, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowReads(store, monkeypatch)
    server = RpcServer(service)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        under_way = asyncio.create_task(get_ann(channel))
        await slow.entered.wait()
        stopping = asyncio.create_task(server.stop(10))
        await asyncio.sleep(0.01)
        slow.go.set()
        assert (await under_way).statusList[0].userID == "ann"
        await stopping


async def test_stopping_cancels_what_outlasts_the_grace(
    service: UserService, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowReads(store, monkeypatch)
    server = RpcServer(service)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        under_way = asyncio.create_task(get_ann(channel))
        await slow.entered.wait()
        await server.stop(0.05)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await under_way


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """One HPACK literal without indexing (RFC 7541 section 6.2.2), both texts under 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


class RawCall:
    """One gRPC call on a connection of its own, seen as HTTP/2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, port: int, method: str, body: bytes, window_bytes: int = 65_535) -> Self:
        """Send the whole request, and take as many bytes of messages as the window."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost", "te": "trailers"}
        fields |= {"content-type": "application/grpc", "operationid": "op1"}
        settings = struct.pack(">HI", 4, window_bytes)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + frame(4, 1, 0))
        writer.write(frame(1, 4, 1, b"".join(header(name.encode(), value.encode()) for name, value in fields.items())))
        writer.write(frame(0, 1, 1, struct.pack(">BI", 0, len(body)) + body))
        return cls(reader, writer)

    async def headers(self, *, end: bool) -> bytes:
        """The payload of the next HEADERS frame, or of the one that ends the call."""
        while True:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3]))
            kind, flags, _stream = struct.unpack(">BBI", head[3:])
            if kind == 1 and (flags & 1 or not end):
                return payload

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("getUserStatus", b"", b"1001"), ("getAllOnlineUsers", b"\x08\x01", b"0"), ("noSuchMethod", b"", b"12")],
)
async def test_openims_own_code_is_the_status_on_the_wire(
    service: UserService, method: str, body: bytes, status: bytes
) -> None:
    """A Go client takes the code from this header; one from Python's own client library would show as UNKNOWN."""
    server = RpcServer(service)
    port = await server.start("127.0.0.1:0")
    async with asyncio.timeout(10):
        raw = await RawCall.begin(port, f"/openim.user.user/{method}", body)
        answered = await raw.headers(end=True)
        await raw.close()
    assert header(b"grpc-status", status)[1:] in answered
    await server.stop(0)
