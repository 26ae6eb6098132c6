"""The WebSocket server: bytes and callbacks to the gateway, nothing decided here.

It answers the handshake as OpenIM's clients expect: a refusal is HTTP 200 with a
JSON body, or, for a client that asked for `isMsgResp`, an upgrade, one text frame
and a close. What the protocol is, `adsum.wire.upgrade` and `adsum.wire.websocket` know.

Invariant: an idle connection is a transport, a `_Connection` and its reader, with
no task, timer or buffer; one that is not open yet, or was refused, is dropped when
its time is up.
"""

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from adsum.adapters.listener import end_sending, files_are_short, serve
from adsum.core.session import POLICY_VIOLATION, Session
from adsum.core.wheel import Wheel
from adsum.domain.errors import AdsumError, FrameError, InternalError, TooManyConnections
from adsum.domain.platforms import PlatformRegistry
from adsum.service.gateway import NORMAL_CLOSURE, Gateway
from adsum.wire.handshake import SUCCESS_BODY, parse_handshake, refusal_body, wants_text_outcome
from adsum.wire.upgrade import (
    UpgradeError,
    UpgradeRequest,
    accepting_response,
    http_response,
    parse_request,
    split_request,
)
from adsum.wire.websocket import (
    BINARY,
    CLOSE,
    NO_CODE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    goodbye,
    goodbye_code,
    server_frame,
)

log = logging.getLogger(__name__)

INTERNAL_ERROR = 1011
"""The close code for a defect of ours (RFC 6455 section 7.4.1)."""

LINGER_MS = 2_000
"""How long a client that was refused has to read why and hang up.

If we hung up while it still sends, the system would take back what it has not read.
"""

MAX_DISCARDED_BYTES = 1_048_576
"""Of what it still sends then; a client that sends more is dropped at once."""

TICKS = 8
"""Turns of the wheel in a handshake's time, which may last one of them longer."""


@dataclass(frozen=True, slots=True)
class WsOptions:
    """`handshake_timeout_ms` until the request is complete; messages of at most `max_message_bytes`."""

    handshake_timeout_ms: int = 10_000
    max_message_bytes: int = 51_200
    backlog: int = 4_096


