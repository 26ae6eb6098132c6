"""The sending half of an HTTP/2 connection: the open streams, and what goes out on them as windows allow.

Invariant: no more DATA goes out than the peer's windows allow, nor any while `hold` is in
force; what has to wait is bounded by `max_unsent_bytes`, and answers past that are reset.
"""

from typing import Generic, TypeVar, cast

from adsum.wire import http2_frames as h2
from adsum.wire.http2_frames import Code
from adsum.wire.http2_streams import NOTHING, Patience, Receiver, Stream

HeadT = TypeVar("HeadT")

STREAMS_FOR_A_FRAME = 16
"""Changing the windows of so many streams is as much work as a frame that asks nothing."""

MAX_LEFT = 1_024
"""Streams remembered that we ended before their peer did: what it still sends on them is ignored."""


class Sender(Generic[HeadT]):
    """Sends on the open streams of one connection, which take `kept_bytes` besides what is to be sent."""

    def __init__(self, receiver: Receiver[HeadT], patience: Patience, max_unsent_bytes: int) -> None:
        self.streams: dict[int, Stream[HeadT]] = {}
        self.kept_bytes = 0
        self.left: dict[int, None] = {}
        self.output: list[bytes] = []
        self.stream_window = h2.DEFAULT_WINDOW
        self._receiver = receiver
        self._patience = patience
        self._max_unsent_bytes = max_unsent_bytes
        self._unsent_bytes = 0
        self._window = h2.DEFAULT_WINDOW
        self._max_frame = h2.MAX_FRAME_BYTES
        self._held = False
        self._waiting: dict[int, Stream[HeadT]] = {}

    def hold(self) -> None:
        """Send no data until `let_go`: the peer does not read."""
        self._held = True

    def let_go(self) -> None:
        """Send data again."""
        self._held = False
        self._send_waiting()

    def is_open(self, stream: Stream[HeadT]) -> bool:
        """Whether anything can still be sent on a stream."""
        return self.streams.get(stream.id) is stream

    def open(self, stream: Stream[HeadT], block: bytes) -> None:
        """Begin an answer with this header block."""
        if not self.is_open(stream):
            return
        stream.opened = True
        self.output.append(h2.headers_frames(stream.id, block))

    def send(self, stream: Stream[HeadT], data: bytes) -> None:
        """Send, or have wait, a part of an answer that was opened."""
        if not self.is_open(stream):
            return
        size = len(data)
        if size > self._max_frame or size > stream.window or size > self._window or stream.unsent or self._held:
            self._send_later(stream, data)
            return
        stream.window -= size
        self._window -= size
        self.output.append(h2.frame(h2.DATA, 0, stream.id, data))

    def answer(self, stream: Stream[HeadT], opening: bytes, data: bytes, trailers: bytes) -> None:
        """A whole answer: `open`, `send` and `end`."""
        size, stream_id = len(data), stream.id
        if not stream.ended or size > self._max_frame or size > stream.window or size > self._window or self._held:
            self.open(stream, opening)
            self.send(stream, data)
            self.end(stream, trailers)
            return
        if self.streams.pop(stream_id, None) is None:
            return
        self.kept_bytes -= stream.kept_bytes
        self._window -= size
        self.output += (
            h2.make_head(len(opening) << 8 | h2.HEADERS, h2.END_HEADERS, stream_id),
            opening,
            h2.make_head(size << 8 | h2.DATA, 0, stream_id),
            data,
            h2.make_head(len(trailers) << 8 | h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream_id),
            trailers,
        )

    def end(self, stream: Stream[HeadT], block: bytes) -> None:
        """End an answer, once all of it is sent, with these trailers (or the only header block it has)."""
        if not self.is_open(stream):
            return
        if stream.unsent:
            stream.tail = block
            return
        self.output.append(h2.headers_frames(stream.id, block, h2.END_STREAM))
        # The answer is whole without the rest of the request (section 8.1).
        self.drop(stream, None if stream.ended else Code.NO_ERROR)

    def drop(self, stream: Stream[HeadT], code: Code | None = None) -> None:
        """Send nothing more on a stream, but that it is reset if there is a code."""
        if self.streams.pop(stream.id, None) is None:
            return
        self.kept_bytes -= stream.kept_bytes
        if code is not None:
            self.output.append(reset_frame(stream.id, code))
        if stream.unsent:
            size = len(stream.unsent)
            stream.unsent = NOTHING
            del self._waiting[stream.id]
            self._unsent_bytes -= size
            self._receiver.kept(-size)
        if not stream.ended:
            self.leave_behind(stream.id)

    def leave_behind(self, stream_id: int) -> None:
        """Remember a stream that has ended for us but not for the peer."""
        self.left[stream_id] = None
        if len(self.left) > MAX_LEFT:
            del self.left[next(iter(self.left))]

    def forget_all(self) -> list[Stream[HeadT]]:
        """Send nothing more on any stream; those that were open."""
        streams = list(self.streams.values())
        for stream in streams:
            self.drop(stream)
        return streams

    # As the peer says

    def widen(self, by: int) -> None:
        """The connection's window grows."""
        before, self._window = self._window, self._window + by
        _check_widening(by, self._window)
        if before <= 0:
            self._send_waiting()

    def widen_stream(self, stream: Stream[HeadT], by: int) -> None:
        """A stream's window grows."""
        stream.window += by
        _check_widening(by, stream.window)
        if stream.unsent:
            self._send_more(stream)

    def settle(self, settings: dict[int, int]) -> None:
        """The peer's settings. A smaller window may leave streams with less than nothing (section 6.9.2)."""
        self._max_frame = min(settings.get(h2.MAX_FRAME, self._max_frame), h2.MAX_FRAME_BYTES)
        window = settings.get(h2.INITIAL_WINDOW, self.stream_window)
        widened, self.stream_window = window - self.stream_window, window
        if widened:
            self._patience.spend(len(self.streams) // STREAMS_FOR_A_FRAME)
            for stream in self.streams.values():
                stream.window += widened
                _check_widening(widened, stream.window)
        if widened > 0:
            self._send_waiting()

    # What has to wait

    def _send_later(self, stream: Stream[HeadT], data: bytes) -> None:
        stream.unsent = memoryview(b"".join((stream.unsent, data)) if stream.unsent else data)
        self._unsent_bytes += len(data)
        self._waiting[stream.id] = stream
        self._send_more(stream)
        if self._unsent_bytes > self._max_unsent_bytes and stream.unsent:
            self.drop(stream, Code.ENHANCE_YOUR_CALM)
            self._receiver.reset(stream)
        # Last, for it may be answered by dropping this stream or another.
        self._receiver.kept(len(data))

    def _send_waiting(self) -> None:
        """Send what the windows allow; of those that wait for the connection's the last served is last again."""
        for stream in list(self._waiting.values()):
            if self._window <= 0 or self._held:
                return
            if self.is_open(stream):
                self._send_more(stream)
                if stream.unsent and stream.window > 0:
                    self._waiting[stream.id] = self._waiting.pop(stream.id)

    def _send_more(self, stream: Stream[HeadT]) -> None:
        if self._held:
            return
        unsent, pos = stream.unsent, 0
        while pos < len(unsent):
            size = min(len(unsent) - pos, stream.window, self._window, self._max_frame)
            if size <= 0:
                break
            stream.window -= size
            self._window -= size
            self.output.append(h2.frame(h2.DATA, 0, stream.id, bytes(unsent[pos : pos + size])))
            pos += size
        if pos:
            self._unsent_bytes -= pos
            self._receiver.kept(-pos)
        # Who takes much may tell so; who takes it bit by bit uses up our patience.
        self._patience.earn(pos // 1_024)
        stream.unsent = unsent[pos:]
        if stream.unsent:
            if len(stream.unsent) * 2 < len(cast("bytes", unsent.obj)):
                # The rest would keep all of it in memory.
                stream.unsent = memoryview(bytes(stream.unsent))
            return
        del self._waiting[stream.id]
        if stream.tail is not None:
            self.end(stream, stream.tail)
        else:
            self._receiver.drained(stream)


def reset_frame(stream_id: int, code: Code) -> bytes:
    """RST_STREAM."""
    return h2.frame(h2.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def _check_widening(by: int, window: int) -> None:
    if not by:
        raise WindowFault(Code.PROTOCOL_ERROR)
    if window > h2.MAX_WINDOW:
        raise WindowFault(Code.FLOW_CONTROL_ERROR)


class WindowFault(Exception):
    """A window grows by nothing, or too far; whether stream or connection ends is the caller's to say."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code
