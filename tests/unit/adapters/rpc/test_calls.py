"""Calls as two real clients see them: grpcio, and bytes on a socket."""

import asyncio
import contextlib
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from adsum.adapters.memory import MemoryStore
from adsum.adapters.rpc import calls, connection
from adsum.adapters.rpc import method as desks
from adsum.adapters.rpc.method import RpcLimits
from adsum.adapters.rpc.server import RpcServer
from adsum.adapters.rpc.user import UserService
from adsum.adapters.turns import SLICE_S, Turns
from adsum.domain.presence import TimedEdit
from adsum.ports import Meter
from adsum.proto import user_pb2 as pb
from adsum.service.presence import Presence, PresenceLimits
from adsum.wire import http2_frames as h2
from adsum.wire.hpack import encode
from adsum.wire.rpc import write_message
from tests.support.compiled import replaces_a_method
from tests.support.waiting import turns, until
from tests.unit.adapters.rpc.conftest import QueryMeter
from tests.unit.wire.peer import Frame, frames_of

METADATA = (("operationid", "op1"),)
GET_ANN = pb.getUserStatusReq(userIDs=["ann"]).SerializeToString()


@pytest.fixture
async def server(presence: Presence, meter: Meter) -> AsyncIterator[RpcServer]:
    presence._limits = PresenceLimits(max_user_id_bytes=256, max_users=10_000)
    server = RpcServer(UserService(presence, meter))
    yield server
    await server.stop(0)


@pytest.fixture
async def port(server: RpcServer) -> int:
    return await server.start("127.0.0.1:0")


