"""One client at a time, by the independent library `websockets`; and one of bare bytes, that may do anything."""

import asyncio
import base64
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from urllib.parse import urlsplit

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from adsum.wire.frames import CODECS, Codec
from adsum.wire.messages import Op, Request, Response
from adsum.wire.protobuf import UserStatus, decode_tips, encode_watch
from tests.support.service import RunningService

PATIENCE_S = 30
"""The longest wait for what must come; reached only when a test fails."""

LIMIT = 10_000_000

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition; fails if it does not come true."""
    async with asyncio.timeout(PATIENCE_S):
        while not await true():  # noqa: ASYNC110 - a service in another process has no event here
            await asyncio.sleep(0.02)


def logged(service: RunningService, text: str) -> Callable[[], Awaitable[bool]]:
    """Whether the service has logged this."""

    async def found() -> bool:
        return any(text in line for line in service.log)

    return found


async def metrics(service: RunningService) -> dict[str, float]:
    """What the metrics page says, by name with labels as they are written there."""
    status, text = await http_get(service, "/metrics")
    assert status == 200
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def http_get(service: RunningService, path: str) -> tuple[int, str]:
    """Status and body of a page of the HTTP port."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{service.http}{path}") as response:
        return response.status, await response.text()


async def metric_is(service: RunningService, name: str, value: float) -> None:
    """Wait until a metric has this value."""
    await metrics_are(service, {name: value})


async def metrics_are(service: RunningService, expected: Mapping[str, float]) -> None:
    """Wait until these metrics have these values at once."""

    async def true() -> bool:
        found = await metrics(service)
        return all(found.get(name) == value for name, value in expected.items())

    await eventually(true)


async def nobody_is_left(service: RunningService) -> None:
    """Wait until nobody is connected, watched or online."""
    names = ("adsum_connections_open", "adsum_watches", "adsum_watched_users", "adsum_users_online")
    await metrics_are(service, dict.fromkeys(names, 0))


class Client:
    """A connection of one user. `heard` has the newest platforms of each user it was told of, `pushed` all pushes."""

    def __init__(self, ws: ClientConnection, user_id: str, codec: Codec) -> None:
        self.ws = ws
        self.user_id = user_id
        self.codec = codec
        self.heard: dict[str, tuple[int, ...]] = {}
        self.pushed: list[UserStatus] = []
        self._incr = itertools.count(1)

    async def send(self, op: int, data: bytes = b"", msg_incr: str = "", *, send_id: str | None = None) -> None:
        """Send one request."""
        user_id = self.user_id if send_id is None else send_id
        await self.ws.send(self.codec.encode_request(Request(op, "", user_id, f"op-{msg_incr}", msg_incr, data)))

    async def next(self) -> Response:
        """The next frame, which must be binary. What it tells of users is noted."""
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.ws.recv()
        assert isinstance(frame, bytes), f"a text frame came unasked: {frame!r}"
        response = self.codec.decode_response(frame, LIMIT)
        if response.op == Op.WATCH and not response.err_code:
            statuses = decode_tips(response.data)
            self.heard.update((status.user_id, status.platform_ids) for status in statuses)
            if not response.msg_incr:
                assert not response.operation_id
                self.pushed += statuses
        return response

    async def ask(self, op: int, data: bytes = b"") -> Response:
        """Send a request; its answer, which must echo what names it. Pushes before it are noted."""
        msg_incr = f"{self.user_id}_{next(self._incr)}"
        await self.send(op, data, msg_incr)
        while (response := await self.next()).msg_incr != msg_incr:
            assert not response.msg_incr, f"an answer to something else: {response}"
        assert (response.op, response.operation_id) == (op, f"op-{msg_incr}")
        return response

    async def watch(self, *add: str, drop: Iterable[str] = ()) -> dict[str, tuple[int, ...]]:
        """Watch users, and no longer watch others; the states in the answer, in its order."""
        response = await self.ask(Op.WATCH, encode_watch(add, drop))
        assert not response.err_code, response
        return {status.user_id: status.platform_ids for status in decode_tips(response.data)}

    async def hears(self, user_id: str, *platform_ids: int) -> None:
        """Wait until the newest word on a user is this."""
        while self.heard.get(user_id) != platform_ids:
            await self.next()

    def pushes_of(self, user_id: str) -> list[tuple[int, ...]]:
        """All that was pushed on one user, in order."""
        return [status.platform_ids for status in self.pushed if status.user_id == user_id]

    async def text(self, text: str) -> str:
        """Send a text frame; the text frame that comes back."""
        await self.ws.send(text)
        async with asyncio.timeout(PATIENCE_S):
            answer = await self.ws.recv()
        assert isinstance(answer, str)
        return answer

    async def closed(self) -> tuple[int, str, list[Response]]:
        """Wait for the service's goodbye: code, reason, and the responses that came before it."""
        responses: list[Response] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                responses.append(await self.next())
        goodbye = self.ws.protocol.close_rcvd
        assert goodbye is not None, "the connection broke without a goodbye"
        return goodbye.code, goodbye.reason, responses

    async def close(self) -> None:
        """Say goodbye; returns when the service has answered."""
        await self.ws.close()
        assert self.ws.close_code == CloseCode.NORMAL_CLOSURE

    def drop(self) -> None:
        """Cut the connection without a goodbye."""
        self.ws.transport.abort()


