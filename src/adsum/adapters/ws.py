"""The WebSocket server, on picows: bytes and callbacks to the gateway, nothing decided here.

It answers the handshake as OpenIM's clients expect: a refusal is HTTP 200 with a
JSON body, or, for a client that asked for `isMsgResp`, an upgrade, one text frame
and a close.
"""

import asyncio
import logging
from dataclasses import dataclass

from multidict import CIMultiDict
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from adsum.core.session import Session
from adsum.domain.errors import AdsumError, FrameError, InternalError
from adsum.domain.platforms import PlatformRegistry
from adsum.service.gateway import Gateway
from adsum.wire.handshake import SUCCESS_BODY, parse_handshake, refusal_body, wants_text_outcome

log = logging.getLogger(__name__)

# picows logs whole requests, tokens included, at its lower levels, and every closed
# handshake as an error; what matters is counted and logged by the gateway.
logging.getLogger("picows").setLevel(logging.CRITICAL)

READ_BUFFER_BYTES = 256
"""Of picows's own read buffer, which grows as needed: most connections only ever send heartbeats."""

WRITE_HIGH_BYTES = 65_536
WRITE_LOW_BYTES = 16_384
"""Unwritten bytes at which pushes are held back, and at which they go on."""

MESSAGE_TOO_BIG = 1009
PROTOCOL_ERROR = 1002
UNSUPPORTED_DATA = 1003
MAX_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455 section 5.5)."""


@dataclass(frozen=True, slots=True)
class WsOptions:
    """`handshake_timeout_ms` until the request is complete; messages of at most `max_message_bytes`."""

    handshake_timeout_ms: int = 10_000
    max_message_bytes: int = 51_200
    backlog: int = 4_096


class WsServer:
    """Listens on one address and feeds one gateway."""

    def __init__(self, gateway: Gateway, platforms: PlatformRegistry, options: WsOptions) -> None:
        self._gateway = gateway
        self._platforms = platforms
        self._options = options
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, chosen if 0 was asked. Raises `OSError` if the address can't be had."""
        self._server = await ws_create_server(
            self._accept,
            host,
            port,
            websocket_handshake_timeout=self._options.handshake_timeout_ms / 1000,
            enable_auto_pong=False,
            max_frame_size=self._options.max_message_bytes,
            read_buffer_init_size=READ_BUFFER_BYTES,
            backlog=self._options.backlog,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop_accepting(self) -> None:
        """Listen no longer; connections stay."""
        if self._server is not None:
            self._server.close()

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

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows's signature
        self._transport = None
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
