"""HPACK (RFC 7541): a request's header block to fields, and fields to a block.

gRPC clients send the same block again and again: once its fields are in the dynamic
table it is a few bytes of indexes, and changes nothing. Such a block's meaning is
remembered by its bytes until the table changes.

What is encoded uses neither dynamic table nor Huffman code, so a block is good on any
connection and can be made once.

Invariant: a decoder that raised has lost step with its peer; the connection must end
(section 2.2: COMPRESSION_ERROR).
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Field = tuple[bytes, bytes]
MeaningT = TypeVar("MeaningT")

TABLE_BYTES = 4_096
"""Of the dynamic table: the protocol's default, which we keep."""

ENTRY_BYTES = 32
"""What an entry counts besides its texts (section 4.1); also a field of a list (RFC 9113 section 10.5.1)."""

MAX_REMEMBERED = 256
"""Blocks remembered by a decoder; past that all are forgotten."""

MAX_REMEMBERED_BYTES = 1_024
"""Of a block that is remembered; one of indexes is far shorter."""

MAX_INTEGER_BYTES = 5

_STATIC_TEXT = """
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""
"""Appendix A: name and value of the entries 1 to 61."""

_STATIC: tuple[Field, ...] = tuple(
    (name, value) for name, _, value in (line.partition(b" ") for line in _STATIC_TEXT.strip().encode().split(b"\n"))
)
_FIRST_DYNAMIC = len(_STATIC) + 1

_CODE_LENGTHS = """
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 6 10 10 12
13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7
7 7 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 20 22 20 20 22
22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 22 21 20 22 22 23 23 21 23
22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 26 26 20 19 22 23 22 25 26 26 26 27 27
26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27 20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26
27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 30
"""
"""Appendix B: bits of the code of each byte value, then of the end. The code is canonical, so they tell it all."""

_END = 256


class HpackError(Exception):
    """A block that can't be decoded."""


