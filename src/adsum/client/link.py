"""One WebSocket connection of a client: asyncio's callbacks on one side, the protocol on the other.

Invariant: every request ends, with its answer, an error or a time limit, and the
owner hears of the end of the connection once.
"""

import asyncio
import contextlib
import secrets
from typing import Protocol

from adsum.client.errors import Unreachable
from adsum.client.protocol import MAX_FRAME_BYTES, Answer, Beat, ClientProtocol, Kicked, Push
from adsum.domain.errors import DataError, FrameError
from adsum.wire.heartbeat import answer_heartbeat
from adsum.wire.messages import Op
from adsum.wire.websocket import (
    BINARY,
    CLOSE,
    INVALID_DATA,
    NO_CODE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    client_frame,
    goodbye,
    goodbye_code,
    goodbye_reason,
)

ANSWER_S = 10
GOODBYE_S = 2

MAX_UNWRITTEN_BYTES = 1 << 20
"""Of what the server does not take: it may go on asking for answers to its pings."""

NORMAL_CLOSURE = 1000
ABNORMAL_CLOSURE = 1006
"""What RFC 6455 calls the end of a connection without a goodbye."""


class Owner(Protocol):
    """Who is told what a link hears."""

    def pushed(self, push: Push) -> None:
        """Users changed."""
        ...

    def kicked(self) -> None:
        """Another login ended this one."""
        ...

    def lost(self, link: "Link", code: int, reason: str) -> None:
        """The link has ended, for whatever reason."""
        ...


class Link(asyncio.Protocol):
    """One WebSocket connection: asyncio's protocol on one side, the client's on the other."""

    def __init__(self, owner: Owner, protocol: ClientProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._protocol = protocol
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(MAX_FRAME_BYTES, masked=False)
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._said_goodbye = False
        self._close = (ABNORMAL_CLOSURE, "the connection was lost")
        self._gone = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        """Whether frames can be sent."""
        return self._transport is not None

    def check_alive(self) -> None:
        """Raise `Unreachable` if the connection has ended."""
        if self._transport is None:
            raise Unreachable(self._close[1])

    async def ask(self, op: Op, data: bytes = b"") -> bytes:
        """Send a request; the data of its answer. Raises `ServerError` or `Unreachable`."""
        self.check_alive()
        msg_incr, frame = self._protocol.ask(op, data)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._answers[msg_incr] = answer
        self._send(BINARY, frame)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            raise Unreachable(f"no answer within {ANSWER_S} s") from None
        finally:
            self._protocol.forget(msg_incr)
            self._answers.pop(msg_incr, None)

    async def close(self) -> None:
        """Say goodbye, wait a little for the answer, end."""
        self._goodbye(NORMAL_CLOSURE)
        await self.gone()

    async def gone(self) -> None:
        """Wait until the connection has ended, and end it if that takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await asyncio.shield(self._gone)
        self.abort()

    def abort(self) -> None:
        """End without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    # From asyncio

    def connected(self, transport: asyncio.Transport, received: bytes) -> None:
        """The handshake is complete, and these bytes came after it."""
        self._transport = transport
        self._arm()
        if received:
            self.data_received(received)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The connection has ended."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Unreachable(self._close[1]))
        if not self._gone.done():
            self._gone.set_result(None)
        self._owner.lost(self, *self._close)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._protocol.heard(self._now_ms())
        try:
            for opcode, payload in self._reader.feed(data):
                self._take(opcode, payload)
        except DataError as error:
            code = error.close_code if isinstance(error, FrameError) else INVALID_DATA
            self._fail(code, f"the server sent what cannot be read: {error.detail}")

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == BINARY:
            self._binary(payload)
        elif opcode == TEXT:
            reply = answer_heartbeat(payload)
            if reply is not None:
                self._send(TEXT, reply)
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self._closing(payload)

    def _binary(self, payload: bytes) -> None:
        match self._protocol.receive(payload):
            case Answer() as answer:
                self._answered(answer)
            case Push() as push:
                self._owner.pushed(push)
            case Kicked():
                self._owner.kicked()

    def _answered(self, answer: Answer) -> None:
        future = self._answers.get(answer.msg_incr)
        if future is None or future.done():
            return
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.data)

    def _closing(self, payload: bytes) -> None:
        code = goodbye_code(payload)
        if not self._said_goodbye:
            self._close = (code, goodbye_reason(payload) or f"closed with code {code}")
            self._goodbye(NORMAL_CLOSURE if code == NO_CODE else code)
        if self._transport is not None:
            self._transport.close()

    def _fail(self, code: int, reason: str) -> None:
        """The server cannot be understood."""
        self._close = (code, reason)
        self._goodbye(code)
        if self._transport is not None:
            self._transport.close()

    def _goodbye(self, code: int) -> None:
        if not self._said_goodbye:
            self._send(CLOSE, goodbye(code))
            self._said_goodbye = True

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._transport is None or self._said_goodbye or self._transport.is_closing():
            return
        self._transport.write(client_frame(opcode, payload, secrets.token_bytes(4)))
        if self._transport.get_write_buffer_size() > MAX_UNWRITTEN_BYTES:
            self._close = (ABNORMAL_CLOSURE, "the server does not take what it is sent")
            self.abort()

    # Heartbeats

    def _arm(self) -> None:
        due_ms = self._protocol.beat_due_ms
        self._timer = self._loop.call_at(due_ms / 1000, self._beat)

    def _beat(self) -> None:
        if self._transport is None:
            return
        if self._protocol.beat(self._now_ms()) is Beat.DEAD:
            self._close = (ABNORMAL_CLOSURE, "the server has gone silent")
            self.abort()
            return
        self._send(PING, b"adsum")
        self._arm()

    def _now_ms(self) -> int:
        return round(self._loop.time() * 1000)
