"""A connection that is open: the event loop's protocol on one side, the gateway's `Link` on the other.

Invariant: an idle connection is a transport, a `Connection` and its reader, with no
task, timer or buffer.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

from adsum.adapters.listener import end_sending
from adsum.adapters.turns import SLICE_S, Turns
from adsum.adapters.ws.budgets import Budgets
from adsum.core.session import Link, Session
from adsum.domain.errors import AdsumError, FrameError
from adsum.service.gateway import INTERNAL_ERROR, NORMAL_CLOSURE
from adsum.wire.handshake import Handshake
from adsum.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
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


class Host(Protocol):
    """The gateway, as its connections see it."""

    def admit(self, handshake: Handshake, origin: str | None) -> Session:
        """The session of a handshake that may go on; raises the `AdsumError` to refuse it with."""
        ...

    def refused(self, error: AdsumError) -> None:
        """A handshake was refused."""
        ...

    def opened(self, session: Session, link: Link) -> None:
        """The handshake of an admitted session is complete."""
        ...

    def closed(self, session: Session) -> None:
        """The connection has ended, or is about to; more than once maybe."""
        ...

    def binary(self, session: Session, payload: bytes) -> None:
        """A binary message came; raises `FrameError` for one that may not be."""
        ...

    def text(self, session: Session, payload: bytes) -> None:
        """A text message came (UTF-8); raises `FrameError` for one that may not be."""
        ...

    def ping(self, session: Session, payload: bytes) -> None:
        """A protocol ping came."""
        ...

    def pong(self, session: Session) -> None:
        """A protocol pong came."""
        ...

    def violated(self, session: Session, error: FrameError) -> None:
        """The client broke a protocol or a limit: say goodbye."""
        ...

    def flooded(self, session: Session, words: str) -> None:
        """The client asks for too much, these words say of what: say goodbye."""
        ...

    def stalled(self, session: Session) -> None:
        """The client does not take what was sent."""
        ...

    def writable(self, session: Session) -> None:
        """It does again."""
        ...


MAX_KEPT_BYTES = 64 << 20
"""Of messages that are not whole or wait for their turn, on all connections of a port."""

TOO_MUCH_WORK = "too much work asked for, for too long: send less"
TOO_MUCH_KEPT = "what was sent waits for its end or its turn, and others need the room: send less"


class Port:
    """What the connections of one port share; each would keep references of its own.

    `outlast` takes over the transport of one that has ended, until the client hangs up or its time is up.
    `sockets` is how many there are, those included that are not open yet or no longer.
    `kept_bytes` are kept for `_keepers`, in the order they began: who comes with more than there is room for
    takes that of who has kept us waiting for longest.
    """

    __slots__ = ("_keepers", "budgets", "kept_bytes", "now", "outlast", "sockets", "turns")

    def __init__(self, turns: Turns, budgets: Budgets, outlast: Callable[[asyncio.Transport], None]) -> None:
        self.turns = turns
        self.now = turns.now
        self.budgets = budgets
        self.outlast = outlast
        self.sockets = 0
        self.kept_bytes = 0
        self._keepers: dict[Connection, int] = {}

    def keep(self, connection: "Connection", size: int) -> None:
        """So many bytes are kept for a connection now."""
        before = self._keepers.get(connection, 0)
        if size == before:
            return
        self.kept_bytes += size - before
        if not size:
            del self._keepers[connection]
            return
        self._keepers[connection] = size
        while self.kept_bytes > MAX_KEPT_BYTES:
            next(iter(self._keepers)).overflow()


class Connection:
    """One open connection; a `Reader` in the line of turns while it is paused.

    `_talking` until a goodbye is sent: nothing may follow it, and nothing that comes is
    looked at any more. Transports say that writing should pause at 64 KiB unwritten, and
    may go on at 16. `_frames` are those that came and had no turn yet.

    An `asyncio.Protocol` in all but its base: event loops only call the methods, and with
    a foreign base the class could not be compiled.
    """

    __slots__ = ("_frames", "_host", "_port", "_reader", "_session", "_talking", "_transport")

    def __init__(self, host: Host, session: Session, transport: asyncio.Transport, max_bytes: int, port: Port) -> None:
        self._host = host
        self._port = port
        self._session = session
        self._transport = transport
        self._reader = FrameReader(max_bytes, masked=True)
        self._frames: Iterator[tuple[int, bytes]] | None = None
        self._talking = True

    # From asyncio

    def opened(self, received: bytes) -> None:
        """The handshake is complete, and these bytes came after it."""
        try:
            self._host.opened(self._session, self)
        except Exception:
            log.exception("opening a connection failed")
            self._defect()
        if not self._talking:
            return
        if self._session.user_id in self._port.budgets:
            # Not even a frame comes before the wait of who comes back from it.
            self._frames = self._reader.feed(received)
            self._wait_turn(0, len(received))
        elif received:
            self.data_received(received)

    def data_received(self, data: bytes) -> None:
        """Frames, whole or in pieces."""
        now = self._port.now
        until = now() + SLICE_S
        try:
            message = self._reader.binary(data)
            if message is not None:
                self._host.binary(self._session, message)
            else:
                self._frames = self._reader.feed(data)
                self._read_frames(until)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self._failed(error)
        late_s = now() - until
        if late_s > 0:
            self._wait_turn(late_s + SLICE_S, len(data))

    def eof_received(self) -> None:
        """The client has ended its side: so does the transport then."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """It has ended."""
        self._port.sockets -= 1
        self._talking = False
        self._let_go()
        self._host.closed(self._session)

    def pause_writing(self) -> None:
        """The client does not take what was sent."""
        self._host.stalled(self._session)

    def resume_writing(self) -> None:
        """It does again."""
        self._host.writable(self._session)

    # In the line of turns

    def _wait_turn(self, work_s: float, size: int) -> None:
        """Wait in line, after so much work, with a read of this size: it is kept as a whole until it is worked off."""
        if self._talking and not self._transport.is_closing():
            if self._frames is not None:
                self._port.keep(self, size)
            self._transport.pause_reading()
            self._port.turns.wait(self, work_s)

    def read_on(self, until: float) -> bool:
        """Go on with the frames that came; whether any are left."""
        try:
            self._read_frames(until)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self._failed(error)
        return self._frames is not None

    def charge(self, work_s: float) -> float:
        """Pay for work; who asks for too much for too long is told to go."""
        wait_s = self._port.budgets.spend(self._session.user_id, work_s)
        if not self._talking or self._transport.is_closing():
            return inf
        if wait_s == inf:
            self._host.flooded(self._session, TOO_MUCH_WORK)
        return wait_s

    def overflow(self) -> None:
        """Others need the room of what is kept here."""
        self._let_go()
        self._host.flooded(self._session, TOO_MUCH_KEPT)

    def read_more(self) -> None:
        """Take more from the client."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

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
        """Say goodbye. What the client still sends must not keep that from it, but is only thrown away."""
        if not self._talking:
            return
        self._say_goodbye(code, reason)
        if not self._transport.is_closing():
            end_sending(self._transport)
            self._port.outlast(self._transport)

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    def unwritten_bytes(self) -> int:
        """Bytes accepted for sending that the operating system has not taken."""
        return self._transport.get_write_buffer_size()

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._talking:
            self._transport.write(server_frame(opcode, payload))

    def _say_goodbye(self, code: int, reason: str) -> None:
        self._send(CLOSE, goodbye(code, reason))
        self._talking = False
        self._let_go()

    def _let_go(self) -> None:
        """Keep nothing of what came."""
        self._frames = None
        self._port.keep(self, 0)

    # What arrives

    def _read_frames(self, until: float) -> None:
        frames = self._frames
        if frames is None:
            return
        now = self._port.now
        for opcode, payload in frames:
            self._take(opcode, payload)
            if not self._talking:
                return
            if now() >= until:
                return
        self._frames = None
        self._port.keep(self, self._reader.kept_bytes)

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == BINARY:
            self._host.binary(self._session, payload)
        elif opcode == TEXT:
            self._host.text(self._session, payload)
        elif opcode == PING:
            self._host.ping(self._session, payload)
        elif opcode == PONG:
            self._host.pong(self._session)
        elif opcode != CONTINUATION:
            self._answer_goodbye(payload)

    def _answer_goodbye(self, payload: bytes) -> None:
        """The client's goodbye, or its answer to ours: echo it once, and end."""
        code = goodbye_code(payload)
        self._say_goodbye(NORMAL_CLOSURE if code == NO_CODE else code, "")
        self._hang_up()

    def _failed(self, error: Exception) -> None:
        """A frame may not be as it is, or we failed at it: no more are read."""
        if not isinstance(error, FrameError):
            log.error("reading a connection failed", exc_info=error)
            self._defect()
            return
        # So that who comes back at once to do it again has to wait.
        self._port.budgets.blame(self._session.user_id)
        self._host.violated(self._session, error)

    def _defect(self) -> None:
        """Something is wrong in our own callbacks: end the connection."""
        self.close(INTERNAL_ERROR, "this failed here, and the log says why")
        self._host.closed(self._session)

    def _hang_up(self) -> None:
        """End once all is sent. The gateway hears it now: the client may take as long as it likes, or for ever."""
        self._host.closed(self._session)
        if self._transport.get_write_buffer_size() and not self._transport.is_closing():
            self._port.outlast(self._transport)
        self._transport.close()