class Decoder(Generic[MeaningT]):
    """One connection's decoder; `mean` makes of the fields what is remembered with a block."""

    def __init__(self, mean: Callable[[list[Field]], MeaningT]) -> None:
        self._mean = mean
        self._remembered: dict[bytes, MeaningT] = {}
        self._table: deque[Field] = deque()
        self._table_bytes = 0
        self._table_limit = TABLE_BYTES
        self._changed = False

    def decode(self, block: bytes) -> MeaningT:
        """What a block means; raises `HpackError`."""
        meaning = self._remembered.get(block)
        if meaning is None:
            self._changed = False
            meaning = self._mean(self._fields(block))
            if self._changed or len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            if not self._changed and len(block) <= MAX_REMEMBERED_BYTES:
                self._remembered[block] = meaning
        return meaning

    def _fields(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        pos, end, table = 0, len(block), self._table
        while pos < end:
            first = block[pos]
            if 0x80 < first < _FIRST_DYNAMIC + 0x80:
                # Nearly all fields are indexes that fit the byte, of the static table or the other.
                pos += 1
                fields.append(_STATIC[first - 0x81])
            elif 0x80 < first < 0xFF and first - _FIRST_DYNAMIC - 0x80 < len(table):
                pos += 1
                fields.append(table[first - _FIRST_DYNAMIC - 0x80])
            elif first >= 0x80:
                index, pos = _integer(block, pos, 7)
                fields.append(self._entry(index))
            elif first & 0xE0 == 0x20:
                size, pos = _integer(block, pos, 5)
                if fields or size > TABLE_BYTES:
                    raise HpackError("a table size out of place, or above what we allow")
                self._table_limit = size
                self._shrink()
            else:
                indexed = first & 0x40
                if 0x40 < first < 0x7F:
                    index, pos = first & 0x3F, pos + 1
                else:
                    index, pos = _integer(block, pos, 6 if indexed else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, pos = _string(block, pos)
                value, pos = _string(block, pos)
                fields.append((name, value))
                if indexed:
                    self._add(name, value)
        return fields

    def _entry(self, index: int) -> Field:
        if index < _FIRST_DYNAMIC:
            if not index:
                raise HpackError("index 0")
            return _STATIC[index - 1]
        try:
            return self._table[index - _FIRST_DYNAMIC]
        except IndexError:
            raise HpackError(f"index {index} is not in the table") from None

    def _add(self, name: bytes, value: bytes) -> None:
        self._table.appendleft((name, value))
        self._table_bytes += len(name) + len(value) + ENTRY_BYTES
        self._changed = True
        if self._table_bytes > self._table_limit:
            self._shrink()

    def _shrink(self) -> None:
        self._changed = True
        while self._table_bytes > self._table_limit:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + ENTRY_BYTES


def encode(fields: Iterable[Field]) -> bytes:
    """A block of literals without indexing (section 6.2.2), but for what the static table has whole."""
    return b"".join([_encode_field(field) for field in fields])


def _encode_field(field: Field) -> bytes:
    if field in _STATIC:
        return bytes((0x80 | _STATIC.index(field) + 1,))
    name, value = field
    return b"\x00" + _encode_integer(len(name)) + name + _encode_integer(len(value)) + value


def _encode_integer(value: int) -> bytes:
    """With a prefix of 7 bits, the eighth 0 (section 5.1)."""
    if value < 0x7F:
        return bytes((value,))
    out = bytearray((0x7F,))
    value -= 0x7F
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(block: bytes, pos: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits (section 5.1), and the position after it."""
    most = (1 << bits) - 1
    value = block[pos] & most
    pos += 1
    if value < most:
        return value, pos
    for shift, byte in enumerate(block[pos : pos + MAX_INTEGER_BYTES]):
        value += (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, pos + shift + 1
    raise HpackError("an integer that ends late or never")


def _string(block: bytes, pos: int) -> tuple[bytes, int]:
    if pos >= len(block):
        raise HpackError("the block ends within a field")
    first = block[pos]
    count = first & 0x7F
    if count < 0x7F:
        pos += 1
    else:
        count, pos = _integer(block, pos, 7)
    end = pos + count
    if end > len(block):
        raise HpackError("the block ends within a text")
    text = block[pos:end]
    return (decode_huffman(text) if first & 0x80 else text), end


class _Node:
    """A place in the tree of codes. `steps` has where each byte leads to and what it says, filled as bytes come."""

    __slots__ = ("branches", "depth", "ones", "steps", "symbol")

    def __init__(self, depth: int, *, ones: bool) -> None:
        self.branches: list[_Node] = []
        self.symbol = -1
        self.depth = depth
        self.ones = ones
        self.steps: dict[int, tuple[_Node, bytes]] = {}


def _grow_tree() -> _Node:
    """The tree of the canonical code: codes count up in order of length, then of the symbol."""
    root = _Node(0, ones=True)
    code, before = 0, 0
    for length, symbol in sorted((int(bits), symbol) for symbol, bits in enumerate(_CODE_LENGTHS.split())):
        code <<= length - before
        node = root
        for bit in range(length - 1, -1, -1):
            if not node.branches:
                node.branches = [_Node(node.depth + 1, ones=False), _Node(node.depth + 1, ones=node.ones)]
            node = node.branches[code >> bit & 1]
        node.symbol = symbol
        code, before = code + 1, length
    return root


_ROOT = _grow_tree()


def decode_huffman(text: bytes) -> bytes:
    """A text in Huffman code (section 5.2); raises `HpackError`. Its padding is at most 7 bits, all ones."""
    node, out = _ROOT, []
    for byte in text:
        step = node.steps.get(byte)
        if step is None:
            step = node.steps[byte] = _step(node, byte)
        node, said = step
        out.append(said)
    if not node.ones or node.depth > 7:
        raise HpackError("a text in Huffman code with bad padding")
    return b"".join(out)


def _step(node: _Node, byte: int) -> tuple[_Node, bytes]:
    said = bytearray()
    for bit in range(7, -1, -1):
        node = node.branches[byte >> bit & 1]
        if node.symbol == _END:
            raise HpackError("a text in Huffman code has the end in it")
        if node.symbol >= 0:
            said.append(node.symbol)
            node = _ROOT
    return node, bytes(said)