@contextlib.asynccontextmanager
async def client(
    service: RunningService, user_id: str, platform_id: int = 1, codec: Codec = CODECS[0], **more: object
) -> AsyncIterator[Client]:
    """A connected client; `more` are fields of `Handshake`. It is gone at the end, however it ended."""
    url = service.url(user_id, platform_id, gzip=codec.gzip, sdk_type=codec.kind, **more)
    async with websocket(url) as ws:
        yield Client(ws, user_id, codec)


def websocket(url: str, **more: object) -> connect:
    """A bare connection of `websockets` that does nothing by itself; use it with `async with`."""
    settings: dict[str, object] = {
        "compression": None,
        "ping_interval": None,
        "proxy": None,
        "open_timeout": PATIENCE_S,
        "close_timeout": PATIENCE_S,
        "max_size": LIMIT,
        "max_queue": None,
    }
    return connect(url, **(settings | more))  # type: ignore[arg-type]


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, mask: bytes = bytes(4)
) -> bytes:
    """One frame of a client (RFC 6455 section 5.2), well formed or not."""
    first = fin << 7 | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack(">BB", first, bit | len(payload))
    elif len(payload) < 65_536:
        head = struct.pack(">BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack(">BBQ", first, bit | 127, len(payload))
    if not masked:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


class Raw:
    """A TCP connection that reads only when told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        """Send bytes; waits while the service takes none."""
        async with asyncio.timeout(PATIENCE_S):
            await self._loop.sock_sendall(self._sock, data)

    async def upgrade(self, url: str) -> None:
        """Ask for the WebSocket, which must be granted."""
        await self.send(upgrade_request(url))
        answer = await self.until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer

    async def until(self, end: bytes) -> bytes:
        """Bytes up to and with `end`."""
        while end not in self._buffer:
            assert await self._more(), f"the connection ended after {bytes(self._buffer)!r}"
        found, _, rest = bytes(self._buffer).partition(end)
        self._buffer = bytearray(rest)
        return found + end

    async def next_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame, whole, unmasked; `EOFError` if the connection ended."""
        first, size = await self._take(2)
        opcode = first & 0xF
        assert first >> 4 == 0x8, "a frame in fragments, or with reserved bits"
        assert size < 0x80, "a server masks nothing"
        if size == 126:
            (size,) = struct.unpack(">H", await self._take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._take(8))
        return opcode, await self._take(size)

    async def some(self) -> bytes:
        """Bytes as they come; none once the service has ended the connection."""
        if not self._buffer:
            await self._more()
        found = bytes(self._buffer)
        self._buffer.clear()
        return found

    async def rest(self) -> bytes:
        """All bytes until the service ends the connection."""
        while await self._more():
            pass
        return bytes(self._buffer)

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not await self._more():
                raise EOFError
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    async def _more(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            try:
                data = await self._loop.sock_recv(self._sock, 262_144)
            except ConnectionResetError:
                return False
        self._buffer += data
        return bool(data)


@contextlib.asynccontextmanager
async def raw(service: RunningService, receive_bytes: int = 0, address: str = "") -> AsyncIterator[Raw]:
    """A bare TCP connection to the WebSocket port, or another one of the service.

    `receive_bytes` is about what it takes without being told to read (0: the system's).
    """
    host, _, port = (address or service.ws).rpartition(":")
    with socket.socket() as sock:
        sock.setblocking(False)  # noqa: FBT003 - its only form
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        yield Raw(sock)


def upgrade_request(url: str, *more: str, without: str = "") -> bytes:
    """A handshake as bytes, with further headers or without one."""
    parts = urlsplit(url)
    headers = [
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    kept = [line for line in (*headers, *more) if not without or not line.startswith(f"{without}:")]
    return "\r\n".join([f"GET {parts.path}?{parts.query} HTTP/1.1", *kept, "", ""]).encode()
