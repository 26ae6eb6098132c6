"""Which web origins may connect.

An origin is what a browser says of the page that connects (RFC 6454 section 6.2): scheme,
host and port, in lower case, the host in its ASCII form, without the scheme's default port;
or `null`, for a page that has none (a local file, a sandboxed frame).

Invariant: what is kept can be sent by a browser; everything else is refused with the reason.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address

from adsum.domain.errors import ArgumentError

NULL = "null"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^/?#@:\[\]\s]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65_535
_ANY_SUBDOMAIN = "*."


def parse_origin(text: str) -> str:
    """An origin, or with `*.` before its host all of its subdomains, as browsers write it.

    Raises `ArgumentError` for what no browser sends.
    """
    lowered = text.lower()
    if lowered == NULL:
        return NULL
    found = _ORIGIN.fullmatch(lowered)
    if not found:
        raise ArgumentError("must be origins as browsers send them, such as https://chat.example.com, without a path")
    scheme, host, port = found.groups()
    if not host.isascii():
        raise ArgumentError("must have hosts in ASCII as browsers send them: xn--mnchen-3ya.de for münchen.de")
    if "*" in host.removeprefix(_ANY_SUBDOMAIN):
        raise ArgumentError("may have *. at the beginning of a host, for all its subdomains, and no other *")
    if host.startswith("["):
        host = _ipv6(host)
    number = int(port) if port else None
    if number is not None and not 0 < number <= _MAX_PORT:
        raise ArgumentError("must have ports from 1 to 65535")
    if number is None or number == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{number}"


class Origins:
    """The origins admitted; none named admits all. Raises `ArgumentError` as `parse_origin` does."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        parsed = [parse_origin(text) for text in texts]
        self._exact = frozenset(parsed)
        families = [re.escape(text).replace(r"\*\.", r"(?:[a-z0-9_-]+\.)+") for text in parsed if "*" in text]
        self._families = re.compile("|".join(families)) if families else None

    def admit(self, origin: str) -> bool:
        """Whether a client of this origin, as a browser wrote it, may connect."""
        if not self._exact or origin in self._exact:
            return True
        return self._families is not None and self._families.fullmatch(origin) is not None


def _ipv6(host: str) -> str:
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except ValueError:
        raise ArgumentError("must have IPv6 addresses that are complete, such as http://[::1]:3000") from None
