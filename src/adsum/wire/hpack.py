"""HPACK (RFC 7541): a request's header block to fields, and fields to a block.

gRPC clients send nearly the same block again and again: indexes of fields in the dynamic
table, and the texts of what is new, which is a deadline, an operation ID or a trace. So a
block is decoded into its *shape*, which few requests have for the first time, and the
values that differ from call to call. What can be judged by a single field is judged once,
when its text comes, and stays with it in the table.

What is encoded uses neither dynamic table nor Huffman code, so a block is good on any
connection and can be made once.

Invariant: a decoder that raised has lost step with its peer; the connection must end
(section 2.2: COMPRESSION_ERROR).
"""

from collections.abc import Callable, Iterable
from functools import cache

Field = tuple[bytes, bytes]

Shape = tuple[Field | bytes, ...]
"""The fields of a block in order; of those whose values are apart from it only the name."""

Tell = Callable[[bytes, bytes], Field | None]
"""What a field, by name and value, is in a shape; None: its name alone."""

_Entry = tuple[bytes, bytes, Field | None, int]
"""Of a table: name, value, what `Tell` says of it, and what it counts."""

TABLE_BYTES = 4_096
"""Of the dynamic table: the protocol's default, which we keep."""

ENTRY_BYTES = 32
"""What an entry counts besides its texts (section 4.1); also a field of a list (RFC 9113 section 10.5.1)."""

MAX_INTEGER_BYTES = 5

MAX_RESIZES = 2
"""Of the table before a block: the smallest size meanwhile, and the last (section 4.2)."""

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


@cache
def _static_entries(tell: Tell) -> list[_Entry]:
    """The static table; at 0, which is no index, an entry that is never used."""
    return [_entry(tell, name, value) for name, value in ((b"", b""), *_STATIC)]


def _entry(tell: Tell, name: bytes, value: bytes) -> _Entry:
    return name, value, tell(name, value), len(name) + len(value) + ENTRY_BYTES


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


class ListTooLarge(HpackError):
    """A block whose fields count far more than is allowed; no more of it was decoded."""


class Decoder:
    """One connection's decoder. A block's fields may count `limit` bytes; `size` is what those of the last one did.

    That is judged as they come, for one byte of a block can stand for thousands of a field.
    Past the limit fields only go into the table, which must follow the peer's, and past `most` not even that.
    """

    def __init__(self, tell: Tell, limit: int, most: int) -> None:
        self.size = 0
        self._tell = tell
        self._limit = limit
        self._most = most
        # Both tables in one, by index: the newest of the dynamic entries comes after the static ones.
        self._table = _static_entries(tell).copy()
        self._table_bytes = 0
        self._table_limit = TABLE_BYTES
        self._resizes = 0

    def decode(self, block: bytes) -> tuple[Shape | None, list[bytes]]:
        """A block's shape, and the values that are not in it; raises `HpackError`.

        No shape if the fields are over the limit; over the most there may be it raises `ListTooLarge`.
        """
        # Nearly all integers fit their prefix, which is read in place.
        shape: list[Field | bytes] = []
        values: list[bytes] = []
        table, pos, end = self._table, 0, len(block)
        count, limit = 0, self._limit
        self._resizes = 0
        try:
            while pos < end:
                first = block[pos]
                pos += 1
                if first > 0x80:
                    index = first & 0x7F
                    if index == 0x7F:
                        index, pos = _rest(block, pos, 0x7F)
                    name, value, told, size = table[index]
                elif 0x20 <= first < 0x40:
                    if shape:
                        raise HpackError("a table size that does not come first")
                    pos = self._resize(block, pos)
                    continue
                else:
                    (name, value, told, size), pos = self._literal(block, pos, first)
                count += size
                if count > limit:
                    if count > self._most:
                        raise ListTooLarge("the fields of a header are far too large")
                elif told is None:
                    shape.append(name)
                    values.append(value)
                else:
                    shape.append(told)
        except IndexError:
            raise HpackError("an index that is not in the table, or a field that is cut off") from None
        self.size = count
        return None if count > limit else tuple(shape), values

    def _literal(self, block: bytes, pos: int, first: int) -> tuple[_Entry, int]:
        """A field with a text of its own, after its first byte; the position after it."""
        if first == 0x80:
            raise HpackError("index 0")
        most = 0x3F if first & 0x40 else 0x0F
        index = first & most
        if index == most:
            index, pos = _rest(block, pos, most)
        if index:
            name = self._table[index][0]
        else:
            name, pos = _string(block, pos)
        value, pos = _string(block, pos)
        entry = _entry(self._tell, name, value)
        if first & 0x40:
            self._table.insert(_FIRST_DYNAMIC, entry)
            self._table_bytes += entry[3]
            if self._table_bytes > self._table_limit:
                self._shrink()
        return entry, pos

    def _resize(self, block: bytes, pos: int) -> int:
        """Take a size of the table from before `pos`; the position after it."""
        self._resizes += 1
        if self._resizes > MAX_RESIZES:
            raise HpackError("more table sizes than a block may begin with")
        size = block[pos - 1] & 0x1F
        if size == 0x1F:
            size, pos = _rest(block, pos, 0x1F)
        if size > TABLE_BYTES:
            raise HpackError("a table size above what we allow")
        self._table_limit = size
        self._shrink()
        return pos

    def _shrink(self) -> None:
        while self._table_bytes > self._table_limit:
            self._table_bytes -= self._table.pop()[3]


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


def _rest(block: bytes, pos: int, most: int) -> tuple[int, int]:
    """An integer whose prefix has all it can hold, and the position after it (section 5.1)."""
    value = most
    for shift in range(0, 7 * MAX_INTEGER_BYTES, 7):
        byte = block[pos]
        pos += 1
        if byte < 0x80:
            return value + (byte << shift), pos
        value += (byte & 0x7F) << shift
    raise HpackError("an integer that is too long")


def _string(block: bytes, pos: int) -> tuple[bytes, int]:
    first = block[pos]
    count, pos = first & 0x7F, pos + 1
    if count == 0x7F:
        count, pos = _rest(block, pos, 0x7F)
    end = pos + count
    if end > len(block):
        raise HpackError("the block ends within a text")
    text = block[pos:end]
    return (decode_huffman(text) if first >= 0x80 else text), end


class _Node:
    """A place in the tree of codes; `nexts` is where each byte leads to, `says` what it says, found as they come."""

    __slots__ = ("branches", "depth", "nexts", "ones", "says", "symbol")

    def __init__(self, depth: int, *, ones: bool) -> None:
        self.branches: list[_Node] = []
        self.nexts: list[_Node] = []
        self.says: list[bytes | None] = []
        self.symbol = -1
        self.depth = depth
        self.ones = ones


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
    node = _ROOT
    out: list[bytes] = []
    for byte in text:
        said = node.says[byte] if node.says else None
        if said is None:
            said = _step(node, byte)
        out.append(said)
        node = node.nexts[byte]
    if not node.ones or node.depth > 7:
        raise HpackError("a text in Huffman code with bad padding")
    return b"".join(out)


def _step(start: _Node, byte: int) -> bytes:
    """What a byte says at a place; that, and where it leads to, is noted there."""
    node = start
    said = bytearray()
    for bit in range(7, -1, -1):
        node = node.branches[byte >> bit & 1]
        if node.symbol == _END:
            raise HpackError("a text in Huffman code has the end in it")
        if node.symbol >= 0:
            said.append(node.symbol)
            node = _ROOT
    if not start.says:
        start.nexts, start.says = [_ROOT] * 256, [None] * 256
    start.nexts[byte] = node
    start.says[byte] = found = bytes(said)
    return found
