"""How values look inside Redis: masks in halves, records, versions and feed entries.

Lua counts in doubles and its bit library in 32 bits, so a mask travels as two
halves of 31 platform IDs. A version is the ID of the partition's last feed entry,
`MILLISECONDS-SEQUENCE`, which Redis only ever lets grow; here it is one integer.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from adsum.domain.presence import Cause, Change, EndedToken, FeedEntry, Login, TimedEdit

HALF_BITS = 31
HALF = (1 << HALF_BITS) - 1
SEQUENCE_BITS = 40
"""Of a version: while Redis's clock stands behind the last ID, all entries are of that one's millisecond."""

NO_CAUSE = Cause()
FIELDS_A_CHANGE = 7
FIELDS_A_LOGIN = 4
FIELDS_AN_END = 2

pack = msgspec.msgpack.Encoder().encode
"""A list of texts and numbers, flat, as scripts unpack it: one argument costs far less than many."""

_decode_told = msgspec.msgpack.Decoder(tuple[list[Any], list[Any], tuple[str, ...]]).decode


def split_mask(mask: int) -> tuple[int, int]:
    """The halves of a mask: platform IDs 1 to 31, and 32 to 62."""
    return mask >> 1 & HALF, mask >> 1 + HALF_BITS


def pack_edit(edit: TimedEdit) -> tuple[str | int, ...]:
    """An edit as `write_timed` takes it, flat."""
    user_id, online, offline, (conn_id, background) = edit
    return user_id, _masks_text(online, offline), conn_id, 1 if background else 0


@lru_cache(maxsize=4_096)
def _masks_text(online: int, offline: int) -> str:
    return " ".join(map(str, (*split_mask(online), *split_mask(offline))))


def join_mask(low: int, high: int) -> int:
    """The mask of two halves."""
    return (high << HALF_BITS | low) << 1


@lru_cache(maxsize=4_096)
def read_record(record: bytes | None) -> int:
    """The mask of a user's record: the union of its holds; 0 for no record.

    Remembered, because few differ: most users are held by one holder, on one or two platforms.
    """
    low = high = 0
    for part in record.split(b",") if record else ():
        first, _, second = part.partition(b":")[2].partition(b".")
        low |= int(first)
        high |= int(second or 0)
    return join_mask(low, high)


def parse_version(text: bytes) -> int:
    """`1700000000000-3` as one integer that orders the same way."""
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds) << SEQUENCE_BITS | int(sequence)


def format_version(version: int) -> str:
    """The inverse of `parse_version`."""
    return f"{version >> SEQUENCE_BITS}-{version & (1 << SEQUENCE_BITS) - 1}"


def read_entry(partition: int, version: bytes, before: bytes, op_id: bytes, packed: bytes) -> FeedEntry:
    """A feed entry from its parts, as the stream and the channel carry them."""
    flat, flat_logins, flat_ended = _decode_told(packed)
    if len(flat) == FIELDS_A_CHANGE:
        changes: tuple[Change, ...] = (_change(*flat),)
    else:
        changes = tuple(map(_change, *[iter(flat)] * FIELDS_A_CHANGE))
    logins = tuple(map(Login, *[iter(flat_logins)] * FIELDS_A_LOGIN)) if flat_logins else ()
    ended = tuple(map(EndedToken, *[iter(flat_ended)] * FIELDS_AN_END)) if flat_ended else ()
    return FeedEntry(partition, parse_version(before), parse_version(version), op_id.decode(), changes, logins, ended)


def read_message(partition: int, message: bytes) -> FeedEntry:
    """A feed entry as published: version, version before and operation ID, a line each, then what it tells."""
    version, before, op_id, packed = message.split(b"\n", 3)
    return read_entry(partition, version, before, op_id, packed)


def _change(
    user_id: str, low_before: int, high_before: int, low: int, high: int, conn_id: str, background: int
) -> Change:
    cause = Cause(conn_id, background == 1) if conn_id or background else NO_CAUSE
    return Change(user_id, (high_before << HALF_BITS | low_before) << 1, (high << HALF_BITS | low) << 1, cause)


def pairs(flat: list[Any]) -> Iterable[tuple[Any, Any]]:
    """Field and value of what Redis gives flat."""
    return zip(flat[::2], flat[1::2], strict=True)