@pytest.fixture
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    options = (("grpc.max_receive_message_length", 64 << 20),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel


class Waiting:
    """Has the reads of a store wait for ever, and tells of each that was begun or cancelled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        monkeypatch.setattr(MemoryStore, "masks", staticmethod(self))

    async def __call__(self, _user_ids: Sequence[str]) -> list[int]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return []


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    return Waiting(monkeypatch)


def get(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[bytes, pb.getUserStatusResp]:
    found: grpc.aio.UnaryUnaryMultiCallable[bytes, pb.getUserStatusResp] = channel.unary_unary(
        "/openim.user.user/getUserStatus", response_deserializer=pb.getUserStatusResp.FromString
    )
    return found


async def test_large_requests_and_answers(channel: grpc.aio.Channel, store: MemoryStore) -> None:
    """Two MiB and more each way, several at a time: past any window of either side."""
    users = [f"{number:04d}-{'x' * 240}" for number in range(8_000)]
    await store.write_timed("op", [TimedEdit(user, 0b100010, 0) for user in users])
    request = pb.getUserStatusReq(userIDs=users).SerializeToString()
    assert len(request) > 1_900_000
    for reply in await asyncio.gather(*(get(channel)(request, metadata=METADATA, timeout=60) for _ in range(4))):
        assert [status.userID for status in reply.statusList] == users
        assert all(status.platformIDs == [1, 5] for status in reply.statusList)


async def test_a_thousand_calls_at_a_time(channel: grpc.aio.Channel) -> None:
    replies = await asyncio.gather(*(get(channel)(GET_ANN, metadata=METADATA, timeout=60) for _ in range(1_000)))
    assert all(reply.statusList[0].userID == "ann" for reply in replies)


async def test_a_thousand_calls_that_wait(
    channel: grpc.aio.Channel, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are all under way at once."""
    read, everybody, calls = store.masks, asyncio.Event(), 0

    async def slow(user_ids: Sequence[str]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1_000:
            everybody.set()
        await everybody.wait()
        return await read(user_ids)

    monkeypatch.setattr(MemoryStore, "masks", staticmethod(slow))
    requests = [pb.getUserStatusReq(userIDs=[f"user-{number}"]).SerializeToString() for number in range(1_000)]
    replies = await asyncio.gather(*(get(channel)(request, metadata=METADATA, timeout=60) for request in requests))
    assert [reply.statusList[0].userID for reply in replies] == [f"user-{number}" for number in range(1_000)]


async def test_a_deadline_ends_the_call_on_both_sides(channel: grpc.aio.Channel, waiting: Waiting) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(channel)(GET_ANN, metadata=METADATA, timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(waiting.cancelled.wait(), 10)


async def test_a_call_is_ended_for_a_client_that_forgets_its_deadline(port: int, waiting: Waiting) -> None:
    raw = await Raw.connect(port)
    await raw.call("getUserStatus", GET_ANN, {"grpc_timeout": b"1m"})
    assert b"\x0bgrpc-status\x014" in await status_of(raw)
    await waiting.cancelled.wait()
    raw.writer.close()


async def test_a_call_taken_back_is_cancelled(channel: grpc.aio.Channel, waiting: Waiting, server: RpcServer) -> None:
    call = get(channel)(GET_ANN, metadata=METADATA)
    pending = asyncio.ensure_future(call)
    await waiting.begun.wait()
    assert server._desk.calls == 1
    pending.cancel()
    await asyncio.wait_for(waiting.cancelled.wait(), 10)
    assert server._desk.calls == 0


async def test_a_call_taken_back_in_one_breath_is_cancelled_and_counted_so(
    port: int, waiting: Waiting, server: RpcServer, queries: list[tuple[str, str, float]]
) -> None:
    """Whether it was begun at once or not."""
    raw = await Raw.connect(port)
    for method in ("getUserStatus", "getSubscribeUsersStatus"):
        request = pb.getSubscribeUsersStatusReq(userID="ann") if "Sub" in method else pb.getUserStatusReq(userIDs=["a"])
        fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", f"/openim.user.user/{method}".encode()))
        plain = ((b"content-type", b"application/grpc"), (b"operationid", b"op1"))
        stream = 1 if method == "getUserStatus" else 3
        (of_raw,) = await connections(server)
        of_raw.data_received(
            h2.frame(h2.HEADERS, h2.END_HEADERS, stream, encode((*fields, *plain)))
            + h2.frame(h2.DATA, h2.END_STREAM, stream, write_message(request.SerializeToString()))
            + h2.frame(h2.RST_STREAM, 0, stream, bytes(4))
        )
        await until(lambda: server._desk.calls == 0)
        await turns()
    assert waiting.cancelled.is_set()
    assert [query[:2] for query in queries] == [
        ("getUserStatus", "Cancelled"),
        ("getSubscribeUsersStatus", "ok"),
    ]
    raw.writer.close()


async def connections(server: RpcServer) -> list[connection.Connection]:
    """Those that have greeted."""
    await until(lambda: server._connections and all(one._http.greeted for one in server._connections))
    return list(server._connections)


async def test_a_client_that_leaves_cancels_its_calls(port: int, waiting: Waiting, server: RpcServer) -> None:
    raw = await Raw.connect(port)
    await raw.call("getUserStatus", GET_ANN)
    await waiting.begun.wait()
    raw.writer.transport.abort()
    await asyncio.wait_for(waiting.cancelled.wait(), 10)
    assert server._desk.calls == 0
    assert not server._connections


async def test_a_compressed_request(port: int) -> None:
    target = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(target, compression=grpc.Compression.Gzip) as channel:
        users = [f"user-{number}" for number in range(100)]
        request = pb.getUserStatusReq(userIDs=users).SerializeToString()
        reply = await get(channel)(request, metadata=METADATA, timeout=10)
        assert [status.userID for status in reply.statusList] == users


async def test_a_compression_unknown_here_is_unimplemented(port: int) -> None:
    target = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(target, compression=grpc.Compression.Deflate) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(channel)(GET_ANN * 50, metadata=METADATA, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_of_what_there_is_not(channel: grpc.aio.Channel, version: str) -> None:
    from grpc_reflection.v1alpha import reflection_pb2  # noqa: PLC0415 - of this test alone

    ask: grpc.aio.StreamStreamMultiCallable[bytes, reflection_pb2.ServerReflectionResponse] = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    questions = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.symbol"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="no/such.proto"),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="no.such.Message"),
        reflection_pb2.ServerReflectionRequest(
            file_containing_extension=reflection_pb2.ExtensionRequest(
                containing_type="openim.user.onlineStatus", extension_number=4
            )
        ),
        reflection_pb2.ServerReflectionRequest(host="asks nothing"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="openim.user.getUserStatusReq"),
    ]
    answers = [answer async for answer in ask(iter([q.SerializeToString() for q in questions]), timeout=10)]
    assert [answer.error_response.error_code for answer in answers] == [5, 5, 5, 5, 3, 0]
    assert [answer.original_request for answer in answers] == questions
    assert answers[5].file_descriptor_response.file_descriptor_proto == [pb.DESCRIPTOR.serialized_pb]


async def test_a_stream_is_answered_as_it_is_asked(channel: grpc.aio.Channel) -> None:
    """Each request before the next is sent."""
    from grpc_reflection.v1alpha import reflection_pb2  # noqa: PLC0415 - of this test alone

    info: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    )
    call = info(timeout=10)
    for _ in range(3):
        await call.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
        answer = reflection_pb2.ServerReflectionResponse.FromString(cast("bytes", await call.read()))
        assert len(answer.list_services_response.service) == 4
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


class Raw:
    """A connection that speaks HTTP/2 by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._next = 1

    @classmethod
    async def connect(cls, port: int, window: int = 65_535) -> "Raw":
        raw = cls(*await asyncio.open_connection("127.0.0.1", port))
        raw.writer.write(h2.PREFACE + h2.settings_frame([(h2.INITIAL_WINDOW, window)]))
        return raw

    async def call(
        self, method: str, body: bytes, fields: Mapping[str, bytes] = MappingProxyType({}), *, end: bool = True
    ) -> int:
        """Make a call, all of it or all but its end; its stream."""
        stream = await self.begin(method, fields)
        body = write_message(body)
        for start in range(0, len(body), h2.MAX_FRAME_BYTES):
            part = body[start : start + h2.MAX_FRAME_BYTES]
            last = end and start + len(part) == len(body)
            self.writer.write(h2.frame(h2.DATA, h2.END_STREAM if last else 0, stream, part))
        await self.writer.drain()
        return stream

    async def begin(self, method: str, fields: Mapping[str, bytes] = MappingProxyType({})) -> int:
        """Send a call's header; its stream."""
        stream, self._next = self._next, self._next + 2
        path = method if method.startswith("/") else f"/openim.user.user/{method}"
        asked = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()))
        plain = {b"content-type": b"application/grpc", b"te": b"trailers", b"operationid": b"op1"}
        plain |= {name.replace("_", "-").encode(): value for name, value in fields.items()}
        block = encode((*asked, *plain.items()))
        parts = [block[at : at + h2.MAX_FRAME_BYTES] for at in range(0, len(block), h2.MAX_FRAME_BYTES)]
        for nth, part in enumerate(parts):
            flags = h2.END_HEADERS if nth == len(parts) - 1 else 0
            self.writer.write(h2.frame(h2.CONTINUATION if nth else h2.HEADERS, flags, stream, part))
        await self.writer.drain()
        return stream

    async def next(self, *kinds: int) -> Frame:
        """The next frame of one of these kinds."""
        async with asyncio.timeout(10):
            while True:
                head = await self.reader.readexactly(h2.HEAD_BYTES)
                (found,) = frames_of(head + await self.reader.readexactly(int.from_bytes(head[:3], "big")))
                if found.kind in kinds:
                    return found

    async def closed(self) -> None:
        """Wait until the server has closed."""
        async with asyncio.timeout(10):
            while await self.reader.read(1 << 20):
                pass