class WsServer:
    """Listens on one address and feeds one gateway."""

    def __init__(self, gateway: Gateway, platforms: PlatformRegistry, options: WsOptions) -> None:
        self.gateway = gateway
        self._platforms = platforms
        self._options = options
        self.handshake_timeout_ms = options.handshake_timeout_ms
        self._servers: list[asyncio.Server] = []
        self._tick_ms = max(1, options.handshake_timeout_ms // TICKS)
        self._guests: Wheel[_Guest] = Wheel(self._tick_ms, 0)
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen; returns the port, chosen if 0 was asked. Raises `OSError` if the address can't be had.

        `shared`: other processes listen on it too, and the system spreads connections over all.
        """
        self._servers, chosen = await serve(
            lambda: _Guest(self), host, port, shared=shared, backlog=self._options.backlog
        )
        return chosen

    def stop_accepting(self) -> None:
        """Listen no longer; connections stay."""
        for server in self._servers:
            server.close()

    # Guests: connections that are not open yet, or never will be

    def expect(self, guest: "_Guest", within_ms: int) -> int:
        """Drop a guest unless it leaves the wheel in time; its slot."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(self._tick_ms / 1000, self._turn)
        return self._guests.put(guest, int(loop.time() * 1000) + within_ms)

    def forget(self, guest: "_Guest", slot: int) -> None:
        """A guest is one no longer."""
        self._guests.remove(guest, slot)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        for guest in self._guests.turn(int(loop.time() * 1000)):
            guest.drop()
        self._timer = loop.call_later(self._tick_ms / 1000, self._turn) if self._guests else None

    def receive(self, request: UpgradeRequest, transport: asyncio.Transport) -> "_Connection | None":
        """Answer a handshake: with a connection, which is open then, or None for a refusal."""
        query = request.query
        try:
            self._check_files(transport)
            handshake = parse_handshake(query, {"compression": request.header(b"compression") or ""}, self._platforms)
            session = self.gateway.admit(handshake, request.header(b"origin"))
        except AdsumError as error:
            refusal = error
        except Exception:
            log.exception("a handshake failed")
            refusal = InternalError("the handshake failed here, and the log says why")
        else:
            first = server_frame(TEXT, SUCCESS_BODY) if handshake.send_response else b""
            transport.write(accepting_response(request.key) + first)
            return _Connection(self, session, transport, self._options.max_message_bytes)
        self.gateway.refused(refusal)
        transport.write(_refusal(request, refusal_body(refusal), as_frame=wants_text_outcome(query)))
        return None

    def outlast(self, transport: asyncio.Transport) -> None:
        """A connection has ended, but not all that was sent is taken: drop it when its time is up."""
        guest = _Guest(self)
        guest.dismissed(transport)
        transport.set_protocol(guest)

    def _check_files(self, transport: asyncio.Transport) -> None:
        if files_are_short(transport):
            raise TooManyConnections("this process has hardly any file descriptor left: raise its limit (ulimit -n)")

    def reject(self, error: UpgradeError, transport: asyncio.Transport) -> None:
        """Answer a request that opens no WebSocket."""
        self.gateway.refused(error)
        transport.write(http_response(error.status, "text/plain; charset=utf-8", f"{error.detail}\n".encode()))


def _refusal(request: UpgradeRequest, body: bytes, *, as_frame: bool) -> bytes:
    if not as_frame:
        return http_response(HTTPStatus.OK, "application/json; charset=utf-8", body)
    farewell = server_frame(CLOSE, goodbye(POLICY_VIOLATION))
    return accepting_response(request.key) + server_frame(TEXT, body) + farewell


class _Guest(asyncio.Protocol):
    """A connection until its handshake is complete, and one that was refused until it ends."""

    __slots__ = ("_discarded", "_received", "_refused", "_server", "_slot", "_transport")

    def __init__(self, server: WsServer) -> None:
        self._server = server
        self._received = b""
        self._refused = False
        self._discarded = 0
        self._slot = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._slot = self._server.expect(self, self._server.handshake_timeout_ms)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._server.forget(self, self._slot)

    def dismissed(self, transport: asyncio.Transport) -> None:
        """Only what was sent on it has still to go."""
        self._transport, self._refused = transport, True
        self._slot = self._server.expect(self, LINGER_MS)

    def drop(self) -> None:
        """The time is up."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._refused:
            self._discard(len(data))
            return
        self._received += data
        try:
            found = split_request(self._received)
            if found is None:
                return
            head, rest = found
            request = parse_request(head)
        except UpgradeError as error:
            self._server.reject(error, self._transport)
            self._linger(self._transport)
            return
        connection = self._server.receive(request, self._transport)
        if connection is None:
            self._linger(self._transport)
            return
        self._server.forget(self, self._slot)
        self._transport.set_protocol(connection)
        connection.opened(rest)

    def _linger(self, transport: asyncio.Transport) -> None:
        self._refused, self._received = True, b""
        end_sending(transport)
        self._server.forget(self, self._slot)
        self._slot = self._server.expect(self, LINGER_MS)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES:
            self.drop()


class _Connection(asyncio.Protocol):
    """One open connection: asyncio's protocol on one side, the gateway's `Link` on the other.

    `_talking` until a goodbye is sent: nothing may follow it. Transports say that
    writing should pause at 64 KiB unwritten, and may go on at 16.
    """

    __slots__ = ("_gateway", "_reader", "_server", "_session", "_talking", "_transport")

    def __init__(self, server: WsServer, session: Session, transport: asyncio.Transport, max_bytes: int) -> None:
        self._server = server
        self._gateway = server.gateway
        self._session = session
        self._transport = transport
        self._reader = FrameReader(max_bytes, masked=True)
        self._talking = True

    # From asyncio

    def opened(self, received: bytes) -> None:
        """The handshake is complete, and these bytes came after it."""
        try:
            self._gateway.opened(self._session, self)
        except Exception:
            log.exception("opening a connection failed")
            self._defect()
        if received:
            self.data_received(received)

    def data_received(self, data: bytes) -> None:
        try:
            for opcode, payload in self._reader.feed(data):
                if opcode == BINARY:
                    self._gateway.binary(self._session, payload)
                else:
                    self._take(opcode, payload)
        except FrameError as error:
            self._gateway.violated(self._session, error)
            self.close(error.close_code, error.detail)
            # What it still sends is not read, but must not keep the goodbye from it; the gateway's patience ends it.
            if not self._transport.is_closing():
                end_sending(self._transport)
        except Exception:
            log.exception("reading a connection failed")
            self._defect()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._talking = False
        self._gateway.closed(self._session)

    def pause_writing(self) -> None:
        self._gateway.stalled(self._session)

    def resume_writing(self) -> None:
        self._gateway.writable(self._session)

    # To the client

    def send_binary(self, payload: bytes) -> None:
        """Send one binary message."""
        if self._talking:
            self._transport.write(server_frame(BINARY, payload))

    def send_text(self, payload: bytes) -> None:
        """Send one text message (UTF-8)."""
        self._send(TEXT, payload)

    def send_ping(self) -> None:
        """Send a protocol ping."""
        self._send(PING, b"")

    def send_pong(self, payload: bytes) -> None:
        """Send a protocol pong."""
        self._send(PONG, payload)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; the client's answer, or the gateway's patience, ends the connection."""
        self._send(CLOSE, goodbye(code, reason))
        self._talking = False

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    def unwritten_bytes(self) -> int:
        """Bytes accepted for sending that the operating system has not taken."""
        return self._transport.get_write_buffer_size()

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._talking:
            self._transport.write(server_frame(opcode, payload))

    # What arrives

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._gateway.text(self._session, payload)
        elif opcode == PING:
            self._gateway.ping(self._session, payload)
        elif opcode == PONG:
            self._gateway.pong(self._session)
        else:
            self._answer_goodbye(payload)

    def _answer_goodbye(self, payload: bytes) -> None:
        """The client's goodbye, or its answer to ours: echo it once, and end."""
        code = goodbye_code(payload)
        self.close(NORMAL_CLOSURE if code == NO_CODE else code, "")
        self._hang_up()

    def _defect(self) -> None:
        """Something is wrong in our own callbacks: end the connection."""
        self.close(INTERNAL_ERROR, "this failed here, and the log says why")
        self._hang_up()

    def _hang_up(self) -> None:
        """End once all is sent. The gateway hears it now: the client may take as long as it likes, or for ever."""
        self._gateway.closed(self._session)
        if self._transport.get_write_buffer_size() and not self._transport.is_closing():
            self._server.outlast(self._transport)
        self._transport.close()
