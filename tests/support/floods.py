"""What one client may send to hold a service's loop: bytes that a connection sends over and over, on each port."""

import gzip
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from adsum.wire import http2_frames as h2
from adsum.wire.frames import Codec
from adsum.wire.hpack import encode
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import encode_watch
from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, frame

BLOCK_BYTES = 65_536

WS, GRPC, HTTP = "ws", "grpc", "http"

PLAIN, ZIPPED, ZIPPED_JSON = Codec("go", gzip=False), Codec("go", gzip=True), Codec("js", gzip=True)


@dataclass(frozen=True)
class Flood:
    """`blocks` gives what user `user_id` sends after the opening, without end. WebSockets speak `codec`."""

    port: str
    blocks: Callable[[str], Iterator[bytes]]
    codec: Codec = PLAIN


def _again(block: Callable[[str], bytes]) -> Callable[[str], Iterator[bytes]]:
    return lambda user_id: itertools.repeat(block(user_id))


def _frames(one: bytes) -> bytes:
    return one * max(1, BLOCK_BYTES // len(one))


def _request(codec: Codec, op: int, data: bytes = b"") -> Callable[[str], bytes]:
    def block(user_id: str) -> bytes:
        return _frames(frame(BINARY, codec.encode_request(Request(op, "", user_id, "op", "1", data))))

    return block


def _fragments(_user_id: str) -> Iterator[bytes]:
    yield frame(TEXT, b"x", fin=False)
    yield from itertools.repeat(_frames(frame(CONTINUATION, fin=False)))


# Gob, as Go's encoding/gob has it


def _uint(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    data = number.to_bytes((number.bit_length() + 7) // 8)
    return bytes([256 - len(data)]) + data


def _int(number: int) -> bytes:
    return _uint(number << 1 if number >= 0 else ~number << 1 | 1)


def _message(content: bytes) -> bytes:
    return _uint(len(content)) + content


def gob_of_many_empty_structs(user_id: str, count: int = 50_700) -> bytes:
    """A good request 2004 that has a field `X` besides: so many structs without fields, of a byte each."""
    text = user_id.encode()
    field_types = ((b"ReqIdentifier", 2), (b"SendID", 6), (b"X", 66))
    fields = b"".join(b"\x01" + _message(name) + b"\x01" + _int(kind) + b"\0" for name, kind in field_types)
    outer = _int(-65) + b"\x03\x01\x02" + _int(65) + b"\0\x01" + _uint(len(field_types)) + fields + b"\0\0"
    many = _int(-66) + b"\x02\x01\x02" + _int(66) + b"\0\x01" + _int(67) + b"\0\0"
    empty = _int(-67) + b"\x03\x01\x02" + _int(67) + b"\0\0\0"
    value = _int(65) + b"\x01" + _int(Op.BACKGROUND) + b"\x01" + _message(text)
    value += b"\x01" + _uint(count) + bytes(count) + b"\0"
    return b"".join(map(_message, (outer, many, empty, value)))


def json_of_many_zeros(user_id: str, count: int = 25_000) -> bytes:
    """A request 2004 whose data are so many zeros."""
    zeros = ",".join("0" * count)
    return f'{{"reqIdentifier":{Op.BACKGROUND:d},"sendID":"{user_id}","data":[{zeros}]}}'.encode()


def _zipped(content: Callable[[str], bytes]) -> Callable[[str], bytes]:
    return lambda user_id: _frames(frame(BINARY, gzip.compress(content(user_id))))


# HTTP/2

GREETING = h2.PREFACE + h2.settings_frame([(h2.INITIAL_WINDOW, h2.MAX_WINDOW)]) + h2.widening_frame(0, 1 << 30)


def _headers(stream: int, method: str, *more: tuple[bytes, bytes]) -> bytes:
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", f"/openim.user.user/{method}".encode()),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"operationid", b"op"),
    )
    return h2.frame(h2.HEADERS, h2.END_HEADERS, stream, encode((*fields, *more)))


def _bytes_of_data(_user_id: str) -> Iterator[bytes]:
    yield GREETING + _headers(1, "getUserStatus")
    yield from itertools.repeat(_frames(h2.frame(h2.DATA, 0, 1, b"x")))


def _calls(method: str, content: bytes) -> Callable[[str], Iterator[bytes]]:
    body = gzip.compress(content)
    message = b"\x01" + len(body).to_bytes(4) + body

    def blocks(_user_id: str) -> Iterator[bytes]:
        yield GREETING
        for stream in itertools.count(1, 2):
            head = _headers(stream, method, (b"grpc-encoding", b"gzip"))
            yield head + h2.frame(h2.DATA, h2.END_STREAM, stream, message)

    return blocks


def _pings(_user_id: str) -> Iterator[bytes]:
    yield GREETING
    yield from itertools.repeat(_frames(h2.frame(h2.PING, 0, 0, bytes(8))))


def _gets(path: str) -> Callable[[str], bytes]:
    return lambda _user_id: _frames(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())


WATCHED = [f"watched {number}" for number in range(1_000)]

FLOODS = {
    "pings": Flood(WS, _again(lambda _: _frames(frame(PING)))),
    "pongs": Flood(WS, _again(lambda _: _frames(frame(PONG)))),
    "empty fragments": Flood(WS, _fragments),
    "requests 2004": Flood(WS, _again(_request(PLAIN, Op.BACKGROUND))),
    "requests answered with 1004": Flood(WS, _again(_request(PLAIN, Op.SEND_MESSAGE))),
    "subscribing to 1,000 users": Flood(WS, _again(_request(PLAIN, Op.WATCH, encode_watch(WATCHED)))),
    "gob of 50,700 empty structs, gzip": Flood(WS, _again(_zipped(gob_of_many_empty_structs)), ZIPPED),
    "JSON of 25,000 zeros, gzip": Flood(WS, _again(_zipped(json_of_many_zeros)), ZIPPED_JSON),
    "HTTP/2 DATA of one byte": Flood(GRPC, _bytes_of_data),
    "HTTP/2 pings": Flood(GRPC, _pings),
    "getUserStatus of unknown groups, gzip": Flood(GRPC, _calls("getUserStatus", b"\x23\x10\x12\x24" * 1_048_560)),
    "setUserOnlineStatus of empty users, gzip": Flood(GRPC, _calls("setUserOnlineStatus", b"\n\0" * 2_000_000)),
    "/livez, pipelined": Flood(HTTP, _again(_gets("/livez"))),
    "/metrics, pipelined": Flood(HTTP, _again(_gets("/metrics"))),
}
