"""gRPC over HTTP/2, between bytes and values: a call's header, its messages, its status.

After gRPC's own document, "gRPC over HTTP2".
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from adsum.domain.errors import FrameError
from adsum.wire.compression import MESSAGE_TOO_BIG, decompress
from adsum.wire.hpack import Field, encode
from adsum.wire.http2_headers import Block

PREFIX_BYTES: Final = 5
"""Before each message: whether it is compressed, and its length in 4 bytes."""

FREE_BYTES: Final = 65_536
"""What any compressed request may become."""

MAX_RATIO: Final = 50
"""How many times its own size a larger one may become. A list of users becomes 5 to 15; zeros 1,000."""

MAX_MESSAGE_BYTES = 4_096
"""Of a status message as it is sent, and of its details, so that both fit a header a client takes (often 16 KiB)."""

HTTP_OK: Final = 200
MAX_TIMEOUT_DIGITS: Final = 8
MAX_TIMEOUT_S = 86_400.0 * 365


class StatusCode(IntEnum):
    """gRPC's own codes that are answered here."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class RpcRefused(Exception):
    """How a call ends without an answer: a status code (gRPC's or OpenIM's), a message, and encoded details.

    `standard` is gRPC's code beside OpenIM's, for clients that can't read that.
    """

    def __init__(self, code: int, message: str, details: bytes = b"", standard: StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.standard = standard


Metadata = Mapping[bytes, bytes]
"""What else the header of a call has; keys are lower-case."""


@dataclass
class CallHead:
    """What a call is. `refusal` tells why it can't be served, `http_status` that it is no gRPC at all."""

    path: str
    gzip: bool = False
    refusal: RpcRefused | None = None
    http_status: int = HTTP_OK


_CONTENT_TYPE = re.compile(rb"application/grpc(?:[+;].*)?")
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


HEADER_TOO_LARGE: Final = CallHead(
    "", refusal=RpcRefused(StatusCode.RESOURCE_EXHAUSTED, "the call's metadata is too large: 16 KiB are taken")
)
"""A call of whose header no more than that is known."""


def read_call(block: Block) -> CallHead:
    """What calls are, by the header block of their requests."""
    path, fields = block.path.decode("latin-1"), block.fields
    if block.method != b"POST":
        return CallHead(path, http_status=405)
    if not _CONTENT_TYPE.fullmatch(fields.get(b"content-type", b"")):
        return CallHead(path, http_status=415)
    encoding = fields.get(b"grpc-encoding", b"identity")
    if encoding not in (b"identity", b"gzip"):
        refusal = RpcRefused(StatusCode.UNIMPLEMENTED, "this grpc-encoding is not supported: use gzip or identity")
        return CallHead(path, refusal=refusal)
    return CallHead(path, gzip=encoding == b"gzip")


def timeout_of(metadata: Metadata) -> float | None:
    """Seconds a call has from now, None for any time; raises `RpcRefused`."""
    timeout = metadata.get(b"grpc-timeout")
    if timeout is None:
        return None
    count, unit_s = timeout[:-1], _UNITS_S.get(timeout[-1:])
    if unit_s is None or not count.isdigit() or len(count) > MAX_TIMEOUT_DIGITS:
        raise RpcRefused(StatusCode.INTERNAL, "malformed grpc-timeout")
    return min(int(count) * unit_s, MAX_TIMEOUT_S)


def text_of(metadata: Metadata, key: bytes) -> str | None:
    """A value of the metadata."""
    value = metadata.get(key)
    return None if value is None else value.decode("latin-1")


class Messages:
    """A body of many messages of up to `limit` bytes: kept as it came, and taken apart message by message."""

    def __init__(self, limit: int, *, gzip: bool) -> None:
        self._limit = limit
        self._gzip = gzip
        self._data = bytearray()

    @property
    def kept_bytes(self) -> int:
        """Of what came and was not taken."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self._data += data

    def take(self) -> bytes | None:
        """The next message, None if it is not whole yet; raises `RpcRefused`."""
        end = message_end(self._data, self._limit)
        if end > len(self._data):
            return None
        message = read_message(bytes(self._data[:end]), self._limit, gzip=self._gzip)
        # Only then: of one that is no message nobody hears that it was taken.
        del self._data[:end]
        return message


def message_end(data: bytes | bytearray, limit: int) -> int:
    """Where the first message in a body ends, as far as can be told yet; raises `RpcRefused` if it is too long."""
    if len(data) < PREFIX_BYTES:
        return PREFIX_BYTES
    size = int.from_bytes(data[1:PREFIX_BYTES], "big")
    if size > limit:
        raise RpcRefused(
            StatusCode.RESOURCE_EXHAUSTED, f"the request has {size} bytes, and no more than {limit} are taken"
        )
    return PREFIX_BYTES + size


def read_message(data: bytes, limit: int, *, gzip: bool) -> bytes:
    """The one message, with its prefix, that `data` must be; raises `RpcRefused`."""
    size = len(data) - PREFIX_BYTES
    if 0 <= size <= limit and data[:PREFIX_BYTES] == size.to_bytes(PREFIX_BYTES, "big"):
        return data[PREFIX_BYTES:]
    if message_end(data, limit) != len(data):
        raise RpcRefused(StatusCode.INTERNAL, "the request is not one whole message")
    if data[0] != 1 or not gzip:
        raise RpcRefused(StatusCode.INTERNAL, "the request is compressed, but not as its header says")
    most = min(limit, max(FREE_BYTES, MAX_RATIO * len(data)))
    try:
        return decompress(data[PREFIX_BYTES:], most)
    except FrameError as error:
        if error.close_code != MESSAGE_TOO_BIG:
            raise RpcRefused(StatusCode.INTERNAL, error.detail) from None
        detail = f"the request becomes more than {MAX_RATIO} times as long once decompressed: send it uncompressed"
        raise RpcRefused(StatusCode.RESOURCE_EXHAUSTED, detail if most < limit else error.detail) from None


def write_message(message: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return len(message).to_bytes(PREFIX_BYTES, "big") + message


_OPENING: tuple[Field, ...] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,gzip"),
)

OPENING = encode(_OPENING[:2])
"""The header of an answer."""

OK_TRAILERS = encode(((b"grpc-status", b"0"),))


def trailers(refused: RpcRefused) -> bytes:
    """The trailers of a call that failed after its answer was begun."""
    return encode(_status(refused))


def trailers_only(refused: RpcRefused) -> bytes:
    """The only header block of a call that failed."""
    return encode((*_OPENING, *_status(refused)))


def http_refusal(status: int) -> bytes:
    """The only header block for a request that is no gRPC."""
    return encode(((b":status", b"%d" % status),))


STANDARD_CODE_KEY = b"adsum-grpc-code"
"""The trailer that names gRPC's own code beside one of OpenIM's."""

_UNSAFE = re.compile(rb"[^ -$&-~]")


def _status(refused: RpcRefused) -> Iterator[Field]:
    yield b"grpc-status", b"%d" % refused.code
    if refused.message:
        yield b"grpc-message", _escape(refused.message)
    if refused.standard is not None:
        yield STANDARD_CODE_KEY, refused.standard.name.encode()
    if 0 < len(refused.details) <= MAX_MESSAGE_BYTES:
        yield b"grpc-status-details-bin", b64encode(refused.details).rstrip(b"=")


def _escape(message: str) -> bytes:
    """A status message as a header's value, cut at a character's end."""
    message = message[:MAX_MESSAGE_BYTES]
    while True:
        escaped = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], message.encode("utf-8", "replace"))
        over = len(escaped) - MAX_MESSAGE_BYTES
        if over <= 0:
            return escaped
        # A character is escaped in 12 bytes at most.
        message = message[: -max(1, over // 12)]
