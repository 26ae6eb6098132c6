"""Opening handshakes of the client against servers that do not do what they should."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from adsum.client.dial import MAX_BODY_BYTES, Refused, dial
from adsum.wire.upgrade import MAX_HEAD_BYTES, accepting_response, parse_request, split_request


class Owner(asyncio.Protocol):
    """Notes what it is given."""

    def __init__(self) -> None:
        self.received = b""
        self.transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()

    def connected(self, transport: asyncio.Transport, received: bytes) -> None:
        self.transport = transport
        self.received = received

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost.set()


@contextlib.asynccontextmanager
async def answering(answer: Callable[[bytes], bytes], *, hang_up: bool = True) -> AsyncIterator[str]:
    """The URL of a server that answers each handshake by its key."""
    done = asyncio.Event()
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            found = split_request(await reader.readuntil(b"\r\n\r\n"))
            assert found is not None
            said = answer(parse_request(found[0]).key)
            for byte in said[:200]:
                writer.write(bytes([byte]))
            writer.write(said[200:])
            if not hang_up:
                await done.wait()
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()
        served.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/?token=T0KEN"
        done.set()
        await served.wait()


async def test_what_follows_the_answer_reaches_the_owner() -> None:
    async with answering(lambda key: accepting_response(key) + b"\x81\x00") as url:
        owner = Owner()
        await dial(owner, url, 10)
        await owner.lost.wait()
        assert owner.received == b"\x81\x00"
        assert owner.transport is not None
        owner.transport.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nwhy and more", b"why"),
        (b"HTTP/1.1 200 OK\r\n\r\nall of it", b"all of it"),
        (b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut", b"cut"),
        (accepting_response(b"another key"), b""),
    ],
)
async def test_another_answer_is_a_refusal_with_its_body(answer: bytes, body: bytes) -> None:
    async with answering(lambda _: answer) as url:
        with pytest.raises(Refused) as caught:
            await dial(Owner(), url, 10)
        assert caught.value.body == body
        assert "T0KEN" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * MAX_BODY_BYTES * 2, b"HTTP/1.1 " + b"x" * MAX_HEAD_BYTES * 2]
)
async def test_an_endless_answer_is_not_read_to_its_end(answer: bytes) -> None:
    async with answering(lambda _: answer, hang_up=False) as url:
        with pytest.raises(Refused):
            await dial(Owner(), url, 10)


async def test_no_answer_in_time() -> None:
    async with answering(lambda _: b"HTTP/1.1", hang_up=False) as url:
        with pytest.raises(TimeoutError):
            await dial(Owner(), url, 0.05)


async def test_a_server_without_tls_is_no_wss_server() -> None:
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.read(1)) == b"\x16", "the client begins with TLS's handshake"
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with pytest.raises(ssl.SSLError):
            await dial(Owner(), f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/", 10)
        await served.wait()


@pytest.mark.parametrize(
    "url", ["http://localhost/", "ws:///path", "ws://", "localhost", "ws://localhost:x/", "ws://a/ b"]
)
async def test_what_is_no_websocket_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        await dial(Owner(), url, 10)
