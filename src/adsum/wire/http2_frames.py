"""HTTP/2 frames (RFC 9113 section 6): their numbers, and how they are built.

Constants and functions without state; the connection is in `http2`.
"""

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

MAX_FRAME_BYTES: Final = 16_384
"""The protocol's default, which we keep: larger frames would save nothing that counts."""

USUAL_SETTINGS_BYTES: Final = 96
"""SETTINGS of so many settings as there are; longer ones count as several frames."""

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 0x7FFF_FFFF
MAX_STREAM_ID: Final = 0x7FFF_FFFF

ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = 2, 3, 4, 5, 6
"""Numbers of the settings that mean something here."""

HEAD_BYTES: Final = 9
read_head = Struct(">IBI").unpack_from
"""Length and type (its last byte), flags, stream ID with a reserved bit."""
make_head = Struct(">IBI").pack
"""Of the same."""
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


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return make_head(size << 8 | kind, flags, stream_id) + payload


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


def unpad(payload: bytes) -> bytes:
    """The payload of a frame that is `PADDED`, without its padding; raises `ConnectionFault`."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def names_itself(priority: bytes, stream_id: int) -> bool:
    """Whether a stream is said to depend on itself."""
    return int.from_bytes(priority[:4], "big") & MAX_STREAM_ID == stream_id


def check_of_connection(stream_id: int) -> None:
    """Raise `ConnectionFault` if a frame that is for all of the connection names a stream."""
    if stream_id:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of the connection on a stream")


def check_size(payload: bytes, size: int) -> None:
    """Raise `ConnectionFault` for a payload of another length."""
    if len(payload) != size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame of a bad length")
