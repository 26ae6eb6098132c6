"""What header blocks of HTTP/2 say (RFC 9113 section 8): which are malformed, and what requests they begin.

Clients send nearly the same block again and again, so what blocks of a shape mean is found
out once: see `hpack` for what a shape is.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from adsum.wire.hpack import ENTRY_BYTES, Decoder, Field, HpackError, ListTooLarge, Shape
from adsum.wire.http2_frames import Code, ConnectionFault

HeadT = TypeVar("HeadT")

MAX_CONTINUATIONS = 16

MAX_REMEMBERED = 16
"""Shapes of header blocks whose meaning is remembered; past that all are forgotten. A client has few."""

MAX_REMEMBERED_BYTES = 1_024
"""Of such a shape."""

MAX_TOLD = 256
"""Fields that shapes have in common, for all connections; the shapes that are remembered keep more."""

MAX_TOLD_BYTES = 256
"""Of the value of such a field."""

_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_NEEDED = frozenset((b":method", b":scheme", b":path"))
_OF_CONNECTIONS = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_NAMES = re.compile(rb"(?:\n:?[!#$%&'*+\-.^_`|~0-9a-z]+)*")
_bad_value = re.compile(rb"[\0\r\n]|[ \t]\Z|\A[ \t]").search
_MALFORMED: Field = (b"", b"")
_LENGTH = re.compile(rb"[0-9]{1,19}")

TELLING = _PSEUDO | {b"te", b"content-length", b"content-type", b"grpc-encoding"}
"""Fields whose values tell what kind of request this is, and have few of them."""


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


class Meaning(Generic[HeadT]):
    """What blocks of a shape mean: the `head` of requests, else `trailers`, else they are malformed.

    Without a block: what those mean that can't be read.
    """

    __slots__ = ("content_length", "head", "names", "trailers")

    def __init__(self, block: Block | None, head: HeadT | None) -> None:
        self.head = head
        self.trailers = block is not None and not block.path
        self.names: tuple[bytes, ...] = () if block is None else block.names
        self.content_length = -1 if block is None else block.content_length


class HeaderReader(Generic[HeadT]):
    """Reads the header blocks of one connection; `read` tells what a request's means.

    Those of more than `limit` bytes mean `too_large` (None: they are malformed), those of more than `most` end it.
    """

    def __init__(self, read: Callable[[Block], HeadT], limit: int, most: int, too_large: HeadT | None) -> None:
        self._read = read
        self._decoder = Decoder(tell, limit, most)
        self._malformed: Meaning[HeadT] = Meaning(None, None)
        self._too_large: Meaning[HeadT] = Meaning(None, too_large)
        self._meanings: dict[Shape, Meaning[HeadT]] = {}

    def read(self, encoded: bytes) -> tuple[Meaning[HeadT], list[bytes]]:
        """What a block means, and the values it has of its own; raises `ConnectionFault`.

        To be called for every block, whatever becomes of its request: the table must follow the peer's.
        """
        try:
            shape, values = self._decoder.decode(encoded)
        except ListTooLarge as large:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, str(large)) from None
        except HpackError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, str(error)) from None
        if shape is None:
            return self._too_large, []
        return self._meanings.get(shape) or self._mean(shape), values

    @property
    def size(self) -> int:
        """What the fields of the last block count."""
        return self._decoder.size

    def _mean(self, shape: Shape) -> Meaning[HeadT]:
        block = read_shape(shape)
        if block is None:
            return self._malformed
        meaning = Meaning(block, self._read(block) if block.path else None)
        if block.size <= MAX_REMEMBERED_BYTES:
            if len(self._meanings) >= MAX_REMEMBERED:
                self._meanings.clear()
            self._meanings[shape] = meaning
        return meaning


class OpenBlock:
    """A header block of which CONTINUATION frames are yet to come."""

    __slots__ = ("_limit", "_parts", "_size", "ended", "itself", "stream_id")

    def __init__(self, stream_id: int, first: bytes, limit: int, *, ended: bool, itself: bool) -> None:
        self.stream_id = stream_id
        self.ended = ended
        self.itself = itself
        self._limit = limit
        self._parts = [first]
        self._size = len(first)

    def add(self, payload: bytes) -> None:
        """One more part; raises `ConnectionFault`."""
        self._parts.append(payload)
        self._size += len(payload)
        if self._size > self._limit or len(self._parts) > MAX_CONTINUATIONS:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block is too large")

    def whole(self) -> bytes:
        """All parts."""
        return b"".join(self._parts)


def tell(name: bytes, value: bytes) -> Field | None:
    """What a field is in a shape: itself if it is a telling one; one with a value that may not be is no field."""
    if name in TELLING:
        return (_telling if len(value) <= MAX_TOLD_BYTES else _telling.__wrapped__)(name, value)
    return None if value.isalnum() or not _bad_value(value) else _MALFORMED


@lru_cache(MAX_TOLD)
def _telling(name: bytes, value: bytes) -> Field:
    # One object for one field: shapes, which are looked up for every request, are then equal at a glance.
    return _MALFORMED if _bad_value(value) else (name, value)


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
