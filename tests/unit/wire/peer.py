"""A client's end of HTTP/2: frames by hand, and a log of what a server connection tells its receiver."""

from dataclasses import dataclass, field
from typing import Any

from adsum.wire import http2_frames as h2
from adsum.wire.hpack import Decoder, Field, encode
from adsum.wire.http2 import ServerConnection
from adsum.wire.http2_headers import Block
from adsum.wire.http2_streams import Http2Limits, Stream

REQUEST = encode(((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p"), (b"te", b"trailers")))
OPENING = encode(((b":status", b"200"),))
TRAILERS = encode(((b"grpc-status", b"0"),))


@dataclass
class Frame:
    """A frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[-4:] if self.kind == h2.RST_STREAM else self.payload[4:8], "big")


def frames_of(data: bytes) -> list[Frame]:
    """The frames in what was sent; all of them must be whole."""
    frames: list[Frame] = []
    while data:
        size = int.from_bytes(data[:3], "big")
        frames.append(Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        assert len(frames[-1].payload) == size
        data = data[9 + size :]
    return frames


@dataclass
class Peer:
    """A connection with its receiver's log; with `answers`, every whole request is answered at once."""

    limits: Http2Limits = field(default_factory=Http2Limits)
    settings: tuple[tuple[int, int], ...] = ()
    greet: bool = True
    answers: bytes | None = None
    log: list[tuple[Any, ...]] = field(default_factory=list)
    streams: dict[int, Stream[Block]] = field(default_factory=dict)
    kept_bytes: int = 0

    def __post_init__(self) -> None:
        self.server: ServerConnection[Block] = ServerConnection(self, lambda block: block, self.limits)
        if self.greet:
            self.say(h2.PREFACE + h2.settings_frame(self.settings))

    def say(self, data: bytes) -> list[Frame]:
        """Send bytes; what the server sends now."""
        self.server.receive(data)
        return self.heard()

    def heard(self) -> list[Frame]:
        """What the server sends now."""
        return frames_of(self.server.take())

    def frame(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> list[Frame]:
        """Send one frame; what the server sends now."""
        return self.say(h2.frame(kind, flags, stream, payload))

    def request(self, stream: int = 1, block: bytes = REQUEST, *, end: bool = True) -> Stream[Block]:
        """Open a stream that the server takes."""
        self.frame(h2.HEADERS, h2.END_HEADERS | (h2.END_STREAM if end else 0), stream, block)
        return self.streams[stream]

    def data(self, data: bytes, stream: int = 1, *, end: bool = False) -> list[Frame]:
        """Send DATA."""
        return self.frame(h2.DATA, h2.END_STREAM if end else 0, stream, data)

    def widen(self, by: int, stream: int = 0) -> list[Frame]:
        """Send WINDOW_UPDATE."""
        return self.say(h2.widening_frame(stream, by))

    # What the server's connection tells

    def opened(self, stream: Stream[Block]) -> None:
        self.streams[stream.id] = stream
        self.log.append(("opened", stream.id, stream.ended))
        if stream.ended:
            self._answer(stream)

    def body(self, stream: Stream[Block], data: bytes) -> None:
        self.log.append(("body", stream.id, data, stream.ended))
        if stream.ended:
            self._answer(stream)

    def drained(self, stream: Stream[Block]) -> None:
        self.log.append(("drained", stream.id))

    def reset(self, stream: Stream[Block]) -> None:
        self.log.append(("reset", stream.id))

    def kept(self, size: int) -> None:
        self.kept_bytes += size

    def _answer(self, stream: Stream[Block]) -> None:
        if self.answers is not None:
            self.server.sender.answer(stream, OPENING, self.answers, TRAILERS)


def body_of(frames: list[Frame], stream: int = 1) -> bytes:
    """All data of a stream."""
    return b"".join(frame.payload for frame in frames if frame.kind == h2.DATA and frame.stream == stream)


def fields_of(block: bytes) -> dict[bytes, bytes]:
    """The fields of a block that uses no dynamic table."""
    shape, _ = Decoder(whole, 1 << 20, 1 << 21).decode(block)
    assert shape is not None
    return dict(field for field in shape if isinstance(field, tuple))


def whole(name: bytes, value: bytes) -> Field:
    """Has every field go whole into a block's shape."""
    return name, value
