"""Inputs from a seed: valid ones, ones of the right form with anything in them, and what mutation makes of both."""

import gzip
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from random import Random
from typing import Final

from adsum.wire import gob, http2_frames, jsonframe, protobuf, upgrade
from adsum.wire.hpack import encode
from adsum.wire.messages import Request, Response
from adsum.wire.websocket import client_frame
from tests.unit.wire.peer import REQUEST
from tests.unit.wire.test_gob import array, map_, slice_, struct, uint, value

Make = Callable[[Random], bytes]

LONG_BYTES: Final = 20_000
"""About the longest: what costs its square shows long before."""

_ODD: Final = (
    *(bytes((byte,)) for byte in (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)),
    *(b"\xf8" + b"\xff" * 8, b"\xf8\x7f" + b"\xff" * 7, b"\xfe\xff\xff", b"\xff" * 9 + b"\x01", b"\x80" * 11),
    *(b"\x23", b"\x24", b"\x0a\x00", b"\x10\x01", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x3f\xe1\x1f", b"\xbe"),
    *(
        b"[",
        b"[0,",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"\\ud800",
        b"\\u0000",
        b"1e999",
        b"NaN",
        b"null",
        b"-0",
        b"9" * 40,
    ),
    *(
        b"\r\n",
        b" ",
        b":",
        b"%",
        b"%zz",
        b"&",
        b";",
        b"=",
        b"+",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"\xf0\x9f",
        b"\xc0\x80",
    ),
)
"""Where formats begin, end, count or escape."""


def mutated(make: Make) -> Make:
    """Three of four inputs are changed in a few places, or are anything at all."""

    def made(random: Random) -> bytes:
        kind = random.randrange(16)
        if not kind:
            return random.randbytes(random.choice((0, 1, 2, 8, 60, 400)))
        data = make(random)
        for _ in range(random.choice((1, 1, 2, 4, 8)) if kind > 3 else 0):
            data = _changed(random, data, make)
        return data[: 3 * LONG_BYTES]

    return made


def _changed(random: Random, data: bytes, make: Make) -> bytes:
    """With a part of it left out, repeated, or something else in its place."""
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((0, 1, 1, 2, 4, 16, 100)))
    part, rest = data[start:end], data[end:]
    match random.randrange(8):
        case 0:
            part = b""
        case 1:
            part = random.choice(_ODD)
        case 2:
            part = random.randbytes(len(part))
        case 3 if part:
            part = bytes((part[0] ^ 1 << random.randrange(8),)) + part[1:]
        case 4:
            part = ((part or random.choice(_ODD)) * _often(random))[:LONG_BYTES]
        case 5:
            rest = b""
        case 6:
            rest = make(random)[random.randint(0, start) :]
        case _:
            part, rest = b"", part + data[random.randint(0, len(data)) :]
    return data[:start] + part + rest


def _often(random: Random) -> int:
    return random.choice((2, 3, 10, 100, LONG_BYTES)) if random.randrange(8) else LONG_BYTES


def text(random: Random) -> str:
    """Something that could be an ID, or is none."""
    return random.choice(("", "u1", "alice", "user_2", "ü", "\0", "x" * 130, "a,b[c{", "\ufffd", "日本", "😀"))


def _data(random: Random) -> bytes:
    return random.choice((b"", b"\x0a\x02u1", b"\x12\x02u2\x0a\x01a", b"\xff" * 20, bytes(127), bytes(300)))


def _op(random: Random) -> int:
    return random.choice((0, 63, -64, 1001, 2003, 2004, 2005, -(2**31), 2**31 - 1))


def _request(random: Random) -> Request:
    return Request(_op(random), text(random), text(random), text(random), text(random), _data(random))


def _response(random: Random) -> Response:
    return Response(
        _op(random), text(random), text(random), random.choice((0, 1004, 2**63 - 1)), text(random), _data(random)
    )


