"""The kinds of values a setting can have, and how each is read from what a person wrote.

A kind reads the file's own type (a whole number, true, a list) or the same
written as text, as environment variables and flags are. `read` returns the
value or raises `ValueError` whose message says what would be right, without
repeating what was written: that may be a secret.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from adsum.adapters.redis.url import parse_store_url
from adsum.domain.errors import ArgumentError

T = TypeVar("T")

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of value: `hint` says which are right, `metavar` stands for one in help texts.

    `private` is whether a value may hold a password, as a URL may.
    """

    metavar: str
    hint: str
    read: Callable[[object], T]
    private: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a port listens. An IPv6 host is kept without its brackets; port 0 picks a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it; a host name other than localhost counts as reachable."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def text(hint: str, pattern: str = r"(?s:.*)", metavar: str = "TEXT") -> Kind[str]:
    """Text that matches the whole of a regular expression."""
    right = re.compile(pattern)

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not right.fullmatch(raw):
            raise ValueError(f"must be {hint}")
        return raw

    return Kind(metavar, hint, read)


def secret() -> Kind[str]:
    """A text that others must write in just the same way, so that a line break at its ends is surely a mistake."""
    any_text = text("text")

    def read(raw: object) -> str:
        found = any_text.read(raw)
        if found.strip("\r\n") != found:
            raise ValueError("begins or ends in a line break, which tokens of others are not signed with: leave it out")
        return found

    return Kind("TEXT", "text", read)


def number(low: int, high: int) -> Kind[int]:
    """A whole number within bounds, both allowed."""
    hint = f"{low:_} to {high:_}"

    def read(raw: object) -> int:
        value = int(raw) if isinstance(raw, str) and re.fullmatch(r"-?[0-9](_?[0-9]){0,18}", raw) else raw
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {hint}")
        return value

    return Kind("NUMBER", hint, read)


def number_of(*allowed: int) -> Kind[int]:
    """One of a few whole numbers."""
    hint = ", ".join(map(str, allowed))

    def read(raw: object) -> int:
        for value in allowed:
            if raw == str(value) or (type(raw) is int and raw == value):
                return value
        raise ValueError(f"must be one of {hint}")

    return Kind("NUMBER", hint, read)


def choice(*allowed: str) -> Kind[str]:
    """One of a few words."""
    hint = ", ".join(allowed)

    def read(raw: object) -> str:
        if not isinstance(raw, str) or raw not in allowed:
            raise ValueError(f"must be one of {hint}")
        return raw

    return Kind("|".join(allowed), hint, read)


def switch() -> Kind[bool]:
    """True or false."""

    def read(raw: object) -> bool:
        word = raw.lower() if isinstance(raw, str) else raw
        if word is True or word in _TRUE:
            return True
        if word is False or word in _FALSE:
            return False
        raise ValueError("must be true or false")

    return Kind("", "true, false", read)


def items(hint: str, check: Callable[[tuple[str, ...]], None]) -> Kind[tuple[str, ...]]:
    """A list of texts; written as text, they are separated by commas.

    `check` raises `ValueError` for a bad list.
    """

    def read(raw: object) -> tuple[str, ...]:
        parts: object = [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw
        if parts == [""]:
            parts = []
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) and part for part in parts):
            raise ValueError("must be a list of texts, none of them empty")
        values = tuple(parts)
        check(values)
        return values

    return Kind("A,B,…", hint, read)


_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65_535


def _is_ipv6_or_none(host: str | None) -> bool:
    try:
        return host is None or IPv6Address(host) is not None
    except ValueError:
        return False


def address() -> Kind[Address]:
    """`HOST:PORT` to listen on."""
    wrong = "must be HOST:PORT, such as 127.0.0.1:10001, 0.0.0.0:10001 or, with IPv6, [::]:10001 (port 0 picks one)"

    def read(raw: object) -> Address:
        if isinstance(raw, Address):
            return raw
        match = _ADDRESS.fullmatch(raw) if isinstance(raw, str) else None
        if not match or int(match["port"]) > _MAX_PORT or not _is_ipv6_or_none(match["ipv6"]):
            raise ValueError(wrong)
        ipv6 = str(IPv6Address(match["ipv6"])) if match["ipv6"] else ""
        return Address(ipv6 or match["host"], int(match["port"]))

    return Kind("HOST:PORT", "HOST:PORT", read)


def _is_web_url(raw: str) -> bool:
    try:
        parts = urlsplit(raw)
        # `port` raises for one that is no number or out of range.
        has_server = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and has_server and not parts.fragment and not re.search(r"\s", raw)


def web_url() -> Kind[str]:
    """An `http:` or `https:` URL, or nothing."""

    def read(raw: object) -> str:
        if raw != "" and (not isinstance(raw, str) or not _is_web_url(raw)):
            raise ValueError("must be an http:// or https:// URL, or empty for none")
        return raw

    return Kind("URL", "http:// or https:// URL, or empty", read, private=True)


def store_url() -> Kind[str]:
    """The URL of a store: `memory:`, or one of Redis or Valkey (`adsum.adapters.redis.url` has the forms)."""

    def read(raw: object) -> str:
        if raw == "memory:":
            return "memory:"
        try:
            parse_store_url(raw if isinstance(raw, str) else "")
        except ArgumentError as error:
            raise ValueError(f"must be memory: or a Redis URL; {error.detail}") from None
        return str(raw)

    return Kind("URL", "`memory:`, `redis://…`, `redis+cluster://…`, `redis+sentinel://…`", read, private=True)


def redis_url() -> Kind[str]:
    """The URL of a Redis or Valkey, or nothing."""

    def read(raw: object) -> str:
        try:
            if raw != "":
                parse_store_url(raw if isinstance(raw, str) else "")
        except ArgumentError as error:
            raise ValueError(f"must be a Redis URL, or empty for none; {error.detail}") from None
        return str(raw)

    return Kind("URL", "`redis://…`, `redis+cluster://…`, `redis+sentinel://…`, or empty", read, private=True)


def redacted(url: str) -> str:
    """A URL, or what was meant for one, without what may be a password."""
    without_login = re.sub(r"(?s)(?<=://).*@|^(?!.*://).*@", "***@", url)
    return re.sub(r"(?s)\?.*", "?***", without_login)


_SHOWN_CHARACTERS = 120


def shown(raw: object, *, private: bool) -> str:
    """What was written, for an error message; of a private value without what may be a password."""
    if private and isinstance(raw, str):
        raw = redacted(raw)
    quoted = repr(raw)
    return quoted if len(quoted) <= _SHOWN_CHARACTERS else f"{quoted[:_SHOWN_CHARACTERS]}…"
