"""The server's end of an HTTP/2 connection (RFC 9113), without I/O: bytes in, calls of a `Receiver`, bytes out.

What a peer may make us keep or do is bounded: streams, header blocks, data not yet
taken in or not yet sent, and frames that ask nothing of us (resets, pings, settings, ...),
of which answered requests pay for some and `calm`, called once a second, for more.

Invariants:
- once `failed` is set nothing more is received, and what was open has been reset;
- the receiver is told nothing more of a stream that it, or the peer, has ended.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from adsum.wire import http2_frames as h2
from adsum.wire.hpack import Decoder, HpackError, ListTooLarge, Shape
from adsum.wire.http2_frames import Block, Code, ConnectionFault, StreamFault
from adsum.wire.http2_sending import (
    PAID_BY_REQUEST,
    PATIENCE,
    Patience,
    Receiver,
    Sender,
    Stream,
    WindowFault,
    reset_frame,
)

HeadT = TypeVar("HeadT")
_Meaning = tuple[Block, HeadT | None]

MAX_CONTINUATIONS = 16

MAX_REMEMBERED = 16
"""Shapes of header blocks whose meaning is remembered; past that all are forgotten. A client has few."""

MAX_REMEMBERED_BYTES = 1_024
"""Of such a shape."""


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Of one connection: requests at a time, bytes of a request's header (as sent, and decoded), of windows.

    `max_unsent_bytes` of answers wait for the peer's windows; answers past that are reset. As many requests
    as may be there at a time may be taken back in a second, so that a client may give up all it waits for.
    """

    max_streams: int = 1_000
    max_header_bytes: int = 16_384
    stream_window: int = 1 << 20
    connection_window: int = 8 << 20
    max_unsent_bytes: int = 32 << 20