def gob_frame(random: Random) -> bytes:
    """A message as Go writes it, or one of types that nobody has."""
    kind = random.randrange(3)
    if kind == 0:
        return gob.encode_request(_request(random))
    if kind == 1:
        return gob.encode_response(_response(random))
    names = (b"ReqIdentifier", b"Token", b"SendID", b"MsgIncr", b"Data", b"ErrCode", b"X", b"Y")
    count = random.choice((1, 2, 3, 5, 40))

    def type_id() -> int:
        return random.choice((1, 2, 3, 4, 5, 6, 7, 8, 16, random.randint(64, 64 + count)))

    types = [
        random.choice(
            (
                lambda at: struct(at, *((random.choice(names), type_id()) for _ in range(random.randrange(6)))),
                lambda at: slice_(at, type_id()),
                lambda at: map_(at, type_id(), type_id()),
                lambda at: array(at, type_id(), random.choice((0, 1, 3, 2**40))),
            )
        )(at)
        for at in range(65, 64 + count)
    ]
    top = struct(64, (b"SendID", 6), *((random.choice(names), type_id()) for _ in range(random.randrange(4))))
    content = b"\x01" + uint(3) + b"abc"
    for _ in range(random.randrange(4)):
        content += random.choice((b"\x01\x04", b"\x01\x03abc", b"\x01\x00", b"\x01" + uint(2_000) + bytes(2_000)))
    return top + b"".join(types) + value(64, content + b"\0" * random.randrange(3))


def json_frame(random: Random) -> bytes:
    """A message as the SDKs write it, or members of any kind."""
    kind = random.randrange(3)
    if kind == 0:
        return jsonframe.encode_request(_request(random))
    if kind == 1:
        return jsonframe.encode_response(_response(random))
    if not random.randrange(6):
        return b'{"data":%b}' % json.dumps([0] * random.choice((3, 300, 7_000)), separators=(",", ":")).encode()
    names = ("reqIdentifier", "token", "SENDID", "operationID", "msgIncr", "data", "type", "body", "errCode", "x")
    return _object(random, names, ("ping", "pong", 2005, 1001))


def _object(random: Random, names: tuple[str, ...], usual: tuple[object, ...]) -> bytes:
    def any_value(depth: int = 0) -> object:
        kind = random.randrange(9 if depth < 4 else 6)
        plain = (None, True, random.choice(usual), text(random), random.randint(-(2**70), 2**70), random.random())
        if kind < len(plain):
            return plain[kind]
        if kind == len(plain):
            return {text(random): any_value(depth + 1) for _ in range(random.randrange(4))}
        return [any_value(depth + 1) for _ in range(random.choice((0, 1, 3, 30)))]

    members = {random.choice(names): any_value() for _ in range(random.randrange(8))}
    members |= {name: usual[0] for name in names[:1] if random.randrange(2)}
    return json.dumps(members, ensure_ascii=random.random() < 0.5).encode()


def heartbeat(random: Random) -> bytes:
    """A ping or pong, or what could be taken for one."""
    return _object(random, ("type", "body", "TYPE", "x"), ("ping", "pong", "other"))


def packed(make: Make) -> Make:
    """As one gzip member."""
    return lambda random: gzip.compress(make(random)[:51_200], 6, mtime=0)


def query(random: Random) -> bytes:
    """The query string of a handshake, in its plain form or packed as JSON."""
    if random.randrange(2):
        names = ("platformID", "token", "userID", "operationID", "compression", "sdkType", "sendResponse", "background")
        content = _object(random, names, (5, "gzip", "js", "go"))
        if random.randrange(2):
            content = b'{"platformID":5,"token":"t","userID":"u","operationID":"o",' + content[1:]
        return b"v=" + urlsafe_b64encode(content).rstrip(b"=")
    return b"&".join(
        name + b"=" + (values[0] if random.randrange(8) else random.choice(values))
        for name, values in (
            (b"sendID", (b"u1", b"%C3%BC", b"", b"a+b", b"%ff")),
            (b"token", (b"t", b"eyJ.e.s")),
            (b"platformID", (b"5", b"1", b"0", b"99", b"-1", b"x")),
            (b"operationID", (b"op", b"")),
            (b"isBackground", (b"true", b"false", b"0", b"maybe")),
            (b"compression", (b"gzip", b"", b"br")),
            (b"sdkType", (b"js", b"go", b"", b"py")),
            (b"isMsgResp", (b"true", b"")),
        )
        if random.randrange(32)
    )


