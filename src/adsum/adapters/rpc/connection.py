"""One client's connection: bytes come and go, and it ends when either side says so or the other is silent.

Answers of one read, and of one turn of the loop, are one write. Nothing is kept for an
idle connection but itself.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

from adsum.adapters.listener import end_sending
from adsum.adapters.rpc.calls import UNTAKEN_TICKS, Calls
from adsum.adapters.rpc.method import Desk
from adsum.adapters.turns import SLICE_S, Turns
from adsum.wire.http2_frames import Code

log = logging.getLogger(__name__)

WRITE_HIGH_BYTES = 1 << 20
"""Written and not taken by the system: past that a client is not read from either, until it reads."""

GREETING_TICKS = 10
"""Seconds a client has to begin speaking HTTP/2."""

LINGER_TICKS = 2
"""Seconds a client has to hang up after it got the last it is sent.

If we hung up while it still sends, the system would take back what it has not read.
"""

MAX_DISCARDED_BYTES = 8 << 20
"""Of what it still sends then; a client that sends more is dropped at once."""

IDLE_TICKS = 300
"""Seconds without a call, after which a client is told to connect again when it has one."""

PONG_WAIT_S = 0.002
"""How long the answer to a ping waits for an answer to go with.

grpc-go pings with nearly every call, to measure bandwidth, and a write of its own would wake it for nothing:
where that takes another core it costs as much as a call.
"""

SILENCE_S = 60
"""After that TCP asks whether the other end is still there."""


Made = Callable[["Connection", asyncio.Transport], None]


class Connection(asyncio.Protocol):
    """A connection and its calls. `lost` is called when it has ended.

    `ticks`: for how many seconds nothing has come of what it waits for: the greeting, a call, an end.

    A client that ends its side has left: calls it has under way are cancelled.

    It is a `Reader` in the line of turns, for as long as it takes: a backend may have all its
    calls on one connection, so there is no bound on the work of those, only on frames that ask nothing.
    """

    def __init__(self, desk: Desk, turns: Turns, made: "Made", lost: "Callable[[Connection], None]") -> None:
        self.kept_bytes = 0
        self._desk = desk
        self._turns = turns
        self._made = made
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._calls = Calls(desk, self, self._flush_soon)
        self._http = self._calls.http
        self._sender = self._http.sender
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self._pong_timer: asyncio.TimerHandle | None = None
        self._in_line = False
        self._stalled = False
        self._calming = False
        self._leaving = False
        self._lingering = False
        self._discarded = 0
        self._of_calls = 0
        self._written = self._unwritten = self._taken = 0
        self.ticks = 0
        self._last_id = 0

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say which settings hold."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        _keep_alive(transport.get_extra_info("socket"))
        self._made(self, self._transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Begin the calls that came, and send what is answered."""
        if self._lingering:
            self._discard(len(data))
            return
        now = self._turns.now
        until = now() + SLICE_S
        self._receive(data, until)
        late_s = now() - until
        if late_s > 0 and self._transport is not None:
            self._wait_turn(self._transport, late_s + SLICE_S)

    def _receive(self, data: bytes, until: float) -> bool:
        """Begin calls, and send what is answered; whether some of what came is left."""
        try:
            left = self._http.receive(data, self._turns.now, until)
        except Exception:
            log.exception("a gRPC connection failed")
            self._http.fail(Code.INTERNAL_ERROR, "the connection failed here")
            left = False
        self._flush()
        return left

    def pause_writing(self) -> None:
        """The client does not read: take nothing from it, and have answers wait."""
        self._stalled = True
        self._sender.hold()
        if self._transport is not None:
            self._transport.pause_reading()
        self._weigh()

    def resume_writing(self) -> None:
        """The client reads."""
        self._stalled = False
        self._weigh()
        self._sender.let_go()
        self._flush()
        if self._transport is not None and not (self._in_line or self._calming):
            self._wait_turn(self._transport, 0)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a client that leaves needs no word
        """Cancel what is under way."""
        self._transport = None
        if self._pong_timer is not None:
            self._pong_timer.cancel()
        for stream in self._sender.forget_all():
            self._calls.reset(stream)
        self._weigh_calls()
        self._weigh()
        self._lost(self)

    # In the line of turns

    def _wait_turn(self, transport: asyncio.Transport, work_s: float) -> None:
        if not (transport.is_closing() or self._calming):
            self._in_line = True
            transport.pause_reading()
            self._turns.wait(self, work_s)

    def read_on(self, until: float) -> bool:
        """Go on with what came; whether some of it is left. Nothing is taken from a client that does not read."""
        if self._transport is None or self._lingering or self._stalled or self._calming:
            return False
        return self._receive(b"", until)

    def charge(self, work_s: float) -> float:  # noqa: ARG002 - calls are worth their work
        """Its turn is all that a connection waits for."""
        return 0

    def read_more(self) -> None:
        """Take more from the client, if it reads."""
        self._in_line = False
        if self._transport is not None and not self._transport.is_closing() and not (self._stalled or self._calming):
            self._transport.resume_reading()

    def _weigh_calls(self) -> None:
        """Count what calls under way take besides requests and answers: their headers above all."""
        before, self._of_calls = self._of_calls, self._sender.kept_bytes
        if before != self._of_calls:
            self._desk.keep(self, self._of_calls - before)

    def _weigh(self) -> None:
        """Count what was written and not taken by the system."""
        before = self._unwritten
        self._unwritten = 0 if self._transport is None else self._transport.get_write_buffer_size()
        self._desk.keep(self, self._unwritten - before)

    # The server calls these

    def tick(self) -> None:
        """To be called once a second."""
        self._http.calm()
        self._calls.tick()
        transport = self._transport
        if transport is None:
            return
        if self._calming and not (self._lingering or transport.is_closing()):
            self._write_out(transport)
        self._weigh()
        taken = self._written - self._unwritten
        if taken != self._taken:
            self.ticks, self._taken = 0, taken
        elif self._unwritten:
            self._count_ticks(UNTAKEN_TICKS)
        elif self._lingering:
            self._count_ticks(LINGER_TICKS)
        elif not self._http.greeted:
            if self._count_ticks(GREETING_TICKS):
                self._desk.turned_away("silent")
        elif self._sender.streams or self._http.last_id != self._last_id:
            self.ticks, self._last_id = 0, self._http.last_id
        else:
            self.ticks += 1
            if self.ticks > IDLE_TICKS:
                self.leave()

    def _count_ticks(self, most: int) -> bool:
        """Whether it has to go."""
        self.ticks += 1
        late = self.ticks > most and self._transport is not None and not self._transport.is_closing()
        if late:
            self.abort()
        return late

    @property
    def idle(self) -> bool:
        """Whether nothing is lost with it: no call is under way, and none of an answer has still to go."""
        return not (self._sender.streams or self._unwritten or self._leaving or self._lingering)

    def leave(self) -> None:
        """Take no more calls, and end when those under way have."""
        self._leaving = True
        self._http.leave()
        self._flush()

    def abort(self) -> "list[asyncio.Future[None]]":
        """End now; the ends of calls that are thereby cancelled."""
        ends = self._calls.ends()
        if self._transport is not None:
            self._transport.abort()
        return ends

    def shed(self) -> bool:
        """End the calls that have most kept, or the connection if that is for what was written and not taken."""
        ended = self._calls.end_largest(self._unwritten)
        if ended:
            self._weigh_calls()
            self._flush_soon()
        elif self._transport is not None:
            self._transport.abort()
        return ended

    # Writing

    def _flush_soon(self) -> None:
        """Write what there is to, with that of other calls which end in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._weigh_calls()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._http.flooded and not self._calming:
            self._calm(transport)
        if self._http.patient:
            if self._pong_timer is None:
                self._pong_timer = self._loop.call_later(PONG_WAIT_S, self._flush_pongs)
        elif not self._calming:
            self._write_out(transport)

    def _flush_pongs(self) -> None:
        self._pong_timer = None
        if self._transport is not None and not (self._transport.is_closing() or self._calming):
            self._write_out(self._transport)

    def _write_out(self, transport: asyncio.Transport) -> None:
        output = self._http.take()
        if output:
            transport.write(output)
            self._written += len(output)
        if self._http.failed is not None or (self._leaving and not self._sender.streams):
            self._linger(transport)

    def _calm(self, transport: asyncio.Transport) -> None:
        """Read no more of a flood, and tell its client to go with the next tick: else it would be back at once."""
        self._calming = True
        transport.pause_reading()
        self._desk.flooded()

    def _linger(self, transport: asyncio.Transport) -> None:
        """End our side, and wait a little for the client to end its own."""
        if not self._lingering:
            self._lingering = True
            self.ticks = 0
            end_sending(transport)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES and self._transport is not None:
            self._transport.abort()


def _keep_alive(connection: socket.socket | None) -> None:
    """Have the system find out that a client has gone without a goodbye."""
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S)
