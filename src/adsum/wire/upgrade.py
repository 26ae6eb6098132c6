"""The HTTP request that opens a WebSocket, and its answers (RFC 6455 section 4), for either end.

Invariant: an `UpgradeRequest` has all that the RFC asks of a client's opening
handshake; any other request is refused with `UpgradeError`, whose text, like an
answer, has nothing of what was sent: tokens travel in the request line.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha1
from http import HTTPStatus
from typing import Final, NamedTuple

from adsum.domain.errors import ConnectionArgumentError

MAX_HEAD_BYTES: Final = 16_384
"""Of a request with its headers, or an answer's; a token may have 8,192 bytes, and grows by a third when packed."""

MAX_HEADERS: Final = 100
"""Of a request. Browsers behind proxies send twenty or thirty."""

END_OF_HEAD: Final = b"\r\n\r\n"

_GET: Final = b"GET "
_HEAD: Final = b"HEAD "
_PROBES: Final = (b"GET /livez", b"GET /readyz", _HEAD)
_PROBE = re.compile(rb"(GET|HEAD) /(livez|readyz)(?:\?[!-~]*)? HTTP/1\.[01]")
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_HOST = re.compile(rb"[!-+\--~\x80-\xff]+")
_TARGET = re.compile(rb"[!-~\x80-\xff]+")
_FIELD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*"
_FIELDS = re.compile(rb"(?:%b(?:\r\n%b)*)?" % (_FIELD, _FIELD))
_WEBSOCKET_HEADERS: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"


class UpgradeError(ConnectionArgumentError):
    """A request that opens no WebSocket, and the HTTP status that says so."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class UpgradeRequest(NamedTuple):
    """A client's opening handshake: the target as sent, and the headers by their names in lower case."""

    target: bytes
    key: bytes
    headers: Mapping[bytes, bytes]

    @property
    def query(self) -> str:
        """What follows the first `?` of the target, undecoded."""
        return self.target.partition(b"?")[2].decode("utf-8", "surrogateescape")

    def header(self, name: bytes) -> str | None:
        """The value of a header, None if it was not sent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("utf-8", "surrogateescape")


class Probe(NamedTuple):
    """A load balancer's question, for one that has only the WebSocket port: `livez` or `readyz`."""

    name: str
    with_body: bool


