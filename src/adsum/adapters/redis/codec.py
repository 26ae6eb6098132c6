"""How values look inside Redis: masks in halves, records, versions and feed entries.

Lua counts in doubles and its bit library in 32 bits, so a mask travels as two
halves of 31 platform IDs. A version is the ID of the partition's last feed entry,
`MILLISECONDS-SEQUENCE`, which Redis only ever lets grow; here it is one integer.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import starmap
from struct import Struct
from typing import Any

import msgspec

from adsum.domain.presence import Cause, Change, EndedToken, FeedEntry, Login

HALF_BITS = 31
HALF = (1 << HALF_BITS) - 1
SEQUENCE_BITS = 40
"""Of a version: while Redis's clock stands behind the last ID, all entries are of that one's millisecond."""

COUNTS = Struct("<i")

NO_CAUSE = Cause()
FIELDS_A_LOGIN = 4
FIELDS_AN_END = 2

pack = msgspec.msgpack.Encoder().encode
"""Lists of texts and numbers, as scripts unpack them: one argument costs far less than many."""

_Causes = tuple[list[str], list[bool]]
_Told = tuple[str, str, list[int], list[int], list[Any], list[str], list[str], _Causes]
_decode_told = msgspec.msgpack.Decoder(_Told).decode
_decode_message = msgspec.msgpack.Decoder(list[tuple[int, str, _Told]]).decode

# What the classes do themselves, in a third of the time: they are made for each user of each entry.
_change: Callable[[Iterable[Any]], Change] = partial(tuple.__new__, Change)
_cause: Callable[[Iterable[Any]], Cause] = partial(tuple.__new__, Cause)


def split_mask(mask: int) -> tuple[int, int]:
    """The halves of a mask: platform IDs 1 to 31, and 32 to 62."""
    return mask >> 1 & HALF, mask >> 1 + HALF_BITS


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


def parse_version(text: str) -> int:
    """`1700000000000-3` as one integer that orders the same way."""
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds) << SEQUENCE_BITS | int(sequence)


def format_version(version: int) -> str:
    """The inverse of `parse_version`."""
    return f"{version >> SEQUENCE_BITS}-{version & (1 << SEQUENCE_BITS) - 1}"


def version_of(summary: bytes | None) -> int:
    """The version in a partition's summary; 0 of one that has none."""
    return parse_version(summary[1 : _version_end(summary)].decode()) if summary else 0


def counts_of(summary: bytes | None) -> dict[int, int]:
    """The numbers of users by platform in a partition's summary, for platforms that have any."""
    counts = summary[_version_end(summary) :] if summary else b""
    return {number: count for number, (count,) in enumerate(COUNTS.iter_unpack(counts), 1) if count}


def _version_end(summary: bytes) -> int:
    # A version is packed as a text of up to 31 bytes: 160 and its length, then the text.
    return summary[0] - 159


def read_entry(partition: int, version: bytes, told: bytes) -> FeedEntry:
    """A feed entry, as the stream has it."""
    return _entry(partition, version.decode(), _decode_told(told))


def read_message(message: bytes) -> list[FeedEntry]:
    """The feed entries of one script call, as published."""
    return list(starmap(_entry, _decode_message(message)))


def _entry(partition: int, version: str, told: _Told) -> FeedEntry:
    before, op_id, steps, which, flat_logins, flat_ended, users, (conns, backgrounds) = told
    count = len(users)
    causes = [NO_CAUSE] * count
    if conns or backgrounds:
        causes = list(map(_cause, zip(conns or [""] * count, backgrounds or [False] * count, strict=True)))
    masks = list(map(join_mask, steps[::2], steps[1::2]))
    # Most often all users of an entry took the same step.
    befores = [masks[2 * step] for step in which] if which else masks[:1] * count
    afters = [masks[2 * step + 1] for step in which] if which else masks[1:] * count
    changes = tuple(map(_change, zip(users, befores, afters, causes, strict=True)))
    logins = tuple(map(Login, *[iter(flat_logins)] * FIELDS_A_LOGIN)) if flat_logins else ()
    ended = tuple(map(EndedToken, *[iter(flat_ended)] * FIELDS_AN_END)) if flat_ended else ()
    return FeedEntry(partition, parse_version(before), parse_version(version), op_id, changes, logins, ended)


def pairs(flat: list[Any]) -> Iterable[tuple[Any, Any]]:
    """Field and value of what Redis gives flat."""
    return zip(flat[::2], flat[1::2], strict=True)