async def status_of(raw: Raw) -> bytes:
    while True:
        found = await raw.next(h2.HEADERS)
        if found.flags & h2.END_STREAM:
            return found.payload


async def test_a_request_is_bounded_while_it_comes(port: int) -> None:
    """Its prefix tells: none of the rest is waited for."""
    raw = await Raw.connect(port)
    stream = await raw.call("getUserStatus", b"", end=False)
    raw.writer.write(h2.frame(h2.RST_STREAM, 0, stream, bytes(4)))
    await raw.call("getUserStatus", bytes(5 << 20), end=False)
    assert b"\x0bgrpc-status\x018" in await status_of(raw)
    raw.writer.close()


async def test_requests_that_are_not_whole_are_bounded_together(
    port: int, server: RpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._desk, "limits", RpcLimits(max_request_bytes=1_000))
    raw = await Raw.connect(port)
    for _ in range(20):
        await raw.call("getUserStatus", bytes(1_000), end=False)
    assert b"\x0bgrpc-status\x018" in await status_of(raw)
    raw.writer.close()
    await raw.writer.wait_closed()
    await until(lambda: not server._connections)
    assert server._desk.kept_bytes == 0


@pytest.mark.parametrize(
    ("method", "fields", "ending"),
    [
        ("getUserStatus", {"grpc_timeout": b"soon"}, b"\x0bgrpc-status\x0213"),
        ("getUserStatus", {"grpc_encoding": b"br"}, b"\x0bgrpc-status\x0212"),
        ("nothing", {}, b"\x0bgrpc-status\x0212"),
        ("/no.such.service/x", {}, b"\x0bgrpc-status\x0212"),
        ("getUserStatus", {"content_type": b"application/json"}, b":status\x03415"),
    ],
)
async def test_calls_that_cannot_be_served(port: int, method: str, fields: dict[str, bytes], ending: bytes) -> None:
    raw = await Raw.connect(port)
    await raw.call(method, GET_ANN, fields)
    assert ending in await status_of(raw)
    raw.writer.close()


