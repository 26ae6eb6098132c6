"""HTTP/2 frames (RFC 9113 section 6): their numbers, how they are built, and what a header block says.

Constants and functions without state; the connection is in `http2`.
"""

import re
from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from adsum.wire.hpack import ENTRY_BYTES, Field, Shape

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

MAX_FRAME_BYTES = 16_384
"""The protocol's default, which we keep: larger frames would save nothing that counts."""

DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
MAX_STREAM_ID = 2**31 - 1

ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = 2, 3, 4, 5, 6
"""Numbers of the settings that mean something here."""

HEAD_BYTES = 9
read_head = Struct(">BHBBI").unpack_from
"""Length (its high byte, the rest), type, flags, stream ID with a reserved bit."""
make_head = Struct(">BHBBI").pack
_make_setting = Struct(">HI").pack
_read_setting = Struct(">HI").iter_unpack


class Code(IntEnum):
    """Error codes (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The peer broke the protocol so that the connection must end."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StreamFault(Exception):
    """The peer broke the protocol on one stream; the others go on."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class Block(NamedTuple):
    """What the shape of a client's header block says: of a request, or of trailers (no path).

    `fields` are the plain ones of `TELLING`, `names` those of the values that each block has of its
    own. `size` is what all but these values count, `content_length` -1 if it is not told.
    """

    path: bytes
    method: bytes
    fields: dict[bytes, bytes]
    names: tuple[bytes, ...]
    content_length: int
    size: int


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return make_head(size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame of numbers and values."""
    return frame(SETTINGS, 0, 0, b"".join([_make_setting(number, value) for number, value in settings]))


def read_settings(payload: bytes) -> dict[int, int]:
    """Numbers and values of a SETTINGS frame; raises `ConnectionFault` for what may not be."""
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a bad length")
    settings = dict(_read_setting(payload))
    if settings.get(ENABLE_PUSH, 0) > 1:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
    if settings.get(INITIAL_WINDOW, 0) > MAX_WINDOW:
        raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
    if not MAX_FRAME_BYTES <= settings.get(MAX_FRAME, MAX_FRAME_BYTES) < 1 << 24:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
    return settings


def headers_frames(stream_id: int, block: bytes, flags: int = 0) -> bytes:
    """HEADERS with a block, and CONTINUATION for what one frame does not hold."""
    if len(block) <= MAX_FRAME_BYTES:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[start : start + MAX_FRAME_BYTES] for start in range(0, len(block), MAX_FRAME_BYTES)]
    frames = [frame(HEADERS, flags, stream_id, parts[0])]
    frames += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    return b"".join([*frames, frame(CONTINUATION, END_HEADERS, stream_id, parts[-1])])


def widening_frame(stream_id: int, by: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, by.to_bytes(4, "big"))


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload without its padding; raises `ConnectionFault`."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_NEEDED = frozenset((b":method", b":scheme", b":path"))
_OF_CONNECTIONS = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_NAMES = re.compile(rb"(?:\n:?[!#$%&'*+\-.^_`|~0-9a-z]+)*")
_bad_value = re.compile(rb"[\0\r\n]|[ \t]\Z|\A[ \t]").search
_MALFORMED: Field = (b"", b"")
_LENGTH = re.compile(rb"[0-9]{1,19}")

TELLING = _PSEUDO | {b"te", b"content-length", b"content-type", b"grpc-encoding"}
"""Fields whose values tell what kind of request this is, and have few of them."""


def tell(name: bytes, value: bytes) -> Field | None:
    """What a field is in a shape: itself if it is a telling one; one with a value that may not be is no field."""
    if not value.isalnum() and _bad_value(value):
        return _MALFORMED
    return (name, value) if name in TELLING else None


def read_shape(shape: Shape) -> Block | None:
    """What a client's header block says by its shape; None if it is malformed (sections 8.2 and 8.3)."""
    fields = [(part, b"") if isinstance(part, bytes) else part for part in shape]
    joined = b"".join([b"\n" + name for name, _ in fields])
    pseudo = joined.count(b"\n:")
    asked, plain = dict(fields[:pseudo]), dict(fields[pseudo:])
    if (
        not _NAMES.fullmatch(joined)
        or joined.count(b"\n") != len(fields)
        # Repeated or late ones leave fewer than were counted.
        or len(asked) != pseudo
        or not asked.keys() <= _PSEUDO
        or not (asked.keys() >= _NEEDED or not asked)
        or not plain.keys().isdisjoint(_OF_CONNECTIONS)
    ):
        return None
    lengths = [value for name, value in fields if name == b"content-length"]
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)) or plain.get(b"te", b"trailers") != b"trailers":
        return None
    if pseudo and not asked[b":path"]:
        return None
    names = tuple(part for part in shape if isinstance(part, bytes))
    telling = {name: value for name, value in plain.items() if name in TELLING}
    size = sum([len(name) + len(value) + ENTRY_BYTES for name, value in fields])
    length = int(lengths[0]) if lengths else -1
    return Block(asked.get(b":path", b""), asked.get(b":method", b""), telling, names, length, size)
