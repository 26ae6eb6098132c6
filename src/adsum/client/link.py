"""One WebSocket connection of a client: picows's callbacks on one side, the protocol on the other.

Invariant: every request ends, with its answer, an error or a time limit, and the
owner hears of the end of the connection once.
"""

import asyncio
import contextlib
import logging
from typing import Protocol

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from adsum.client.errors import Unreachable
from adsum.client.protocol import MAX_FRAME_BYTES, Answer, Beat, ClientProtocol, Kicked, Push
from adsum.domain.errors import DataError, FrameError
from adsum.wire.heartbeat import answer_heartbeat
from adsum.wire.messages import Op

# picows logs whole requests, tokens included, at its lower levels.
logging.getLogger("picows").setLevel(logging.CRITICAL)

ANSWER_S = 10
GOODBYE_S = 2

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


class Link(WSListener):
    """One WebSocket connection: picows's listener on one side, the protocol on the other."""

    def __init__(self, owner: Owner, protocol: ClientProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._protocol = protocol
        self._loop = loop
        self._transport: WSTransport | None = None
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._parts = bytearray()
        self._close = (ABNORMAL_CLOSURE, "the connection was lost")
        self._gone = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        """Whether frames can be sent."""
        return self._transport is not None

    def transport(self) -> WSTransport:
        """Where to send frames; raises `Unreachable` if the connection has ended."""
        if self._transport is None:
            raise Unreachable(self._close[1])
        return self._transport

    async def ask(self, op: Op, data: bytes = b"") -> bytes:
        """Send a request; the data of its answer. Raises `ServerError` or `Unreachable`."""
        transport = self.transport()
        msg_incr, frame = self._protocol.ask(op, data)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._answers[msg_incr] = answer
        transport.send(WSMsgType.BINARY, frame)
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
        if self._transport is not None:
            self._goodbye(WSCloseCode.OK)
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
            self._transport.disconnect(graceful=False)

    # From picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is complete."""
        self._transport = transport
        self._arm()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows's signature
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

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame came; pings are answered by picows."""
        self._protocol.heard(self._now_ms())
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._closing(transport, frame)
        elif kind in (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._message(kind, frame)

    def pause_writing(self) -> None:
        """A client writes little: what it writes may wait in the transport."""

    def resume_writing(self) -> None:
        """As above."""

    def _message(self, kind: WSMsgType, frame: WSFrame) -> None:
        if kind == WSMsgType.TEXT:
            self._heartbeat(frame.get_payload_as_bytes())
            return
        self._parts += frame.get_payload_as_memoryview()
        if len(self._parts) > MAX_FRAME_BYTES:
            self._fail(WSCloseCode.MESSAGE_TOO_BIG, f"the server sent more than {MAX_FRAME_BYTES} bytes in a message")
        elif frame.fin:
            whole, self._parts = bytes(self._parts), bytearray()
            self._binary(whole)

    def _binary(self, payload: bytes) -> None:
        try:
            event = self._protocol.receive(payload)
        except DataError as error:
            code = error.close_code if isinstance(error, FrameError) else WSCloseCode.INVALID_TEXT.value
            self._fail(WSCloseCode(code), f"the server sent what cannot be read: {error.detail}")
            return
        match event:
            case Answer():
                self._answered(event)
            case Push():
                self._owner.pushed(event)
            case Kicked():
                self._owner.kicked()

    def _heartbeat(self, payload: bytes) -> None:
        try:
            reply = answer_heartbeat(payload)
        except FrameError as error:
            self._fail(WSCloseCode(error.close_code), f"the server sent what cannot be read: {error.detail}")
            return
        if reply is not None and self._transport is not None:
            self._transport.send(WSMsgType.TEXT, reply)

    def _answered(self, answer: Answer) -> None:
        future = self._answers.get(answer.msg_incr)
        if future is None or future.done():
            return
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.data)

    def _closing(self, transport: WSTransport, frame: WSFrame) -> None:
        code = frame.get_close_code()
        if not transport.is_close_frame_sent:
            reason = (frame.get_close_message() or b"").decode("utf-8", "replace")
            self._close = (code.value, reason or f"closed with code {code.value}")
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
        transport.disconnect()

    def _fail(self, code: WSCloseCode, reason: str) -> None:
        """The server cannot be understood."""
        self._close = (code.value, reason)
        self._goodbye(code)
        self.abort()

    def _goodbye(self, code: WSCloseCode) -> None:
        if self._transport is not None and not self._transport.is_close_frame_sent:
            self._transport.send_close(code)

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
        self._transport.send_ping(b"adsum")
        self._arm()

    def _now_ms(self) -> int:
        return round(self._loop.time() * 1000)
