"""Opens a WebSocket to a server: connects, shakes hands, and hands the connection to its owner.

Invariant: either the owner has the connection, or an exception says why not and
nothing stays open. No exception's text has the target, where the token is.
"""

import asyncio
import secrets
from typing import Protocol, cast
from urllib.parse import urlsplit

from adsum.wire.upgrade import END_OF_HEAD, MAX_HEAD_BYTES, accepts, build_request, content_length

MAX_BODY_BYTES = 65_536
"""No more of a refusal is read; OpenIM's have under 1,000."""


class Refused(Exception):
    """The server answered with something else than a WebSocket; `body` is what it said."""

    def __init__(self, body: bytes) -> None:
        super().__init__("the server opened no WebSocket")
        self.body = body


class Owner(Protocol):
    """Who gets the connection: the transport's protocol from then on."""

    def connected(self, transport: asyncio.Transport, received: bytes) -> None:
        """The handshake is complete, and these bytes came after it."""
        ...


async def dial(owner: Owner, url: str, timeout_s: float) -> None:
    """Open a WebSocket for `owner`, which must be an `asyncio.Protocol` too.

    Raises `ValueError` for a URL that is none, `OSError` or `TimeoutError` if it can't
    be reached, `ConnectionError` if it hangs up, `Refused` if it answers otherwise.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("not a WebSocket URL")
    secure = parts.scheme == "wss"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    key = secrets.token_bytes(16)
    request = build_request(parts.netloc.rpartition("@")[2], target, key)
    opened: asyncio.Future[None] = loop.create_future()
    port = parts.port or (443 if secure else 80)
    async with asyncio.timeout(timeout_s):
        transport, _ = await loop.create_connection(
            lambda: _Opening(owner, request, key, opened), parts.hostname, port, ssl=True if secure else None
        )
        try:
            await opened
        except BaseException:
            transport.abort()
            raise


class _Opening(asyncio.Protocol):
    """A connection until the server has answered the handshake."""

    def __init__(self, owner: Owner, request: bytes, key: bytes, opened: "asyncio.Future[None]") -> None:
        self._owner = owner
        self._request = request
        self._key = key
        self._opened = opened
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._opened.done() or self._transport is None:
            return
        self._received += data
        head, end, rest = self._received.partition(END_OF_HEAD)
        if not end:
            if len(head) > MAX_HEAD_BYTES:
                self._refused(b"")
        elif accepts(head, self._key):
            self._transport.set_protocol(cast("asyncio.Protocol", self._owner))
            self._opened.set_result(None)
            self._owner.connected(self._transport, rest)
        else:
            size = content_length(head)
            if len(rest) >= (MAX_BODY_BYTES if size is None else min(size, MAX_BODY_BYTES)):
                self._refused(rest[:size])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._opened.done():
            return
        _, end, rest = self._received.partition(END_OF_HEAD)
        if end:
            self._refused(rest)
        else:
            self._opened.set_exception(exc or ConnectionError("the server hung up during the handshake"))

    def _refused(self, body: bytes) -> None:
        self._opened.set_exception(Refused(body))
