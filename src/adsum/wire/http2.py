"""The server's end of an HTTP/2 connection (RFC 9113), without I/O: bytes in, calls of a `Receiver`, bytes out.

What a peer may make us keep or do is bounded: streams, header blocks, data not yet
taken in or not yet sent, and frames that ask nothing of us (resets, pings, settings, ...),
of which answered requests pay for some and `calm`, called once a second, for more.

Invariants:
- once `failed` is set nothing more is received, and what was open has been reset;
- the receiver is told nothing more of a stream that it, or the peer, has ended.
"""

from collections.abc import Callable
from math import inf
from typing import Final, Generic, TypeVar

from adsum.wire import http2_frames as h2
from adsum.wire.http2_frames import Code, ConnectionFault, StreamFault
from adsum.wire.http2_headers import Block, HeaderReader, Meaning, OpenBlock
from adsum.wire.http2_sending import Sender, WindowFault, reset_frame
from adsum.wire.http2_streams import PAID_BY_REQUEST, PATIENCE, Http2Limits, Patience, Receiver, Stream

HeadT = TypeVar("HeadT")

SMALL_BYTES: Final = 1_024
"""A part of a body of less, with more to come, asks nothing: real clients fill their frames."""

ANY: Final = -1
"""Any kind of frame may come."""


def _timeless() -> float:
    """The time where it is of no interest."""
    return 0.0


