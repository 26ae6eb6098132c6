"""The server's end of an HTTP/2 connection (RFC 9113), without I/O: bytes in, calls of a `Receiver`, bytes out.

What a peer may make us keep or do is bounded: streams, header blocks, data not yet
taken in or not yet sent, and frames that ask nothing of us (resets, pings, settings, ...),
of which answered requests pay for some and `calm`, called once a second, for more.

Invariants:
- once `failed` is set nothing more is received, and what was open has been reset;
- the receiver is told nothing more of a stream that it, or the peer, has ended;
- no more DATA goes out than the peer's windows allow, nor any while `hold` is in force.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from adsum.wire import http2_frames as h2
from adsum.wire.hpack import Decoder, HpackError
from adsum.wire.http2_frames import Block, Code, ConnectionFault, StreamFault

OwnerT = TypeVar("OwnerT")

PATIENCE = 1_000
"""Frames that ask nothing, the most in a second besides those that requests pay for."""

PAID_BY_REQUEST = 4
"""A client of gRPC pings, and widens windows, about once a request at most."""

MAX_CONTINUATIONS = 16
MAX_LEFT = 1_024
"""Streams remembered that we ended before their peer did: what it still sends on them is ignored."""


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Of one connection: requests at a time, bytes of a request's header (as sent, and decoded), of windows.

    `max_unsent_bytes` of answers wait for the peer's windows; answers past that are reset.
    """

    max_streams: int = 1_000
    max_header_bytes: int = 16_384
    stream_window: int = 1 << 20
    connection_window: int = 8 << 20
    max_unsent_bytes: int = 32 << 20


class Stream(Generic[OwnerT]):
    """One request and its answer. `owner` is whoever answers it."""

    __slots__ = ("body_left", "ended", "id", "owner", "room", "tail", "unacknowledged", "unsent", "window")

    def __init__(self, stream_id: int, owner: OwnerT, window: int, room: int, body_left: int) -> None:
        self.id = stream_id
        self.owner = owner
        self.ended = False  # by the peer
        self.window = window  # bytes we may send
        self.room = room  # bytes the peer may send
        self.unacknowledged = 0  # bytes the peer has sent that it has not got back
        self.body_left = body_left  # of what the request's content-length promised; -1: not told
        self.unsent: list[bytes] = []  # data waiting for a window
        self.tail: bytes | None = None  # the trailers that go after it


class Receiver(Protocol[OwnerT]):
    """What a connection tells of its streams."""

    def opened(self, stream: Stream[OwnerT], *, ended: bool) -> None:
        """A request has begun; `ended`: it has no body."""
        ...

    def body(self, stream: Stream[OwnerT], data: bytes, *, ended: bool) -> None:
        """More of a request's body; `ended`: that was all."""
        ...

    def drained(self, stream: Stream[OwnerT]) -> None:
        """All data given to a stream so far has been sent, which had to wait."""
        ...

    def reset(self, stream: Stream[OwnerT]) -> None:
        """The peer wants no answer any more, or can't get one."""
        ...


