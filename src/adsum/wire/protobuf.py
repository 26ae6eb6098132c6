"""Protobuf of the three WebSocket payloads, and of the status lists of gRPC, written by hand.

The messages are OpenIM's `openim.sdkws` ones (proto3):

    SubUserOnlineStatus       repeated string subscribeUserID = 1, unsubscribeUserID = 2
    SubUserOnlineStatusTips   repeated SubUserOnlineStatusElem subscribers = 1
    SubUserOnlineStatusElem   string userID = 1, repeated int32 onlinePlatformIDs = 2
    SetAppBackgroundStatusReq string userID = 1, bool isBackground = 2

A change reaches many watchers, each with its own set of users: so an element of
Tips is encoded once, and a Tips message is nothing but elements joined.

Invariant: decoding takes any bytes and gives a value or `DataError`, in time
linear in their length, and in a bounded number of fields. A payload that does not decode is the fault of one
request, not of the connection: answer it with the error.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from adsum.domain.errors import DataError
from adsum.domain.platforms import ids_of
from adsum.wire.steps import Steps
from adsum.wire.text import to_utf8

_VARINT, _FIXED64, _COUNTED, _GROUP, _GROUP_END, _FIXED32 = range(6)
_MAX_TAG = 2**32 - 1
_MAX_TAG_BYTES = 5
_MAX_VARINT_BYTES = 10
_MAX_GROUPS = 100

MAX_USERS = 20_000
"""In one request of a client to watch, or no longer to."""

MAX_OTHERS = 256
"""Fields of a message that nobody wants, those in groups included."""

MAX_ENTRY_BYTES = 16_384
"""Of one user in a call, with ID, connection ID and platforms."""

_USUAL_ENTRY_BYTES = 96
_SHORT = [bytes((value,)) for value in range(0x80)]


class WatchRequest(NamedTuple):
    """SubUserOnlineStatus: the users to watch from now on, and those no longer to."""

    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...]


class BackgroundRequest(NamedTuple):
    """SetAppBackgroundStatusReq: whether the app of this connection is in the background."""

    user_id: str
    background: bool


@dataclass(frozen=True, slots=True)
class UserStatus:
    """SubUserOnlineStatusElem: the platforms `user_id` is online on, in the order sent; none: offline."""

    user_id: str
    platform_ids: tuple[int, ...]


def decode_watch(data: bytes) -> WatchRequest:
    """A SubUserOnlineStatus; raises `DataError`."""
    subscribe: list[str] = []
    unsubscribe: list[str] = []
    for number, wire_type, value in _fields(data, MAX_USERS + MAX_OTHERS):
        if wire_type == _COUNTED and number == 1:
            subscribe.append(_text(value, "subscribeUserID"))
        elif wire_type == _COUNTED and number == 2:
            unsubscribe.append(_text(value, "unsubscribeUserID"))
    return WatchRequest(tuple(subscribe), tuple(unsubscribe))


def encode_watch(subscribe: Iterable[str], unsubscribe: Iterable[str] = ()) -> bytes:
    """A SubUserOnlineStatus."""
    wanted = [b"\x0a" + _counted(to_utf8(user_id)) for user_id in subscribe]
    return b"".join(wanted + [b"\x12" + _counted(to_utf8(user_id)) for user_id in unsubscribe])


_BACKGROUND_FLAGS = {b"": False, b"\x10\x00": False, b"\x10\x01": True}


def decode_background(data: bytes) -> BackgroundRequest:
    """A SetAppBackgroundStatusReq; raises `DataError`."""
    # Nearly all are a short ID and the flag or nothing: the shape is known by its first and last bytes.
    if len(data) > 1 and data[0] == 0x0A and data[1] < 0x80 and len(data) >= (end := 2 + data[1]):
        flag = _BACKGROUND_FLAGS.get(data[end:])
        if flag is not None:
            return BackgroundRequest(_text(data[2:end], "userID"), flag)
    user_id, background = "", False
    for number, wire_type, value in _fields(data, MAX_OTHERS):
        if wire_type == _COUNTED and number == 1:
            user_id = _text(value, "userID")
        elif wire_type == _VARINT and number == 2:
            background = bool(value)
    return BackgroundRequest(user_id, background)


def encode_background(user_id: str, *, background: bool) -> bytes:
    """A SetAppBackgroundStatusReq."""
    return (b"\x0a" + _counted(to_utf8(user_id)) if user_id else b"") + (b"\x10\x01" if background else b"")


def encode_elem(user_id: str, platform_ids: Iterable[int]) -> bytes:
    """One user of a Tips message, tag and length included: `b"".join` of these is a Tips message.

    Each platform ID must fit 32 bits, signed.
    """
    content = b"\x0a" + _counted(to_utf8(user_id)) if user_id else b""
    packed = b"".join([_varint(platform_id & 0xFFFFFFFFFFFFFFFF) for platform_id in platform_ids])
    if packed:
        content += b"\x12" + _counted(packed)
    return b"\x0a" + _counted(content)


def encode_statuses(names: Sequence[bytes], masks: Sequence[int], next_cursor: int = 0) -> bytes:
    """Any answer of `openim.user` with a `statusList`: user IDs in UTF-8, a mask of platforms each, the next cursor.

    Each entry is an `onlineStatus`: userID = 1, status = 2 (1 online, else absent), platformIDs = 3, packed.
    """
    # What is around the names is one format for all of them: of many users, a step each in Python would cost most.
    around = b"".join(map(_around, map(len, names), masks))
    entries = around % tuple(names)
    return entries + b"\x10" + _varint(next_cursor) if next_cursor else entries


@lru_cache(maxsize=4_096)
def _around(size: int, mask: int) -> bytes:
    """The format of an entry for a user ID of so many bytes: few lengths and masks are in use."""
    before = b"\x0a" + _varint(size) if size else b""
    after = b"\x10\x01\x1a" + _counted(bytes(ids_of(mask))) if mask else b""
    head = b"\x0a" + _varint(len(before) + size + len(after)) + before
    return head.replace(b"%", b"%%") + b"%b" + after.replace(b"%", b"%%")


def decode_tips(data: bytes) -> list[UserStatus]:
    """A SubUserOnlineStatusTips, in the order sent; raises `DataError`."""
    return [
        _decode_elem(value)
        for number, wire_type, value in _fields(data, len(data))
        if wire_type == _COUNTED and number == 1 and isinstance(value, bytes)
    ]


def _decode_elem(data: bytes) -> UserStatus:
    user_id = ""
    platform_ids: list[int] = []
    for number, wire_type, value in _fields(data, len(data)):
        if wire_type == _COUNTED and number == 1:
            user_id = _text(value, "userID")
        elif wire_type == _VARINT and number == 2 and isinstance(value, int):
            platform_ids.append(_int32(value))
        elif wire_type == _COUNTED and number == 2 and isinstance(value, bytes):
            platform_ids.extend(_packed(value))
    return UserStatus(user_id, tuple(platform_ids))


def _packed(data: bytes) -> Iterator[int]:
    pos = 0
    while pos < len(data):
        value, pos = _read_varint(data, pos)
        yield _int32(value)


def _int32(value: int) -> int:
    """A varint as int32: protobuf keeps the low 32 bits."""
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _text(value: int | bytes, name: str) -> str:
    try:
        return bytes.decode(value)  # type: ignore[arg-type]  # a counted field is bytes
    except UnicodeDecodeError:
        raise DataError(f"{name} is not valid UTF-8") from None


def has_more_than(most: int, data: bytes, number: int) -> bool:
    """Whether a message has a counted field, of a number below 16, more often than that.

    For messages that must not be decoded before that is known: an element of two bytes becomes an object.
    Raises `DataError` also for more than `MAX_OTHERS` other fields, or an element over `MAX_ENTRY_BYTES`,
    if the message is larger than lists of users are.
    """
    if len(data) <= 2 * most:
        return False
    tag = number << 3 | _COUNTED
    # Each begins with its tag, which may be written in more bytes than it needs: nearly always that is all to ask.
    tags = data.count(tag) + data.count(tag | 0x80)
    if tags <= most and len(data) <= tags * _USUAL_ENTRY_BYTES:
        return False
    found = 0
    for field, wire_type, value in _fields(data, MAX_OTHERS, uncounted=tag):
        if field == number and wire_type == _COUNTED:
            found += 1
            if len(value) > MAX_ENTRY_BYTES:  # type: ignore[arg-type]  # a counted field is bytes
                raise DataError(f"the protobuf payload has more than {MAX_ENTRY_BYTES} bytes for one user")
            if found > most:
                return True
    return False


def _fields(data: bytes, most: int, uncounted: int = 0) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of the varint and counted fields; the others are stepped over.

    Raises `DataError` for more than `most` fields, but for those of an `uncounted` tag, which the caller bounds.
    """
    steps = Steps(most, DataError, f"the protobuf payload has more than {most} fields: send less in one request")
    pos = 0
    while pos < len(data):
        number, wire_type, pos = _read_tag(data, pos)
        if number << 3 | wire_type != uncounted:
            steps.take()
        if wire_type == _VARINT:
            value, pos = _read_varint(data, pos)
            yield number, wire_type, value
        elif wire_type == _COUNTED:
            content, pos = _read_counted(data, pos)
            yield number, wire_type, content
        else:
            pos = _skip(data, pos, number, wire_type, steps)