def split_request(received: bytes) -> tuple[bytes, bytes] | None:
    """The head of a request and what follows it; None if more must come.

    Raises `UpgradeError` as soon as it is neither GET nor HEAD, or longer than `MAX_HEAD_BYTES`.
    """
    if not _GET.startswith(received[:4]) and not _HEAD.startswith(received[:5]):
        raise UpgradeError(HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket is opened by an HTTP GET")
    end = received.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
    if end >= 0:
        return received[:end], received[end + 4 :]
    if len(received) >= MAX_HEAD_BYTES:
        detail = f"the request and its headers have more than {MAX_HEAD_BYTES} bytes"
        raise UpgradeError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
    return None


def parse_probe(head: bytes) -> Probe | None:
    """The question in the head of a GET or HEAD request; None if it is none, or asks for a WebSocket."""
    if not head.startswith(_PROBES):
        return None
    line, _, fields = head.partition(b"\r\n")
    found = _PROBE.fullmatch(line)
    if found is None or b"upgrade" in _parse_headers(fields):
        return None
    return Probe(found[2].decode(), with_body=found[1] == b"GET")


def parse_request(head: bytes) -> UpgradeRequest:
    """The opening handshake in the head of a GET or HEAD request; raises `UpgradeError` if it is none."""
    line, _, fields = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not _TARGET.fullmatch(parts[1]) or not parts[2].startswith(b"HTTP/"):
        raise UpgradeError(HTTPStatus.BAD_REQUEST, "the request line is malformed")
    if parts[0] != b"GET":
        raise UpgradeError(HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket is opened by an HTTP GET")
    if parts[2] != b"HTTP/1.1":
        raise UpgradeError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "a WebSocket is opened with HTTP/1.1")
    headers = _parse_headers(fields)
    if not _has_word(headers, b"upgrade", b"websocket") or not _has_word(headers, b"connection", b"upgrade"):
        raise UpgradeError(HTTPStatus.UPGRADE_REQUIRED, "this is a WebSocket server: ask for an upgrade to websocket")
    if headers.get(b"sec-websocket-version") != b"13":
        raise UpgradeError(HTTPStatus.UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13")
    key = headers.get(b"sec-websocket-key", b"")
    if not _KEY.fullmatch(key):
        raise UpgradeError(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64")
    if not _HOST.fullmatch(headers.get(b"host", b"")):
        raise UpgradeError(HTTPStatus.BAD_REQUEST, "there must be one Host header, and a host in it")
    if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
        raise UpgradeError(HTTPStatus.BAD_REQUEST, "an opening handshake has no body")
    return UpgradeRequest(parts[1], key, headers)


def accepting_response(key: bytes) -> bytes:
    """The answer that opens the WebSocket."""
    return b"HTTP/1.1 101 Switching Protocols\r\n%bSec-WebSocket-Accept: %b\r\n\r\n" % (
        _WEBSOCKET_HEADERS,
        _accept_value(key),
    )


def http_response(status: HTTPStatus, content_type: str, body: bytes) -> bytes:
    """An answer that opens none, and the end of the connection."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    ]
    if status is HTTPStatus.UPGRADE_REQUIRED:
        lines += ["Connection: close, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    else:
        lines.append("Connection: close")
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET")
    return "\r\n".join((*lines, "", "")).encode() + body


def build_request(host: str, target: str, key: bytes) -> bytes:
    """An opening handshake; `key` is 16 random bytes. Raises `ValueError` if host or target can't be in a request."""
    if not _TARGET.fullmatch(host.encode()) or not _TARGET.fullmatch(target.encode()):
        raise ValueError("a host or target with spaces or control characters")
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%bSec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n\r\n" % (
        target.encode(),
        host.encode(),
        _WEBSOCKET_HEADERS,
        b64encode(key),
    )


def accepts(head: bytes, key: bytes) -> bool:
    """Whether the head of an answer opens the WebSocket that was asked for with `key`, and agrees to nothing else."""
    line, _, fields = head.partition(b"\r\n")
    if line != b"HTTP/1.1 101" and not line.startswith(b"HTTP/1.1 101 "):
        return False
    try:
        headers = _parse_headers(fields)
    except UpgradeError:
        return False
    return (
        headers.get(b"sec-websocket-accept") == _accept_value(b64encode(key))
        and _has_word(headers, b"upgrade", b"websocket")
        and _has_word(headers, b"connection", b"upgrade")
        and headers.keys().isdisjoint((b"sec-websocket-extensions", b"sec-websocket-protocol"))
    )


def content_length(head: bytes) -> int | None:
    """How long an answer's body is; None if only the end of the connection tells."""
    found = re.search(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?:\r|$)", head, re.IGNORECASE)
    return int(found[1]) if found else None


def _parse_headers(fields: bytes) -> dict[bytes, bytes]:
    """Values by names in lower case; of a name that comes again, all values with commas between (RFC 9110)."""
    if fields.count(b"\r\n") >= MAX_HEADERS:
        detail = f"the request has more than {MAX_HEADERS} headers"
        raise UpgradeError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
    if not _FIELDS.fullmatch(fields):
        raise UpgradeError(HTTPStatus.BAD_REQUEST, "a header is malformed or has a control character in it")
    headers: dict[bytes, bytes] = {}
    for line in fields.split(b"\r\n") if fields else ():
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def _has_word(headers: Mapping[bytes, bytes], name: bytes, word: bytes) -> bool:
    """Whether a word, in any case, is a member of the list in a header."""
    value = headers.get(name, b"").lower()
    return value == word or re.search(rb"(?:\A|,)[ \t]*%b[ \t]*(?:,|\Z)" % word, value) is not None


def _accept_value(key: bytes) -> bytes:
    return b64encode(sha1(key + _MAGIC, usedforsecurity=False).digest())
