"""JSON as Go's encoding/json reads it into a struct.

Go is laxer than JSON libraries for Python in some ways (keys in any case, null
for anything, bytes as an array) and stricter in others (`1.0` and `1e3` are no
integers). OpenIM's clients are held to Go's rules, so this module follows them.

Invariant: any bytes give fields or `DataError`; nothing is guessed or coerced.
"""

import binascii
import json
import re
from collections.abc import Iterator

from adsum.domain.errors import DataError
from adsum.wire.text import scrub, to_text


class _Number(str):
    """A number as written: only a field that wants it pays for its conversion."""

    __slots__ = ()


class _Pairs(list[tuple[str, object]]):
    """An object with its members in order, duplicates included."""

    __slots__ = ()


MAX_VALUES = 1_024
"""Of a JSON text: each becomes an object here. Go has no such limit; clients send up to a dozen."""

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
)


def read_members(data: bytes) -> Iterator[tuple[str, object]]:
    """The members of the JSON object `data`: (key in lower case, value), in order; none for `null`.

    Bytes that are not UTF-8 count as U+FFFD. Raises `DataError` if `data` is not
    one JSON text, is another kind of value, or has more than `MAX_VALUES`.
    """
    # Each value but the first comes after one of these; those in texts are counted too, as there are few.
    if sum(map(data.count, b",[{")) > MAX_VALUES:
        raise DataError(f"the JSON text has more than {MAX_VALUES} values (commas and opening brackets)")
    try:
        value = _DECODER.decode(to_text(data))
    except RecursionError:  # pragma: no cover  # some versions of Python read all that `MAX_VALUES` lets be nested
        raise DataError("the JSON text is nested too deeply") from None
    except ValueError as error:
        raise DataError(f"the text is not JSON: {error}") from None
    if value is None:
        return iter(())
    if not isinstance(value, _Pairs):
        raise DataError("the JSON text is not an object")
    return ((_fold(key), member) for key, member in value)


def _fold(key: str) -> str:
    # Go's case folding also takes the long s for an s; the Kelvin sign is lowered by Python itself.
    return key.lower().replace("\N{LATIN SMALL LETTER LONG S}", "s")


def as_text(value: object, name: str) -> str:
    """A string's text, lone surrogates replaced by U+FFFD; raises `DataError` naming the field."""
    if isinstance(value, str) and not isinstance(value, _Number):
        return scrub(value)
    raise DataError(f"{name} is not a string")


def as_int(value: object, name: str, bits: int) -> int:
    """A number written as an integer, within `bits`; raises `DataError` naming the field."""
    # Leading zeros are no JSON, so 19 digits are enough for 64 bits.
    if not isinstance(value, _Number) or not _INTEGER.fullmatch(value):
        raise DataError(f"{name} is not an integer of {bits} bits")
    number = int(value)
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise DataError(f"{name} is not an integer of {bits} bits")
    return number


def as_bool(value: object, name: str) -> bool:
    """A boolean; raises `DataError` naming the field."""
    if isinstance(value, bool):
        return value
    raise DataError(f"{name} is not true or false")


def as_bytes(value: object, name: str) -> bytes:
    """Standard padded base64, line breaks ignored, or an array of 0 to 255; raises `DataError` naming the field."""
    if isinstance(value, list) and not isinstance(value, _Pairs):
        return bytes(_byte(item, name) for item in value)
    text = as_text(value, name).replace("\r", "").replace("\n", "")
    if len(text) % 4 or not _BASE64.fullmatch(text):
        raise DataError(f"{name} is not standard base64")
    return binascii.a2b_base64(text)


def _byte(item: object, name: str) -> int:
    if item is None:
        return 0
    if isinstance(item, _Number) and item.isdecimal() and len(item) <= 3 and int(item) <= 255:
        return int(item)
    raise DataError(f"{name} has an element that is not 0 to 255")