class ServerConnection(Generic[OwnerT]):
    """One connection. `own` makes the owner of a request from its header."""

    def __init__(
        self, receiver: Receiver[OwnerT], own: Callable[[Block], OwnerT], limits: Http2Limits | None = None
    ) -> None:
        self.failed: str | None = None
        self.streams: dict[int, Stream[OwnerT]] = {}
        self.greeted = False
        self.unsent_bytes = 0
        self._receiver = receiver
        self._own = own
        self._limits = limits = limits or Http2Limits()
        self._decoder: Decoder[Block | None] = Decoder(lambda fields: h2.read_block(fields, limits.max_header_bytes))
        self._input = b""
        self._last_id = 0
        self._leaving = False
        self._left: dict[int, None] = {}
        self._patience = PATIENCE
        self._block: _OpenBlock | None = None
        self._peer_settled = False
        self._held = False
        self._window = self._stream_window = h2.DEFAULT_WINDOW
        self._max_frame = h2.MAX_FRAME_BYTES
        self._waiting: dict[int, Stream[OwnerT]] = {}
        self._room, self._unacknowledged = limits.connection_window, 0
        settings = (
            (h2.MAX_STREAMS, limits.max_streams),
            (h2.INITIAL_WINDOW, limits.stream_window),
            (h2.MAX_HEADER_LIST, limits.max_header_bytes),
        )
        widen = (limits.connection_window - h2.DEFAULT_WINDOW).to_bytes(4, "big")
        self._output = [h2.settings_frame(settings), h2.frame(h2.WINDOW_UPDATE, 0, 0, widen)]

    # What the owner of the connection does

    def receive(self, data: bytes) -> None:
        """Take what came from the peer; never raises."""
        if self.failed is not None:
            return
        if self._input:
            data = self._input + data
        try:
            pos = self._receive(data) if self.greeted or self._greet(data) else 0
            self._input = data[pos:]
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))

    def take(self) -> bytes:
        """What is to be written to the peer."""
        output, self._output = self._output, []
        return b"".join(output)

    def calm(self) -> None:
        """To be called once a second."""
        self._patience = PATIENCE

    def hold(self) -> None:
        """Send no data until `let_go`: the peer does not read."""
        self._held = True

    def let_go(self) -> None:
        """Send data again."""
        self._held = False
        self._send_waiting()

    def leave(self) -> None:
        """Take no more requests; those under way go on."""
        if not self._leaving and self.failed is None:
            self._leaving = True
            self._output.append(h2.frame(h2.GOAWAY, 0, 0, self._last_id.to_bytes(4, "big") + bytes(4)))

    def open(self, stream: Stream[OwnerT], block: bytes) -> None:
        """Begin an answer with this header block."""
        self._output.append(h2.headers_frames(stream.id, block))

    def send(self, stream: Stream[OwnerT], data: bytes) -> None:
        """Send, or have wait, a part of an answer that was opened."""
        size = len(data)
        if size <= stream.window and size <= self._window and size <= self._max_frame and not self._held:
            if not stream.unsent:
                stream.window -= size
                self._window -= size
                self._output.append(h2.make_head(size >> 16, size & 0xFFFF, h2.DATA, 0, stream.id))
                self._output.append(data)
                return
        self._send_later(stream, data)

    def end(self, stream: Stream[OwnerT], block: bytes) -> None:
        """End an answer, once all of it is sent, with these trailers (or the only header block it has)."""
        if stream.unsent:
            stream.tail = block
            return
        self._output.append(h2.headers_frames(stream.id, block, h2.END_STREAM))
        self._patience = min(self._patience + PAID_BY_REQUEST, PATIENCE)
        if not stream.ended:
            # The answer is whole without the rest of the request (section 8.1).
            self._output.append(_reset_frame(stream.id, Code.NO_ERROR))
        self._forget(stream)

    def reset(self, stream: Stream[OwnerT], code: Code) -> None:
        """Give up a stream that is still open."""
        self._output.append(_reset_frame(stream.id, code))
        self._forget(stream)

    def is_open(self, stream: Stream[OwnerT]) -> bool:
        """Whether anything can still be sent on a stream."""
        return self.streams.get(stream.id) is stream

    # Receiving

    def _greet(self, data: bytes) -> bool:
        if not h2.PREFACE.startswith(data[: len(h2.PREFACE)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
        self.greeted = len(data) >= len(h2.PREFACE)
        return self.greeted

    def _receive(self, data: bytes) -> int:
        """Take all frames that are whole; the position after them."""
        pos, size = 0, len(data)
        if not self._peer_settled and data.startswith(h2.PREFACE):
            pos = len(h2.PREFACE)
        while size - pos >= h2.HEAD_BYTES and self.failed is None:
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
        if not self._peer_settled and (kind != h2.SETTINGS or flags & h2.ACK):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        try:
            if kind == h2.DATA:
                self._on_data(flags, stream_id, payload)
            elif kind == h2.HEADERS:
                self._on_headers(flags, stream_id, payload)
            else:
                handler = _HANDLERS.get(kind)
                if handler is None:
                    self._bother()
                else:
                    handler(self, flags, stream_id, payload)
        except StreamFault as fault:
            self._bother()
            self._output.append(_reset_frame(stream_id, fault.code))
            stream = self.streams.get(stream_id)
            if stream is not None:
                self._forget(stream)
                self._receiver.reset(stream)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        ended = bool(flags & h2.END_STREAM)
        self._room -= size
        if self._room < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._unacknowledged += size
        if self._unacknowledged * 2 >= self._limits.connection_window:
            self._room += self._unacknowledged
            self._output.append(_widening_frame(0, self._unacknowledged))
            self._unacknowledged = 0
        stream = self.streams.get(stream_id)
        if flags & h2.PADDED:
            payload = h2.unpad(flags, payload)
        if stream is None or stream.ended:
            self._on_gone(stream_id)
            return
        stream.room -= size
        if stream.room < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR)
        if ended:
            stream.ended = True
        elif not payload:
            self._bother()
        else:
            stream.unacknowledged += size
            if stream.unacknowledged * 2 >= self._limits.stream_window:
                stream.room += stream.unacknowledged
                self._output.append(_widening_frame(stream_id, stream.unacknowledged))
                stream.unacknowledged = 0
        if stream.body_left >= 0:
            stream.body_left -= len(payload)
            if stream.body_left < 0 or (ended and stream.body_left):
                raise StreamFault(Code.PROTOCOL_ERROR)
        self._receiver.body(stream, payload, ended=ended)

    def _on_gone(self, stream_id: int) -> None:
        """Data on a stream that takes none."""
        self._bother()
        if stream_id not in self._left:
            if not stream_id & 1 or stream_id > self._last_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA on a stream that was never opened")
            raise StreamFault(Code.STREAM_CLOSED)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on a stream that is not the client's")
        if flags & h2.PADDED:
            payload = h2.unpad(flags, payload)
        itself = False
        if flags & h2.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            itself = int.from_bytes(payload[:4], "big") & h2.MAX_STREAM_ID == stream_id
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
        try:
            block = self._decoder.decode(encoded)
        except HpackError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, str(error)) from None
        if stream_id <= self._last_id:
            self._on_trailers(stream_id, block, ended=ended)
            return
        self._last_id = stream_id
        if self._leaving or len(self.streams) >= self._limits.max_streams:
            self._leave_behind(stream_id)
            raise StreamFault(Code.REFUSED_STREAM)
        if block is None or not block.path or itself or (ended and block.content_length > 0):
            self._leave_behind(stream_id)
            raise StreamFault(Code.PROTOCOL_ERROR)
        stream = Stream(
            stream_id, self._own(block), self._stream_window, self._limits.stream_window, block.content_length
        )
        stream.ended = ended
        self.streams[stream_id] = stream
        self._receiver.opened(stream, ended=ended)

    def _on_trailers(self, stream_id: int, block: Block | None, *, ended: bool) -> None:
        self._bother()
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self._left:
                raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS on a stream that has ended")
            return
        if stream.ended:
            raise StreamFault(Code.STREAM_CLOSED)
        if not ended or block is None or block.path or stream.body_left > 0:
            raise StreamFault(Code.PROTOCOL_ERROR)
        stream.ended = True
        self._receiver.body(stream, b"", ended=True)

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """Deprecated, and ignored (section 5.3.2)."""
        self._bother()
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of the connection")
        if len(payload) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR)
        if int.from_bytes(payload[:4], "big") & h2.MAX_STREAM_ID == stream_id:
            raise StreamFault(Code.PROTOCOL_ERROR)

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        self._bother()
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM of a bad length")
        if not stream_id & 1 or stream_id > self._last_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened")
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.ended = True
            self._forget(stream)
            self._receiver.reset(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._bother()
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & h2.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a payload")
            return
        settings = h2.read_settings(payload)
        self._peer_settled = True
        self._max_frame = min(settings.get(h2.MAX_FRAME, self._max_frame), h2.MAX_FRAME_BYTES)
        self._output.append(h2.frame(h2.SETTINGS, h2.ACK, 0))
        window = settings.get(h2.INITIAL_WINDOW)
        if window is not None:
            widened = window - self._stream_window
            self._stream_window = window
            for stream in self.streams.values():
                stream.window += widened
                if stream.window > h2.MAX_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "SETTINGS widen a window too far")
            self._send_waiting()

    def _on_push(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._bother()
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING of a bad length")
        if not flags & h2.ACK:
            self._output.append(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """It will open no more streams; what is under way goes on."""
        self._bother()
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY of a bad length")

    def _on_window(self, _flags: int, stream_id: int, payload: bytes) -> None:
        self._bother()
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a bad length")
        widened = int.from_bytes(payload, "big") & h2.MAX_WINDOW
        if not stream_id:
            before, self._window = self._window, self._window + widened
            if not widened or self._window > h2.MAX_WINDOW:
                code = Code.FLOW_CONTROL_ERROR if widened else Code.PROTOCOL_ERROR
                raise ConnectionFault(code, "WINDOW_UPDATE by nothing, or too far")
            if before <= 0:
                self._send_waiting()
            return
        if not stream_id & 1 or stream_id > self._last_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never opened")
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.window += widened
        if not widened or stream.window > h2.MAX_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR if widened else Code.PROTOCOL_ERROR)
        if stream.unsent:
            self._send_more(stream)

    def _bother(self) -> None:
        """Count a frame that asks nothing."""
        self._patience -= 1
        if self._patience < 0:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that ask nothing")

    # Sending what had to wait

    def _send_later(self, stream: Stream[OwnerT], data: bytes) -> None:
        stream.unsent.append(data)
        self.unsent_bytes += len(data)
        self._waiting[stream.id] = stream
        self._send_more(stream)
        if self.unsent_bytes > self._limits.max_unsent_bytes and stream.unsent:
            self.reset(stream, Code.ENHANCE_YOUR_CALM)
            self._receiver.reset(stream)

    def _send_waiting(self) -> None:
        """Send what the windows allow; those that get nothing more come first the next time."""
        for stream in list(self._waiting.values()):
            if self._window <= 0 or self._held:
                return
            if self.is_open(stream):
                self._send_more(stream)
                if stream.unsent and stream.window > 0:
                    self._waiting[stream.id] = self._waiting.pop(stream.id)

    def _send_more(self, stream: Stream[OwnerT]) -> None:
        if self._held:
            return
        unsent = memoryview(b"".join(stream.unsent))
        pos = 0
        while pos < len(unsent):
            size = min(len(unsent) - pos, stream.window, self._window, self._max_frame)
            if size <= 0:
                break
            stream.window -= size
            self._window -= size
            self._output.append(h2.frame(h2.DATA, 0, stream.id, bytes(unsent[pos : pos + size])))
            pos += size
        self.unsent_bytes -= pos
        # A reader that widens its window bit by bit pays for it; one that takes much does not.
        self._patience = min(self._patience + pos // 1_024, PATIENCE)
        if pos < len(unsent):
            stream.unsent = [bytes(unsent[pos:])]
            return
        stream.unsent = []
        del self._waiting[stream.id]
        if stream.tail is not None:
            self.end(stream, stream.tail)
        else:
            self._receiver.drained(stream)

    # Ending

    def _forget(self, stream: Stream[OwnerT]) -> None:
        del self.streams[stream.id]
        if stream.unsent:
            self.unsent_bytes -= sum(map(len, stream.unsent))
            stream.unsent = []
            del self._waiting[stream.id]
        if not stream.ended:
            self._leave_behind(stream.id)

    def _leave_behind(self, stream_id: int) -> None:
        self._left[stream_id] = None
        if len(self._left) > MAX_LEFT:
            del self._left[next(iter(self._left))]

    def _fail(self, code: Code, reason: str) -> None:
        self.failed = reason
        self._input = b""
        self._output.append(
            h2.frame(h2.GOAWAY, 0, 0, self._last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode())
        )
        streams, self.streams, self._waiting, self.unsent_bytes = self.streams, {}, {}, 0
        for stream in streams.values():
            self._receiver.reset(stream)


class _OpenBlock:
    """A header block of which CONTINUATION frames are yet to come."""

    __slots__ = ("ended", "itself", "parts", "size", "stream_id")

    def __init__(self, stream_id: int, *, ended: bool, itself: bool, first: bytes) -> None:
        self.stream_id = stream_id
        self.ended = ended
        self.itself = itself
        self.parts = [first]
        self.size = len(first)


def _reset_frame(stream_id: int, code: Code) -> bytes:
    return h2.frame(h2.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def _widening_frame(stream_id: int, by: int) -> bytes:
    return h2.frame(h2.WINDOW_UPDATE, 0, stream_id, by.to_bytes(4, "big"))


_HANDLERS = {
    h2.PRIORITY: ServerConnection._on_priority,
    h2.RST_STREAM: ServerConnection._on_reset,
    h2.SETTINGS: ServerConnection._on_settings,
    h2.PUSH_PROMISE: ServerConnection._on_push,
    h2.PING: ServerConnection._on_ping,
    h2.GOAWAY: ServerConnection._on_goaway,
    h2.WINDOW_UPDATE: ServerConnection._on_window,
    h2.CONTINUATION: ServerConnection._on_continuation,
}
