"""The WebSocket server, on picows: bytes and callbacks to the gateway, nothing decided here.

It answers the handshake as OpenIM's clients expect: a refusal is HTTP 200 with a
JSON body, or, for a client that asked for `isMsgResp`, an upgrade, one text frame
and a close.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from adsum.core.session import Session
from adsum.domain.errors import AdsumError, FrameError, InternalError, TooManyConnections
from adsum.domain.platforms import PlatformRegistry
from adsum.service.gateway import Gateway
from adsum.wire.handshake import SUCCESS_BODY, parse_handshake, refusal_body, wants_text_outcome

log = logging.getLogger(__name__)

READ_BUFFER_BYTES = 2_048
"""Of picows's own read buffer, the least it takes. It grows as needed; most connections only ever send heartbeats."""

WRITE_HIGH_BYTES = 65_536
WRITE_LOW_BYTES = 16_384
"""Unwritten bytes at which pushes are held back, and at which they go on."""

MESSAGE_TOO_BIG = 1009
PROTOCOL_ERROR = 1002
BROKEN = (WSCloseCode.PROTOCOL_ERROR, WSCloseCode.INVALID_TEXT, WSCloseCode.MESSAGE_TOO_BIG)
MAX_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455 section 5.5)."""


@dataclass(frozen=True, slots=True)
class WsOptions:
    """`handshake_timeout_ms` until the request is complete; messages of at most `max_message_bytes`."""

    handshake_timeout_ms: int = 10_000
    max_message_bytes: int = 51_200
    backlog: int = 4_096


class _Listener(socket.socket):
    """A listening socket that turns clients away while this process has no file descriptor left.

    aiofastnet, on which picows accepts, means to pause then, but fails (1.2.0) and is called
    again at once, for ever: whoever opens connections enough would fill the log and the CPU.
    So, as libuv does, a descriptor in reserve is given up to accept and drop who waits.
    """

    def __init__(self, family: int, address: tuple[Any, ...], turned_away: Callable[[], None], *, shared: bool) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._turned_away = turned_away
        self._reserve = os.open(os.devnull, os.O_RDONLY)
        try:
            if os.name == "posix":
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.bind(address)
        except OSError:
            self.close()
            raise

    def accept(self) -> tuple[socket.socket, Any]:
        """As any socket's; raises `BlockingIOError` too where a client had to be turned away."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._give_up_reserve()
        with contextlib.suppress(OSError):
            client, _ = super().accept()
            client.close()
            self._turned_away()
        # Another thread may have been quicker: then the next client has to wait.
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY)
        raise BlockingIOError

    def close(self) -> None:
        """As any socket's."""
        self._give_up_reserve()
        super().close()

    def _give_up_reserve(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
        self._reserve = -1


class _DefectsOnly(logging.LoggerAdapter[logging.Logger]):
    """What picows may log: our own defects, which it catches in callbacks and answers with a close.

    Its lower levels have whole requests, tokens included, and its errors every frame that
    breaks the protocol. One for all connections, where a plain logger would get a child for each.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return level >= logging.ERROR

    def log(self, level: int, msg: object, *args: object, **_more: object) -> None:
        if self.isEnabledFor(level) and not isinstance(sys.exception(), WSProtocolError):
            self.logger.log(level, msg, *args, exc_info=True)


class WsServer:
    """Listens on one address and feeds one gateway."""

    def __init__(self, gateway: Gateway, platforms: PlatformRegistry, options: WsOptions) -> None:
        self._gateway = gateway
        self._platforms = platforms
        self._options = options
        self._servers: list[asyncio.Server] = []

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen; returns the port, chosen if 0 was asked. Raises `OSError` if the address can't be had.

        `shared`: other processes listen on it too, and the system spreads connections over all.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((item[0], item[4]) for item in found):
            listener = _Listener(family, (address[0], port, *address[2:]), self._turned_away, shared=shared)
            await self._listen(listener)
            port = listener.getsockname()[1]
        return port

    async def _listen(self, listener: "_Listener") -> None:
        server = await ws_create_server(
            self._accept,
            sock=listener,
            logger_name=_DefectsOnly(log),
            websocket_handshake_timeout=self._options.handshake_timeout_ms / 1000,
            enable_auto_pong=False,
            max_frame_size=self._options.max_message_bytes,
            read_buffer_init_size=READ_BUFFER_BYTES,
            backlog=self._options.backlog,
        )
        self._servers.append(server)

    def stop_accepting(self) -> None:
        """Listen no longer; connections stay."""
        for server in self._servers:
            server.close()

    def _turned_away(self) -> None:
        self._gateway.refused(TooManyConnections("this process has no file descriptor left"))

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        query = request.path.partition(b"?")[2].decode("utf-8", "surrogateescape")
        try:
            return self._admit(query, request)
        except AdsumError as error:
            refusal = error
        except Exception:
            log.exception("a handshake failed")
            refusal = InternalError("the handshake failed here, and the log says why")
        self._gateway.refused(refusal)
        body = refusal_body(refusal)
        if wants_text_outcome(query):
            return _Refusal(body)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(body, headers), None)

    def _admit(self, query: str, request: WSUpgradeRequest) -> WSListener:
        headers: CIMultiDict[str] = request.headers
        compression = {"compression": headers.get("compression", "")}
        handshake = parse_handshake(query, compression, self._platforms)
        session = self._gateway.admit(handshake, headers.get("origin"))
        first = SUCCESS_BODY if handshake.send_response else None
        return _Connection(self._gateway, session, first, self._options.max_message_bytes)


class _Refusal(WSListener):
    """Upgrades only to say why not, since browsers can't read a failed upgrade."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, self._body)
        transport.send_close(WSCloseCode.POLICY_VIOLATION)
        transport.disconnect()

    def pause_writing(self) -> None:
        """Nothing more is written."""

    def resume_writing(self) -> None:
        """Nothing more is written."""


class _Connection(WSListener):
    """One accepted connection: picows's listener, and the gateway's `Link`."""

    __slots__ = ("_first", "_gateway", "_max_bytes", "_parts", "_parts_type", "_session", "_transport")

    def __init__(self, gateway: Gateway, session: Session, first: bytes | None, max_bytes: int) -> None:
        self._gateway = gateway
        self._session = session
        self._first = first
        self._max_bytes = max_bytes
        self._parts: bytearray | None = None
        self._parts_type = WSMsgType.BINARY
        self._transport: WSTransport | None = None

    # From picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        if self._first is not None:
            transport.send(WSMsgType.TEXT, self._first)
            self._first = None
        self._gateway.opened(self._session, self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        # (None if nobody said goodbye, whatever picows's types say.)
        sent = getattr(transport.close_handshake, "sent", None)
        if sent is not None and sent.code in BROKEN:
            # picows found it by itself, and said goodbye. (Ours changes nothing here.)
            self._violation(sent.reason, sent.code.value)
        self._gateway.closed(self._session)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._violation("reserved bits are set, but no extension was agreed", PROTOCOL_ERROR)
        elif kind == WSMsgType.PING:
            self._gateway.ping(self._session, frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            self._gateway.pong(self._session)
        elif kind == WSMsgType.CLOSE:
            self._answer_close(transport, frame)
        elif frame.fin and self._parts is None and kind != WSMsgType.CONTINUATION:
            self._message(kind, frame.get_payload_as_bytes())
        else:
            self._fragment(kind, frame)

    def pause_writing(self) -> None:
        self._gateway.stalled(self._session)

    def resume_writing(self) -> None:
        self._gateway.writable(self._session)

    # To the client

    def send_binary(self, payload: bytes) -> None:
        """Send one binary message."""
        if self._transport is not None:
            self._transport.send(WSMsgType.BINARY, payload)

    def send_text(self, payload: bytes) -> None:
        """Send one text message (UTF-8)."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, payload)

    def send_ping(self) -> None:
        """Send a protocol ping."""
        if self._transport is not None:
            self._transport.send_ping()

    def send_pong(self, payload: bytes) -> None:
        """Send a protocol pong."""
        if self._transport is not None:
            self._transport.send_pong(payload)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; the client's answer, or the gateway's patience, ends the connection."""
        if self._transport is not None:
            shortened = reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")
            self._transport.send_close(WSCloseCode(code), shortened)

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def unwritten_bytes(self) -> int:
        """Bytes accepted for sending that the operating system has not taken."""
        if self._transport is None:
            return 0
        size: int = self._transport.underlying_transport.get_write_buffer_size()
        return size

    # Messages

    def _message(self, kind: WSMsgType, payload: bytes) -> None:
        if kind == WSMsgType.BINARY:
            self._gateway.binary(self._session, payload)
        else:
            self._gateway.text(self._session, payload)

    def _fragment(self, kind: WSMsgType, frame: WSFrame) -> None:
        """One piece of a message sent in several frames (RFC 6455 section 5.4)."""
        if (kind == WSMsgType.CONTINUATION) == (self._parts is None):
            self._violation("a fragmented message is out of order", PROTOCOL_ERROR)
            return
        if self._parts is None:
            self._parts, self._parts_type = bytearray(), kind
        if len(self._parts) + frame.payload_size > self._max_bytes:
            self._parts = None
            self._violation(f"the message is longer than {self._max_bytes} bytes", MESSAGE_TOO_BIG)
            return
        self._parts += frame.get_payload_as_memoryview()
        if frame.fin:
            whole, self._parts = bytes(self._parts), None
            self._message(self._parts_type, whole)

    def _violation(self, detail: str, close_code: int) -> None:
        self._gateway.violated(self._session, FrameError(detail, close_code))

    def _answer_close(self, transport: WSTransport, frame: WSFrame) -> None:
        """The client's goodbye, or its answer to ours: echo it once, and end."""
        if not transport.is_close_frame_sent:
            code = frame.get_close_code()
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
        transport.disconnect()