class ServerConnection(Generic[HeadT]):
    """One connection. `read` tells what a request's header means to the receiver; answers go by `sender`.

    It is not asked again for requests that differ only in fields that a stream has of its own. Requests whose
    header is past the limit have the head `too_large`, and no fields; without one they are reset.
    """

    def __init__(
        self,
        receiver: Receiver[HeadT],
        read: Callable[[Block], HeadT],
        limits: Http2Limits | None = None,
        too_large: HeadT | None = None,
    ) -> None:
        self.failed: str | None = None
        self.flooded = False
        self.greeted = False
        self.last_id = 0
        limits = limits or Http2Limits()
        self._patience = Patience(PATIENCE, "too many frames that ask nothing")
        self._resets = Patience(limits.max_streams, "too many requests are taken back or broken")
        self.sender: Sender[HeadT] = Sender(receiver, self._patience, limits.max_unsent_bytes)
        self._receiver = receiver
        self._headers = HeaderReader(read, limits.max_header_bytes, limits.most_header_bytes, too_large)
        self._max_streams, self._most_header_bytes = limits.max_streams, limits.most_header_bytes
        self._stream_window, self._connection_window = limits.stream_window, limits.connection_window
        self._pongs: list[bytes] = []
        self._input = b""
        self._at = 0
        self._prefaced = False
        self._awaited = h2.SETTINGS
        self._leaving_id: int | None = None
        self._block: OpenBlock | None = None
        self._room = limits.connection_window
        settings = (
            (h2.MAX_STREAMS, limits.max_streams),
            (h2.INITIAL_WINDOW, limits.stream_window),
            (h2.MAX_HEADER_LIST, limits.max_header_bytes),
        )
        widened = limits.connection_window - h2.DEFAULT_WINDOW
        self.sender.output += (h2.settings_frame(settings), h2.widening_frame(0, widened))

    def receive(self, data: bytes, now: Callable[[], float] = _timeless, until: float = inf) -> bool:
        """Take what came from the peer, until it is late (by `now`) or a frame more; never raises.

        Whether it became late: if so, it is to be called again, without new data, before any is taken.
        """
        if self.failed is not None:
            return False
        if not data:
            data = self._input
        elif self._input:
            data, self._at = self._input[self._at :] + data, 0
        try:
            self._receive(data, now, until)
        except ConnectionFault as fault:
            self.fail(fault.code, str(fault))
        return self._at > 0

    def take(self) -> bytes:
        """What is to be written to the peer."""
        sender = self.sender
        output, sender.output = sender.output, []
        if self._pongs:
            # First, for a goodbye is the last word.
            output, self._pongs = [*self._pongs, *output], []
        return b"".join(output)

    @property
    def patient(self) -> bool:
        """Whether there is nothing to be written but answers to pings, which may wait a little for more."""
        return bool(self._pongs) and not self.sender.output

    def calm(self) -> None:
        """To be called once a second."""
        self._patience.earn(PATIENCE)
        self._resets.earn(self._max_streams)

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
        self.flooded = code == Code.ENHANCE_YOUR_CALM
        self._input, self._at = b"", 0
        self._say_goodbye(code, reason)
        for stream in self.sender.forget_all():
            self._receiver.reset(stream)

    def _say_goodbye(self, code: Code, reason: str = "") -> None:
        # What it names first may not grow again (section 6.8).
        last_id = self.last_id if self._leaving_id is None else self._leaving_id
        payload = last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()
        self.sender.output.append(h2.frame(h2.GOAWAY, 0, 0, payload))

    def _receive(self, data: bytes, now: Callable[[], float], until: float) -> None:
        """Take all frames that are whole, and keep what is left: after `_at`, which is 0 unless it became late."""
        pos, size = self._at, len(data)
        if not self._prefaced:
            if not h2.PREFACE.startswith(data[: len(h2.PREFACE)]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            if size < len(h2.PREFACE):
                self._input = data
                return
            self._prefaced = True
            pos = len(h2.PREFACE)
        while size - pos >= h2.HEAD_BYTES:
            word, flags, stream_id = h2.read_head(data, pos)
            start = pos + h2.HEAD_BYTES
            end = start + (word >> 8)
            if end - start > h2.MAX_FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is too large")
            if end > size:
                break
            pos = end
            self._frame(word & 0xFF, flags, stream_id & h2.MAX_STREAM_ID, data[start:end])
            if pos < size and now() >= until:
                # As it is: to cut it anew each time would copy all of it each time.
                self._input, self._at = data, pos
                return
        self._input, self._at = data[pos:], 0

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._awaited != ANY:
            self._check_awaited(kind, flags)
        try:
            if kind == h2.DATA:
                self._on_data(flags, stream_id, payload)
            elif kind == h2.HEADERS:
                self._on_headers(flags, stream_id, payload)
            else:
                self._on_rare(kind, flags, stream_id, payload)
        except StreamFault as fault:
            self._give_up(stream_id, fault.code)
        except WindowFault as beyond:
            if not stream_id:
                raise ConnectionFault(beyond.code, "a window grows by nothing, or too far") from None
            self._give_up(stream_id, beyond.code)

    def _check_awaited(self, kind: int, flags: int) -> None:
        if self._block is not None and kind != h2.CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if not self.greeted and (kind != h2.SETTINGS or flags & h2.ACK):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _on_rare(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self._patience.spend()
        match kind:
            case h2.PRIORITY:
                self._on_priority(stream_id, payload)
            case h2.RST_STREAM:
                self._on_reset(stream_id, payload)
            case h2.SETTINGS:
                self._on_settings(flags, stream_id, payload)
            case h2.PUSH_PROMISE:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE of a client")
            case h2.PING:
                self._on_ping(flags, stream_id, payload)
            case h2.GOAWAY:
                self._on_goaway(stream_id, payload)
            case h2.WINDOW_UPDATE:
                self._on_window(stream_id, payload)
            case h2.CONTINUATION:
                self._on_continuation(flags, stream_id, payload)
            case _:
                pass  # a kind we don't know is ignored (section 4.1)

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
        if self._room * 2 <= self._connection_window:
            self._make_room()
        if flags & h2.PADDED:
            payload = h2.unpad(payload)
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
        if not ended and len(payload) < SMALL_BYTES:
            self._patience.spend()
        if payload or ended:
            self._receiver.body(stream, payload)

    def _make_room(self) -> None:
        """Give the connection's window back."""
        if self._room < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self.sender.output.append(h2.widening_frame(0, self._connection_window - self._room))
        self._room = self._connection_window

    def _give_back(self, stream: Stream[HeadT], size: int) -> None:
        """Give data back to the window of a peer who may send more."""
        stream.unacknowledged += size
        if stream.unacknowledged * 2 >= self._stream_window:
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
            payload = h2.unpad(payload)
        itself = False
        if flags & h2.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            itself = h2.names_itself(payload, stream_id)
            payload = payload[5:]
        ended = bool(flags & h2.END_STREAM)
        if flags & h2.END_HEADERS:
            self._on_block(stream_id, payload, ended=ended, itself=itself)
        else:
            self._block = OpenBlock(stream_id, payload, self._most_header_bytes, ended=ended, itself=itself)
            self._awaited = h2.CONTINUATION

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.add(payload)
        if flags & h2.END_HEADERS:
            self._block, self._awaited = None, ANY
            self._on_block(stream_id, block.whole(), ended=block.ended, itself=block.itself)

    def _on_block(self, stream_id: int, encoded: bytes, *, ended: bool, itself: bool) -> None:
        meaning, values = self._headers.read(encoded)
        if stream_id <= self.last_id:
            self._on_trailers(stream_id, meaning, ended=ended)
            return
        self.last_id = stream_id
        sender = self.sender
        if self._leaving_id is not None or len(sender.streams) >= self._max_streams:
            sender.leave_behind(stream_id)
            raise StreamFault(Code.REFUSED_STREAM)
        head = meaning.head
        if head is None or itself or (ended and meaning.content_length > 0):
            sender.leave_behind(stream_id)
            raise StreamFault(Code.PROTOCOL_ERROR)
        stream = Stream(
            stream_id,
            head,
            dict(zip(meaning.names, values, strict=True)),
            meaning.content_length,
            ended=ended,
            header_bytes=self._headers.size,
        )
        stream.window, stream.room = sender.stream_window, self._stream_window
        sender.streams[stream_id] = stream
        sender.kept_bytes += stream.kept_bytes
        self._patience.earn(PAID_BY_REQUEST)
        self._receiver.opened(stream)

    def _on_trailers(self, stream_id: int, meaning: Meaning[HeadT], *, ended: bool) -> None:
        self._patience.spend()
        stream = self.sender.streams.get(stream_id)
        if stream is None:
            if stream_id not in self.sender.left:
                raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS on a stream that has ended")
            return
        if stream.ended:
            raise StreamFault(Code.STREAM_CLOSED)
        if not ended or not meaning.trailers or stream.body_left > 0:
            raise StreamFault(Code.PROTOCOL_ERROR)
        stream.ended = True
        self._receiver.body(stream, b"")

    # The connection

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        """Deprecated, and ignored (section 5.3.2)."""
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of the connection")
        if len(payload) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR)
        if h2.names_itself(payload, stream_id):
            raise StreamFault(Code.PROTOCOL_ERROR)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        h2.check_size(payload, 4)
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
        h2.check_of_connection(stream_id)
        if flags & h2.ACK:
            h2.check_size(payload, 0)
            return
        if not self.greeted:
            self.greeted, self._awaited = True, ANY
        # First, so that the peer knows whose windows what follows is sent by.
        self.sender.output.append(h2.frame(h2.SETTINGS, h2.ACK, 0))
        self._patience.spend(len(payload) // h2.USUAL_SETTINGS_BYTES)
        self.sender.settle(h2.read_settings(payload))

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_of_connection(stream_id)
        h2.check_size(payload, 8)
        if not flags & h2.ACK:
            self._pongs.append(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        """It will open no more streams; what is under way goes on."""
        h2.check_of_connection(stream_id)
        h2.check_size(payload[:8], 8)

    def _on_window(self, stream_id: int, payload: bytes) -> None:
        h2.check_size(payload, 4)
        by = int.from_bytes(payload, "big") & h2.MAX_WINDOW
        if not stream_id:
            self.sender.widen(by)
            return
        if not self._was_opened(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never opened")
        stream = self.sender.streams.get(stream_id)
        if stream is not None:
            self.sender.widen_stream(stream, by)