class ServerConnection(Generic[HeadT]):
    """One connection. `read` tells what a request's header means to the receiver; answers go by `sender`.

    It is not asked again for requests that differ only in fields that a stream has of its own.
    """

    def __init__(
        self, receiver: Receiver[HeadT], read: Callable[[Block], HeadT], limits: Http2Limits | None = None
    ) -> None:
        self.failed: str | None = None
        self.greeted = False
        self.last_id = 0
        self._limits = limits = limits or Http2Limits()
        self._patience = Patience(PATIENCE, "too many frames that ask nothing")
        self._resets = Patience(limits.max_streams, "too many requests are taken back or broken")
        self.sender: Sender[HeadT] = Sender(receiver, self._patience, limits.max_unsent_bytes)
        self._receiver = receiver
        self._read = read
        self._decoder = Decoder(h2.tell, limits.max_header_bytes)
        self._meanings: dict[Shape, _Meaning[HeadT]] = {}
        self._input = b""
        self._prefaced = False
        self._leaving_id: int | None = None
        self._block: _OpenBlock | None = None
        self._room, self._unacknowledged = limits.connection_window, 0
        settings = (
            (h2.MAX_STREAMS, limits.max_streams),
            (h2.INITIAL_WINDOW, limits.stream_window),
            (h2.MAX_HEADER_LIST, limits.max_header_bytes),
        )
        widened = limits.connection_window - h2.DEFAULT_WINDOW
        self.sender.output += (h2.settings_frame(settings), h2.widening_frame(0, widened))

    def receive(self, data: bytes) -> None:
        """Take what came from the peer; never raises."""
        if self.failed is not None:
            return
        if self._input:
            data = self._input + data
        try:
            self._input = data[self._receive(data) :]
        except ConnectionFault as fault:
            self.fail(fault.code, str(fault))

    def take(self) -> bytes:
        """What is to be written to the peer."""
        sender = self.sender
        output, sender.output = sender.output, []
        return b"".join(output)

    def calm(self) -> None:
        """To be called once a second."""
        self._patience.earn(PATIENCE)
        self._resets.earn(self._limits.max_streams)

    def leave(self) -> None:
        """Take no more requests; those under way go on."""
        if self._leaving_id is None and self.failed is None:
            self._leaving_id = self.last_id
            self._say_goodbye(Code.NO_ERROR)

    def give_back(self, stream: Stream[HeadT], size: int) -> None:
        """Have the peer send so much more on a stream whose receiver gives back itself what it has taken."""
        if not stream.ended and self.sender.is_open(stream):
            self._give_back(stream, size)

    def fail(self, code: Code, reason: str) -> None:
        """End the connection: what is open is reset, and nothing more is received."""
        if self.failed is not None:
            return
        self.failed = reason
        self._input = b""
        self._say_goodbye(code, reason)
        for stream in self.sender.forget_all():
            self._receiver.reset(stream)

    def _say_goodbye(self, code: Code, reason: str = "") -> None:
        # What it names first may not grow again (section 6.8).
        last_id = self.last_id if self._leaving_id is None else self._leaving_id
        payload = last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()
        self.sender.output.append(h2.frame(h2.GOAWAY, 0, 0, payload))

    def _receive(self, data: bytes) -> int:
        """Take all frames that are whole; the position after them."""
        pos, size = 0, len(data)
        if not self._prefaced:
            if not h2.PREFACE.startswith(data[: len(h2.PREFACE)]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            if size < len(h2.PREFACE):
                return 0
            self._prefaced = True
            pos = len(h2.PREFACE)
        while size - pos >= h2.HEAD_BYTES:
            high, length, kind, flags, stream_id = h2.read_head(data, pos)
            length |= high << 16
            if length > h2.MAX_FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is too large")
            end = pos + h2.HEAD_BYTES + length
            if end > size:
                break
            self._frame(kind, flags, stream_id & h2.MAX_STREAM_ID, data[pos + h2.HEAD_BYTES : end])
            pos = end
        return pos

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and kind != h2.CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if not self.greeted and (kind != h2.SETTINGS or flags & h2.ACK):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        try:
            if kind == h2.DATA:
                self._on_data(flags, stream_id, payload)
            elif kind == h2.HEADERS:
                self._on_headers(flags, stream_id, payload)
            else:
                self._patience.spend()
                handler = self._handlers.get(kind)
                if handler is not None:
                    handler(self, flags, stream_id, payload)
        except StreamFault as fault:
            self._give_up(stream_id, fault.code)
        except WindowFault as fault:
            if not stream_id:
                raise ConnectionFault(fault.code, "a window grows by nothing, or too far") from None
            self._give_up(stream_id, fault.code)

    def _give_up(self, stream_id: int, code: Code) -> None:
        stream = self.sender.streams.get(stream_id)
        if stream is None:
            self.sender.output.append(reset_frame(stream_id, code))
            self._patience.spend()
        else:
            self.sender.drop(stream, code)
            self._receiver.reset(stream)
            self._resets.spend()

    # Requests

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._room -= size
        if self._room < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._unacknowledged += size
        if self._unacknowledged * 2 >= self._limits.connection_window:
            self.sender.output.append(h2.widening_frame(0, self._unacknowledged))
            self._room, self._unacknowledged = self._room + self._unacknowledged, 0
        if flags & h2.PADDED:
            payload = h2.unpad(flags, payload)
        stream = self.sender.streams.get(stream_id)
        if stream is None or stream.ended:
            self._on_data_of_none(stream_id)
            return
        ended = stream.ended = bool(flags & h2.END_STREAM)
        stream.room -= size
        if stream.room < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR)
        if not ended:
            self._give_back(stream, size - len(payload) if stream.gives_back else size)
        if stream.body_left >= 0:
            stream.body_left -= len(payload)
            if stream.body_left < 0 or (ended and stream.body_left):
                raise StreamFault(Code.PROTOCOL_ERROR)
        if payload or ended:
            self._receiver.body(stream, payload, ended=ended)
        else:
            self._patience.spend()

    def _give_back(self, stream: Stream[HeadT], size: int) -> None:
        """Give data back to the window of a peer who may send more."""
        stream.unacknowledged += size
        if stream.unacknowledged * 2 >= self._limits.stream_window:
            self.sender.output.append(h2.widening_frame(stream.id, stream.unacknowledged))
            stream.room, stream.unacknowledged = stream.room + stream.unacknowledged, 0

    def _on_data_of_none(self, stream_id: int) -> None:
        self._patience.spend()
        if not self._was_opened(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA on a stream that was never opened")
        if stream_id not in self.sender.left:
            raise StreamFault(Code.STREAM_CLOSED)

    def _was_opened(self, stream_id: int) -> bool:
        return bool(stream_id & 1) and stream_id <= self.last_id

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on a stream that is not the client's")
        if flags & h2.PADDED:
            payload = h2.unpad(flags, payload)
        itself = False
        if flags & h2.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            itself = _names(payload, stream_id)
            payload = payload[5:]
        ended = bool(flags & h2.END_STREAM)
        if flags & h2.END_HEADERS:
            self._on_block(stream_id, payload, ended=ended, itself=itself)
        else:
            self._block = _OpenBlock(stream_id, ended=ended, itself=itself, first=payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.parts.append(payload)
        block.size += len(payload)
        if block.size > self._limits.max_header_bytes or len(block.parts) > MAX_CONTINUATIONS:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & h2.END_HEADERS:
            self._block = None
            self._on_block(stream_id, b"".join(block.parts), ended=block.ended, itself=block.itself)

    def _on_block(self, stream_id: int, encoded: bytes, *, ended: bool, itself: bool) -> None:
        # Whatever becomes of the request, the table must follow the peer's.
        try:
            shape, values = self._decoder.decode(encoded)
        except ListTooLarge as error:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, str(error)) from None
        except HpackError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, str(error)) from None
        block, head = (None, None) if shape is None else self._meanings.get(shape) or self._mean(shape)
        if stream_id <= self.last_id:
            self._on_trailers(stream_id, block, ended=ended)
            return
        self.last_id = stream_id
        sender, limits = self.sender, self._limits
        if self._leaving_id is not None or len(sender.streams) >= limits.max_streams:
            sender.leave_behind(stream_id)
            raise StreamFault(Code.REFUSED_STREAM)
        if block is None or head is None or itself or (ended and block.content_length > 0):
            sender.leave_behind(stream_id)
            raise StreamFault(Code.PROTOCOL_ERROR)
        stream = sender.streams[stream_id] = Stream(stream_id, head, dict(zip(block.names, values, strict=True)))
        stream.window, stream.room = sender.stream_window, limits.stream_window
        stream.body_left, stream.ended = block.content_length, ended
        self._patience.earn(PAID_BY_REQUEST)
        self._receiver.opened(stream, ended=ended)

    def _mean(self, shape: Shape) -> "tuple[Block | None, HeadT | None]":
        """What blocks of a shape mean: None for a malformed one, no head for trailers."""
        block = h2.read_shape(shape)
        if block is None:
            return None, None
        meaning = block, self._read(block) if block.path else None
        if block.size <= MAX_REMEMBERED_BYTES:
            if len(self._meanings) >= MAX_REMEMBERED:
                self._meanings.clear()
            self._meanings[shape] = meaning
        return meaning

    def _on_trailers(self, stream_id: int, block: Block | None, *, ended: bool) -> None:
        self._patience.spend()
        stream = self.sender.streams.get(stream_id)
        if stream is None:
            if stream_id not in self.sender.left:
                raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS on a stream that has ended")
            return
        if stream.ended:
            raise StreamFault(Code.STREAM_CLOSED)
        if not ended or block is None or block.path or stream.body_left > 0:
            raise StreamFault(Code.PROTOCOL_ERROR)
        stream.ended = True
        self._receiver.body(stream, b"", ended=True)

    # The connection

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """Deprecated, and ignored (section 5.3.2)."""
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of the connection")
        if len(payload) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR)
        if _names(payload, stream_id):
            raise StreamFault(Code.PROTOCOL_ERROR)

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _check_size(payload, 4)
        if not self._was_opened(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened")
        stream = self.sender.streams.get(stream_id)
        if stream is not None:
            stream.ended = True
            self.sender.drop(stream)
            self._receiver.reset(stream)
            # It counts as what it is, and as no other frame.
            self._resets.spend()
            self._patience.earn(1)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_of_connection(stream_id)
        if flags & h2.ACK:
            _check_size(payload, 0)
            return
        self.greeted = True
        # First, so that the peer knows whose windows what follows is sent by.
        self.sender.output.append(h2.frame(h2.SETTINGS, h2.ACK, 0))
        self.sender.settle(h2.read_settings(payload))

    def _on_push(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_of_connection(stream_id)
        _check_size(payload, 8)
        if not flags & h2.ACK:
            self.sender.output.append(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """It will open no more streams; what is under way goes on."""
        _check_of_connection(stream_id)
        _check_size(payload[:8], 8)

    def _on_window(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _check_size(payload, 4)
        by = int.from_bytes(payload, "big") & h2.MAX_WINDOW
        if not stream_id:
            self.sender.widen(by)
            return
        if not self._was_opened(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never opened")
        stream = self.sender.streams.get(stream_id)
        if stream is not None:
            self.sender.widen_stream(stream, by)

    _handlers: ClassVar = {
        h2.PRIORITY: _on_priority,
        h2.RST_STREAM: _on_reset,
        h2.SETTINGS: _on_settings,
        h2.PUSH_PROMISE: _on_push,
        h2.PING: _on_ping,
        h2.GOAWAY: _on_goaway,
        h2.WINDOW_UPDATE: _on_window,
        h2.CONTINUATION: _on_continuation,
    }


class _OpenBlock:
    """A header block of which CONTINUATION frames are yet to come."""

    __slots__ = ("ended", "itself", "parts", "size", "stream_id")

    def __init__(self, stream_id: int, *, ended: bool, itself: bool, first: bytes) -> None:
        self.stream_id = stream_id
        self.ended = ended
        self.itself = itself
        self.parts = [first]
        self.size = len(first)


def _names(priority: bytes, stream_id: int) -> bool:
    """Whether a stream is said to depend on itself."""
    return int.from_bytes(priority[:4], "big") & h2.MAX_STREAM_ID == stream_id


def _check_of_connection(stream_id: int) -> None:
    if stream_id:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of the connection on a stream")


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame of a bad length")