def _skip(data: bytes, pos: int, number: int, wire_type: int, steps: Steps) -> int:
    """The position after a value nobody wants, whose tag is already read; a group ends with its own number."""
    groups: list[int] = []
    while True:
        if wire_type == _GROUP:
            groups.append(number)
            if len(groups) > _MAX_GROUPS:
                raise DataError(f"the protobuf payload nests groups more than {_MAX_GROUPS} deep")
        elif wire_type == _GROUP_END:
            if not groups or groups.pop() != number:
                raise DataError(f"the protobuf payload ends group {number}, which is not open")
        else:
            pos = _skip_scalar(data, pos, wire_type)
        if not groups:
            return pos
        steps.take()
        number, wire_type, pos = _read_tag(data, pos)


def _skip_scalar(data: bytes, pos: int, wire_type: int) -> int:
    if wire_type == _VARINT:
        return _read_varint(data, pos)[1]
    if wire_type == _COUNTED:
        return _read_counted(data, pos)[1]
    pos += 8 if wire_type == _FIXED64 else 4
    if pos > len(data):
        raise DataError("the protobuf payload ends within a number")
    return pos


def _read_tag(data: bytes, pos: int) -> tuple[int, int, int]:
    tag, end = _read_varint(data, pos)
    if tag > _MAX_TAG or end - pos > _MAX_TAG_BYTES or tag < 8 or tag & 7 > _FIXED32:
        raise DataError(f"the protobuf payload has a bad tag at byte {pos}")
    return tag >> 3, tag & 7, end


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    if pos < len(data) and data[pos] < 0x80:
        return data[pos], pos + 1
    value = 0
    for shift, byte in enumerate(data[pos : pos + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, pos + shift + 1
    raise DataError(f"the protobuf payload has an integer that ends late or never, at byte {pos}")


def _read_counted(data: bytes, pos: int) -> tuple[bytes, int]:
    count, pos = _read_varint(data, pos)
    end = pos + count
    if end > len(data):
        raise DataError(f"the protobuf payload claims {count} bytes where {len(data) - pos} are left")
    return data[pos:end], end


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SHORT[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _counted(content: bytes) -> bytes:
    return _varint(len(content)) + content