def opening(random: Random) -> bytes:
    """A request on the WebSocket port."""
    if not random.randrange(4):
        return random.choice((b"GET /livez", b"HEAD /readyz", b"GET /readyz?x=1")) + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    more = b"".join(
        random.choice((b"Origin: http://a", b"X: " + random.randbytes(3).hex().encode(), b"Cookie: a=b")) + b"\r\n"
        for _ in range(random.choice((0, 1, 5, 120)))
    )
    asked = upgrade.build_request("h", "/?" + query(random).decode(), bytes(16))
    return asked[:-2] + more + b"\r\n"


def websocket_frames(random: Random) -> bytes:
    """Frames of a client: whole messages, fragments, control frames; sometimes one that may not be."""
    return b"".join(_websocket_frame(random) for _ in range(random.choice((1, 2, 5, 20))))


def _websocket_frame(random: Random) -> bytes:
    if not random.randrange(4):
        first = random.choice((0x00, 0x01, 0x02, 0x80, random.randrange(256)))
        size = random.choice((0, 1, 125))
        return bytes((first, 0x80 | size)) + random.randbytes(4 + size)
    payload = random.choice((b"", b"hi", "ü".encode(), b"\x03\xe8bye", b"\xff", bytes(126), bytes(1_000)))
    return client_frame(random.choice((1, 2, 2, 8, 9, 10)), payload, random.randbytes(4))


def http2_bytes(random: Random) -> bytes:
    """What a client sends from its preface on."""
    frames = (_http2_frame(random) for _ in range(random.choice((1, 3, 10, 40))))
    return http2_frames.PREFACE + http2_frames.settings_frame(()) + b"".join(frames)


def _http2_frame(random: Random) -> bytes:
    flags = random.choice((0, 1, 4, 5, 8, 0x20, 0x2D, random.randrange(256)))
    stream_id = random.choice((0, 1, 1, 3, 5, 7, 9, 2, 2**31 - 1))
    payload = random.choice((b"", b"\0", bytes(4), bytes(5), b"\0\0\0\1", bytes(8), b"\0\4\0\0\0\0", bytes(1_200)))
    kind = random.randrange(11)
    if kind == http2_frames.HEADERS:
        payload = random.choice((REQUEST, header_block(random)))
    return http2_frames.frame(kind, flags, stream_id, payload)


def header_block(random: Random) -> bytes:
    """A header block: fields by our encoder, by the tables, with and without Huffman's code."""
    parts = []
    for _ in range(random.choice((1, 3, 8, 60))):
        name, content = (
            random.choice((b"x", b":path", b"te", b"content-length")),
            random.choice((b"", b"1", b"a" * 200)),
        )
        parts.append(
            random.choice(
                (
                    encode(((name, content),)),
                    bytes((0x80 | random.randint(1, 61),)),
                    bytes((0x80 | random.randint(1, 70),)),
                    b"\x40\x01" + name[:1] + b"\x81\x1f",
                    bytes((0x40 | random.randint(1, 61), 0x03)) + random.randbytes(3),
                    bytes((0x7F, random.randrange(3), 1)) + b"v",
                )
            )
        )
    resized = b"" if random.randrange(3) else bytes((0x20 | random.randrange(32),))
    return resized + b"".join(parts)


def protobuf_message(random: Random) -> bytes:
    """A request of the WebSocket, or fields of any number and type."""
    kind = random.randrange(3)
    if kind == 0:
        count = random.choice((0, 1, 5, 500))
        return protobuf.encode_watch([text(random) for _ in range(count)], [text(random)])
    if kind == 1:
        return protobuf.encode_background(text(random), background=bool(random.randrange(2)))
    return b"".join(_protobuf_field(random) for _ in range(random.choice((1, 3, 10, 100))))


def _protobuf_field(random: Random) -> bytes:
    number, wire_type = random.choice((1, 2, 3, 15)), random.randrange(6)
    contents = (b"\x01", bytes(8), b"\x03abc", b"\x10\x01" + bytes((number << 3 | 4,)), b"", bytes(4))
    return bytes((number << 3 | wire_type,)) + contents[wire_type]


def grpc_body(random: Random) -> bytes:
    """The body of a call, whole or not, compressed or not."""
    message = protobuf_message(random)
    if random.randrange(2):
        message = gzip.compress(message, mtime=0)
        return b"\1" + len(message).to_bytes(4, "big") + message
    return bytes((random.randrange(2),)) + len(message).to_bytes(4, "big") + message