@pytest.mark.parametrize(
    "data",
    [b"", write_message(GET_ANN) * 2, write_message(GET_ANN)[:-1], b"\1" + write_message(gzip.compress(GET_ANN))[1:]],
    ids=["none", "two", "cut", "packed-untold"],
)
async def test_a_call_must_have_one_whole_request(port: int, data: bytes) -> None:
    raw = await Raw.connect(port)
    stream = await raw.call("getUserStatus", b"", end=False)
    raw.writer.write(h2.frame(h2.RST_STREAM, 0, stream, bytes(4)))
    fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/openim.user.user/getUserStatus"))
    plain = ((b"content-type", b"application/grpc"), (b"operationid", b"op1"))
    raw.writer.write(h2.frame(h2.HEADERS, h2.END_HEADERS, 3, encode((*fields, *plain))))
    raw.writer.write(h2.frame(h2.DATA, h2.END_STREAM, 3, data))
    assert b"\x0bgrpc-status\x0213" in await status_of(raw)
    raw.writer.close()


async def test_who_does_not_speak_http2_is_dropped_after_a_while(
    server: RpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GREETING_TICKS", 0)
    port = await server.start("127.0.0.1:0")
    silent = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await silent[0].readexactly(1_000)
    silent[1].close()


async def test_another_protocol_ends_the_connection(port: int) -> None:
    raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
    raw.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (await raw.next(h2.GOAWAY)).code == h2.Code.PROTOCOL_ERROR
    await raw.closed()
    raw.writer.close()


async def test_a_client_that_reads_nothing_is_not_read_from(port: int, server: RpcServer, store: MemoryStore) -> None:
    """Its answers stay bounded, and others are served."""
    users = [f"{number:04d}-{'x' * 240}" for number in range(2_000)]
    await store.write_timed("op", [TimedEdit(user, 2, 0) for user in users])
    request = pb.getUserStatusReq(userIDs=users).SerializeToString()
    raw = await Raw.connect(port, window=h2.MAX_WINDOW)
    raw.writer.write(h2.widening_frame(0, 1 << 30))
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport that reads

    async def ask_on() -> None:
        while True:
            await raw.call("getUserStatus", request)

    asking = asyncio.create_task(ask_on())
    (of_raw,) = server._connections
    await until(lambda: of_raw._sender._held)
    sizes = []
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert of_raw._transport is not None
        sizes.append(of_raw._transport.get_write_buffer_size() + of_raw._sender._unsent_bytes)
    assert max(sizes) < 5 << 20
    assert not asking.done()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await get(channel)(GET_ANN, metadata=METADATA, timeout=10)
    asking.cancel()
    raw.writer.transport.abort()


async def test_a_watcher_that_takes_no_data_is_told_the_rest_when_it_does(port: int, server: RpcServer) -> None:
    """States in between are left out; the last one is not."""
    raw = await Raw.connect(port, window=0)
    stream = await raw.call("/grpc.health.v1.Health/Watch", b"")
    await raw.next(h2.HEADERS)
    for serving in (True, False, True):
        server.set_serving(serving=serving)
        await asyncio.sleep(0)
    raw.writer.write(h2.widening_frame(stream, 1_000))
    got = b""
    while True:
        got += (await raw.next(h2.DATA)).payload
        statuses = [health_pb2.HealthCheckResponse.FromString(got[i + 5 : i + 7]).status for i in range(0, len(got), 7)]
        if statuses[-1] == health_pb2.HealthCheckResponse.SERVING:
            break
    assert statuses == [health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING]
    raw.writer.close()


async def test_a_client_hears_that_the_server_leaves(port: int, server: RpcServer, waiting: Waiting) -> None:
    """GOAWAY at once; what is under way then has the grace."""
    raw = await Raw.connect(port)
    await raw.call("getUserStatus", GET_ANN)
    await waiting.begun.wait()
    stopping = asyncio.create_task(server.stop(0.2))
    goaway = await raw.next(h2.GOAWAY)
    assert (goaway.code, goaway.payload[:4]) == (h2.Code.NO_ERROR, struct.pack(">I", 1))
    await stopping
    assert waiting.cancelled.is_set()
    raw.writer.close()


async def test_several_servers_share_a_port_if_told_to(presence: Presence, meter: Meter) -> None:
    first, second = RpcServer(UserService(presence, meter)), RpcServer(UserService(presence, meter))
    port = await first.start("127.0.0.1:0", shared=True)
    assert await second.start(f"127.0.0.1:{port}", shared=True) == port
    await first.stop(0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await get(channel)(GET_ANN, metadata=METADATA, timeout=10)
    await second.stop(0)


async def test_a_name_with_two_addresses_has_one_port(presence: Presence, meter: Meter) -> None:
    server = RpcServer(UserService(presence, meter))
    port = await server.start("localhost:0")
    assert {listener.sockets[0].getsockname()[1] for listener in server._servers} == {port}
    await server.stop(0)


async def test_many_streams_keep_no_room_of_calls(port: int, server: RpcServer) -> None:
    """A connection has a few; others, and its own calls, are served."""
    raw = await Raw.connect(port)
    for _ in range(100):
        await raw.call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"", end=False)
    assert b"\x0bgrpc-status\x018" in await status_of(raw)
    assert server._desk.calls == 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await get(channel)(GET_ANN, metadata=METADATA, timeout=10)
    raw.writer.close()


async def test_requests_of_a_stream_wait_as_they_came(port: int, server: RpcServer) -> None:
    """A client that takes no answers can't have thousands of bytes kept for each that it sends."""
    raw = await Raw.connect(port, window=0)
    packed = gzip.compress(bytes(4_000))
    message = b"\1" + len(packed).to_bytes(4, "big") + packed
    stream = await raw.call(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"", {"grpc_encoding": b"gzip"}, end=False
    )
    for _ in range(100):
        raw.writer.write(h2.frame(h2.DATA, 0, stream, message * 10))
    await raw.next(h2.HEADERS)
    await until(lambda: server._desk.kept_bytes > 900 * len(message))
    assert server._desk.kept_bytes < 1_100 * len(message)
    raw.writer.transport.abort()
    await until(lambda: not server._connections)
    assert server._desk.kept_bytes == 0


@pytest.mark.parametrize("method", ["health.v1.Health/Watch", "reflection.v1.ServerReflection/ServerReflectionInfo"])
@pytest.mark.parametrize("ending", ["is taken back", "is no message"])
async def test_what_a_stream_kept_is_given_back_once(port: int, server: RpcServer, method: str, ending: str) -> None:
    """Also where its request came, and it was ended, before its task began, or where the request is none."""
    raw = await Raw.connect(port)
    (of_raw,) = await connections(server)
    asked = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", f"/grpc.{method}".encode()))
    message = write_message(bytes(100))
    of_raw.data_received(
        h2.frame(h2.HEADERS, h2.END_HEADERS, 1, encode((*asked, (b"content-type", b"application/grpc"))))
        + h2.frame(h2.DATA, 0, 1, message if ending == "is taken back" else b"\2" + message[1:])
        + (h2.frame(h2.RST_STREAM, 0, 1, bytes(4)) if ending == "is taken back" else b"")
    )
    await until(lambda: not of_raw._sender.streams)
    await turns()
    assert (server._desk.kept_bytes, of_raw.kept_bytes) == (0, 0)
    raw.writer.close()


async def test_half_a_request_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor beyond its deadline, which runs from its beginning."""
    raw = await Raw.connect(port)
    stream = await raw.call("getUserStatus", b"", {"grpc_timeout": b"1m"}, end=False)
    assert b"\x0bgrpc-status\x014" in await status_of(raw)
    monkeypatch.setattr(calls, "STALLED_TICKS", 1)
    assert await raw.call("getUserStatus", b"", end=False) == stream + 2
    assert b"\x0bgrpc-status\x014" in await status_of(raw)
    raw.writer.close()


async def test_a_request_that_trickles_has_a_time_in_all(port: int, server: RpcServer) -> None:
    """A byte each second keeps it for a minute, not for ever."""
    raw = await Raw.connect(port)
    (of_raw,) = await connections(server)
    stream = await raw.begin("getUserStatus")
    raw.writer.write(h2.frame(h2.DATA, 0, stream, write_message(bytes(1_000))[:500]))
    await until(lambda: bool(of_raw._sender.streams))
    for _ in range(calls.WHOLE_TICKS):
        assert of_raw._sender.streams
        of_raw.data_received(h2.frame(h2.DATA, 0, stream, b"\0"))
        of_raw._calls.tick()
    assert not of_raw._sender.streams
    assert b"\x0bgrpc-status\x014" in await status_of(raw)
    raw.writer.close()


async def test_who_keeps_most_loses_it_and_not_who_comes_last(
    port: int, server: RpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [await Raw.connect(port) for _ in range(5)]
    await half_a_call(others[4])
    await until(lambda: server._desk.kept_bytes > 1_000)
    each = server._desk.kept_bytes
    monkeypatch.setattr(server._desk, "limits", RpcLimits(max_request_bytes=each))
    for count, other in zip((7, 7, 7, 7, 2), others, strict=True):
        for _ in range(count):
            await half_a_call(other)
    await until(lambda: server._desk.kept_bytes == 31 * each)
    last = await Raw.connect(port)
    for _ in range(3):
        await half_a_call(last)
    await until(lambda: server._desk.kept_bytes <= 32 * each and len(server._connections) == 6)
    await last.call("getUserStatus", GET_ANN)
    assert b"\x0bgrpc-status\x010" in await status_of(last)
    for one in (*others, last):
        one.writer.close()


@pytest.mark.parametrize("known", [True, False], ids=["a connection", "the server"])
async def test_headers_of_calls_under_way_are_kept_and_bounded(
    port: int, server: RpcServer, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """A thousand streams with 15 KB of metadata each and no end, scaled down: past the bound calls are refused."""
    most = 400_000
    monkeypatch.setattr(desks, "SHARE", 4 if known else 1)
    monkeypatch.setattr(server._desk, "limits", RpcLimits(max_request_bytes=most // desks.WHOLE_REQUESTS))
    peers = [await Raw.connect(port) for _ in range(1 if known else 4)]
    for _ in range(20):
        for peer in peers:
            await peer.begin("getUserStatus", {"x": b"v" * 15_000})
    bound = most // 4 if known else most
    for peer in peers:
        # 5 of 20, or about 5 each, are under way: the others were told.
        for _ in range(13):
            assert b"grpc-status\x018" in await status_of(peer)
    assert 0 < server._desk.kept_bytes <= bound
    last = await Raw.connect(port)
    await last.call("getUserStatus", GET_ANN)
    assert b"\x0bgrpc-status\x010" in await status_of(last)
    for one in (*peers, last):
        one.writer.close()
    await until(lambda: server._desk.kept_bytes == 0)


async def test_metadata_over_the_limit_fails_its_call_alone(port: int, waiting: Waiting) -> None:
    """20 KB of it, while others are under way on the connection, which go on."""
    raw = await Raw.connect(port)
    others = [await raw.call("getUserStatus", GET_ANN) for _ in range(16)]
    await waiting.begun.wait()
    large = await raw.begin("getUserStatus", {"x": b"v" * 20_000})
    answer = await raw.next(h2.HEADERS, h2.GOAWAY)
    assert (answer.kind, answer.stream) == (h2.HEADERS, large)
    assert b"grpc-status\x018" in answer.payload
    assert b"16 KiB" in answer.payload
    assert len(others) == 16
    raw.writer.write(h2.frame(h2.PING, 0, 0, bytes(8)))
    assert (await raw.next(h2.RST_STREAM, h2.PING)).stream in (large, 0)
    raw.writer.close()


async def test_a_pong_waits_for_an_answer_to_go_with(
    server: RpcServer, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not for ever: a client that only pings has its answer too."""
    raw = await Raw.connect(port)
    while not (await raw.next(h2.SETTINGS)).flags & h2.ACK:
        pass
    monkeypatch.setattr(connection, "PONG_WAIT_S", 3_600)
    raw.writer.write(h2.frame(h2.PING, 0, 0, b"with one"))
    await until(lambda: any(one._http.patient for one in server._connections))
    await raw.call("getUserStatus", GET_ANN)
    assert [(await raw.next(*range(10))).kind for _ in range(4)] == [h2.PING, h2.HEADERS, h2.DATA, h2.HEADERS]
    monkeypatch.setattr(connection, "PONG_WAIT_S", 0.001)
    alone = await Raw.connect(port)
    alone.writer.write(h2.frame(h2.PING, 0, 0, b"alone..."))
    assert (await alone.next(h2.PING)).payload == b"alone..."
    for one in (raw, alone):
        one.writer.close()


async def test_metadata_far_over_the_limit_ends_the_connection(port: int) -> None:
    raw = await Raw.connect(port)
    await raw.begin("getUserStatus", {"x": b"v" * 70_000})
    assert (await raw.next(h2.GOAWAY)).code == h2.Code.ENHANCE_YOUR_CALM
    raw.writer.close()


async def test_a_client_knows_how_much_metadata_is_taken(channel: grpc.aio.Channel) -> None:
    """It does not even send more, and its other calls go on."""
    get: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/openim.user.user/getUserStatus")
    await get(GET_ANN, metadata=METADATA)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(GET_ANN, metadata=(*METADATA, ("x", "v" * 20_000)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await get(GET_ANN, metadata=METADATA)


async def half_a_call(raw: Raw) -> None:
    """A call with 1,000 bytes of a request that is longer."""
    asked = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/openim.user.user/getUserStatus"))
    stream, raw._next = raw._next, raw._next + 2
    block = encode((*asked, (b"content-type", b"application/grpc"), (b"operationid", b"op1")))
    raw.writer.write(h2.frame(h2.HEADERS, h2.END_HEADERS, stream, block))
    raw.writer.write(h2.frame(h2.DATA, 0, stream, b"\0" + (999).to_bytes(4, "big") + bytes(995)))
    await raw.writer.drain()


async def test_a_deadline_after_the_answer_was_begun_ends_with_trailers_alone(port: int) -> None:
    """A second `:status` would be malformed."""
    raw = await Raw.connect(port)
    await raw.call("/grpc.health.v1.Health/Watch", b"", {"grpc_timeout": b"1m"})
    await raw.next(h2.HEADERS)
    ending = await status_of(raw)
    assert b"\x0bgrpc-status\x014" in ending
    assert b":status" not in ending
    assert not ending.startswith(b"\x88")
    raw.writer.close()


async def test_an_answer_nobody_takes_is_kept_until_the_deadline(
    port: int, server: RpcServer, store: MemoryStore
) -> None:
    users = [f"{number:04d}" for number in range(1_000)]
    await store.write_timed("op", [TimedEdit(user, 2, 0) for user in users])
    raw = await Raw.connect(port, window=0)
    request = pb.getUserStatusReq(userIDs=users).SerializeToString()
    await raw.call("getUserStatus", request, {"grpc_timeout": b"1m"})
    assert (await raw.next(h2.RST_STREAM)).code == h2.Code.CANCEL
    assert server._desk.kept_bytes == 0
    raw.writer.close()


async def test_who_may_not_call_has_nothing_inflated(port: int) -> None:
    """What is packed here is no gzip, and that is not found out."""
    raw = await Raw.connect(port)
    asked = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/openim.user.user/getUserStatus"))
    plain = ((b"content-type", b"application/grpc"), (b"grpc-encoding", b"gzip"))
    raw.writer.write(h2.frame(h2.HEADERS, h2.END_HEADERS, 1, encode((*asked, *plain))))
    raw.writer.write(h2.frame(h2.DATA, h2.END_STREAM, 1, b"\1\0\0\0\4none"))
    assert b"\x0bgrpc-status\x013" in await status_of(raw)
    raw.writer.close()


async def test_who_may_not_call_is_told_by_the_header_and_nothing_is_kept(port: int, server: RpcServer) -> None:
    raw = await Raw.connect(port)
    asked = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/openim.user.user/getUserStatus"))
    block = encode((*asked, (b"content-type", b"application/grpc"), (b"x", b"v" * 10_000)))
    raw.writer.write(h2.frame(h2.HEADERS, h2.END_HEADERS, 1, block))
    assert b"\x0bgrpc-status\x013" in await status_of(raw)
    assert server._desk.kept_bytes == 0
    raw.writer.close()


async def test_a_health_check_is_small(port: int) -> None:
    raw = await Raw.connect(port)
    await raw.call("/grpc.health.v1.Health/Check", bytes(5_000))
    assert b"\x0bgrpc-status\x018" in await status_of(raw)
    raw.writer.close()


async def test_a_connection_too_many_is_turned_away_if_all_others_have_calls(
    presence: Presence, meter: Meter, caplog: pytest.LogCaptureFixture, waiting: Waiting
) -> None:
    server = RpcServer(UserService(presence, meter), RpcLimits(max_connections=1))
    port = await server.start("127.0.0.1:0")
    first = await Raw.connect(port)
    await first.call("getUserStatus", GET_ANN)
    await waiting.begun.wait()
    second, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionResetError):
        assert await second.read() == b""
    await until(lambda: "turned 1 gRPC clients away" in caplog.text)
    assert not waiting.cancelled.is_set()
    first.writer.close()
    writer.close()
    await server.stop(0)


async def test_silent_connections_give_way_to_new_ones(
    presence: Presence, meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever fills the port with connections that ask nothing shuts nobody out; the oldest is told to go."""
    server = RpcServer(UserService(presence, meter), RpcLimits(max_connections=10))
    port = await server.start("127.0.0.1:0")
    silent = [await Raw.connect(port) for _ in range(10)]
    for one in silent:
        await one.next(h2.SETTINGS)
    late = [await Raw.connect(port) for _ in range(3)]
    for one in late:
        await one.call("getUserStatus", GET_ANN)
        assert b"\x0bgrpc-status\x010" in await status_of(one)
    assert (await silent[0].next(h2.GOAWAY)).code == h2.Code.NO_ERROR
    for one in silent[:3]:
        await one.closed()
    await until(lambda: "ended 3 idle gRPC connections" in caplog.text)
    assert "turned" not in caplog.text
    for one in (*silent, *late):
        one.writer.close()
    await server.stop(0)


async def test_who_has_many_connections_takes_no_place_from_who_has_few(presence: Presence, meter: Meter) -> None:
    server = RpcServer(UserService(presence, meter), RpcLimits(max_connections=4))
    port = await server.start("0.0.0.0:0")
    other = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
    few = Raw(*await asyncio.open_connection(sock=other))
    few.writer.write(h2.PREFACE + h2.settings_frame([]))
    await few.next(h2.SETTINGS)
    many = [await Raw.connect(port) for _ in range(12)]
    for one in many[-3:]:
        await one.next(h2.SETTINGS)
    await few.call("getUserStatus", GET_ANN)
    assert b"\x0bgrpc-status\x010" in await status_of(few)
    for one in (few, *many):
        one.writer.close()
    await server.stop(0)


async def test_an_idle_connection_is_told_to_come_again(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_TICKS", 0)
    raw = await Raw.connect(port)
    assert (await raw.next(h2.GOAWAY)).code == h2.Code.NO_ERROR
    await raw.closed()
    raw.writer.close()


async def test_a_failed_connection_is_lingered_for(port: int) -> None:
    """The last word reaches a client that goes on sending; to hang up at once would take it back."""
    for _ in range(10):
        raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
        raw.writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(3_000_000))
        assert (await raw.next(h2.GOAWAY)).code == h2.Code.PROTOCOL_ERROR
        await raw.closed()
        raw.writer.close()


@replaces_a_method
async def test_a_defect_ends_its_connection_with_a_word(
    port: int, server: RpcServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await Raw.connect(port)
    (of_raw,) = await connections(server)

    def broken(_data: bytes, _now: object, _until: float) -> None:
        raise ValueError

    monkeypatch.setattr(of_raw._http, "receive", broken)
    raw.writer.write(b"x")
    assert (await raw.next(h2.GOAWAY)).code == h2.Code.INTERNAL_ERROR
    assert "a gRPC connection failed" in caplog.text
    raw.writer.close()


class Steps:
    """A clock on which each look takes a tenth of a slice: so a slice is ten frames."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks * SLICE_S / 10


async def test_a_flood_of_calls_leaves_others_their_turn(presence: Presence, meter: Meter) -> None:
    """Another's call is answered while many that came before it wait; all are answered in the end, in order."""
    clock = Steps()
    server = RpcServer(UserService(presence, meter), turns=Turns(clock))
    port = await server.start("127.0.0.1:0")
    flooding, other = await Raw.connect(port), await Raw.connect(port)
    await other.next(h2.SETTINGS)
    sent = [await flooding.call("getUserStatus", GET_ANN) for _ in range(3_000)]
    await until(lambda: clock.looks > 200)
    seen = clock.looks
    await other.call("getUserStatus", GET_ANN)
    assert b"\x0bgrpc-status\x010" in await status_of(other)
    assert clock.looks - seen < 3_000, "before all of the flood was"
    answered: list[int] = []
    while len(answered) < len(sent):
        answer = await flooding.next(h2.HEADERS)
        answered += [answer.stream] if answer.flags & h2.END_STREAM else []
    assert answered == sent
    flooding.writer.close()
    other.writer.close()
    await server.stop(0)


async def test_a_flood_of_frames_that_ask_nothing_is_ended_and_counted(port: int, meter: QueryMeter) -> None:
    raw = await Raw.connect(port)
    stream = await raw.call("getUserStatus", b"", end=False)
    raw.writer.write(h2.frame(h2.DATA, 0, stream, b"x") * 10_000)
    goodbye = await raw.next(h2.GOAWAY)
    assert (goodbye.code, goodbye.payload[8:]) == (h2.Code.ENHANCE_YOUR_CALM, b"too many frames that ask nothing")
    await raw.closed()
    raw.writer.close()
    assert meter.closed == ["flood"]
