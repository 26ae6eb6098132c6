"""A server that answers any HTTP/2 request with 200 and a short body, over the service's own HTTP/2."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from adsum.wire.hpack import encode
from adsum.wire.http2 import ServerConnection
from adsum.wire.http2_headers import Block
from adsum.wire.http2_streams import Stream

_OPENING = encode(((b":status", b"200"), (b"content-type", b"text/plain")))
_TRAILERS = encode(((b"answered", b"yes"),))
_BODY = b"answered"


class _Connection(asyncio.Protocol):
    """One connection; the receiver of what its HTTP/2 tells."""

    def __init__(self) -> None:
        self._http2: ServerConnection[Block] = ServerConnection(self, lambda block: block)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._http2.take())

    def data_received(self, data: bytes) -> None:
        self._http2.receive(data)
        self._transport.write(self._http2.take())
        if self._http2.failed is not None:
            self._transport.close()

    def opened(self, stream: Stream[Block]) -> None:
        if stream.ended:
            self._answer(stream)

    def body(self, stream: Stream[Block], data: bytes) -> None:  # noqa: ARG002 - whatever it says
        if stream.ended:
            self._answer(stream)

    def drained(self, stream: Stream[Block]) -> None:
        pass

    def reset(self, stream: Stream[Block]) -> None:
        pass

    def kept(self, size: int) -> None:
        pass

    def _answer(self, stream: Stream[Block]) -> None:
        self._http2.sender.answer(stream, _OPENING, _BODY, _TRAILERS)


@contextlib.asynccontextmanager
async def answerer() -> AsyncIterator[int]:
    """The port of one that runs meanwhile."""
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
