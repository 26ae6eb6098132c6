"""A conformance suite by RFC 6455 sections 5 to 8, with bare sockets: each case is named by its section.

The one text that the service answers with what it was sent is the heartbeat, whose body comes back.
"""

import contextlib
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from adsum.wire.frames import CODECS
from adsum.wire.messages import Op, Request
from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, nobody_is_left, raw
from tests.support.service import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_BYTES = 51_200
USER = "judged"

PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009
NO_CODE = 1005
"""A goodbye without a code (7.1.5)."""

KINDS = {"continuation": CONTINUATION, "text": TEXT, "binary": BINARY, "close": CLOSE, "ping": PING, "pong": PONG}

Answers = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent, the frames that must come, and the code of the goodbye after them; None: the connection lives."""

    title: str
    sent: bytes
    answers: Answers = ()
    code: int | None = None


def beat(body: bytes = b"") -> bytes:
    """A heartbeat's text, whose body is this."""
    return b'{"type":"ping","body":"%b"}' % body


def back(body: bytes = b"") -> Answers:
    """What answers it."""
    return ((TEXT, b'{"type":"pong","body":"%b"}' % body),)


def parts(opcode: int, *payloads: bytes) -> Iterator[bytes]:
    """The frames of one message in fragments."""
    for at, payload in enumerate(payloads):
        yield frame(CONTINUATION if at else opcode, payload, fin=at == len(payloads) - 1)


def fragments(opcode: int, *payloads: bytes) -> bytes:
    return b"".join(parts(opcode, *payloads))


def claims(size: int) -> bytes:
    """The beginning of a frame that claims a size."""
    return struct.pack(">BBQ", 0x80 | BINARY, 0xFF, size) + bytes(4) + b"some"


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason)


def masking() -> Iterator[Case]:
    for name, opcode in KINDS.items():
        yield Case(f"5.1 {name} without a mask", frame(opcode, masked=False), code=PROTOCOL_ERROR)
    for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04", b"\0\0\0\x80"):
        for size in (0, 1, 2, 3, 4, 5, 200):
            body = (b"abcdefg" * 30)[:size]
            yield Case(f"5.3 mask {mask.hex()}, a body of {size}", frame(TEXT, beat(body), mask=mask), back(body))
    changing = frame(PING, b"one", mask=b"abcd") + frame(PING, b"two", mask=b"\xf0\x0f\xaa\x55")
    yield Case("5.3 each frame has its own mask", changing, ((PONG, b"one"), (PONG, b"two")))


def framing() -> Iterator[Case]:
    for rsv in range(1, 8):
        for name, opcode in KINDS.items():
            if opcode != CONTINUATION:
                yield Case(f"5.2 reserved bits {rsv:03b}, {name}", frame(opcode, rsv=rsv), code=PROTOCOL_ERROR)
        again = frame(TEXT, b"{", fin=False) + frame(CONTINUATION, rsv=rsv)
        yield Case(f"5.2 reserved bits {rsv:03b}, continuation", again, code=PROTOCOL_ERROR)
    for opcode in (*range(0x3, 0x8), *range(0xB, 0x10)):
        yield Case(f"5.2 opcode {opcode:x}", frame(opcode), code=PROTOCOL_ERROR)
        yield Case(f"5.2 opcode {opcode:x} with a payload", frame(opcode, b"x"), code=PROTOCOL_ERROR)
        between = frame(TEXT, b"{", fin=False) + frame(opcode) + frame(CONTINUATION, b"}")
        yield Case(f"5.2 opcode {opcode:x} between fragments", between, code=PROTOCOL_ERROR)
    empty = len(beat())
    for size in (125, 126, 127, 128, 255, 256, 32_768, LIMIT_BYTES):
        body = b"x" * (size - empty)
        yield Case(f"5.2 a length of {size}", frame(TEXT, beat(body)), back(body))
    # Nothing is kept for a claim: it is refused before the bytes come.
    for size in (65_536, 2**31, 2**32, 2**62, 2**63 - 1):
        yield Case(f"7.4.1 a length of {size} is too big", claims(size), code=TOO_BIG)
    for size in (2**63, 2**64 - 1):
        yield Case(f"5.2 a length of {size} has the highest bit set", claims(size), code=PROTOCOL_ERROR)


def fragmentation() -> Iterator[Case]:
    text = beat("ü€😀".encode())
    whole = back("ü€😀".encode())
    yield Case("5.4 two fragments", fragments(TEXT, text[:9], text[9:]), whole)
    yield Case("5.4 fragments of a byte", fragments(TEXT, *(text[at : at + 1] for at in range(len(text)))), whole)
    yield Case("5.4 empty fragments around", fragments(TEXT, b"", text, b""), whole)
    yield Case("5.4 empty fragments within", fragments(TEXT, text[:9], b"", b"", text[9:]), whole)
    yield Case("5.4 two messages in fragments", fragments(TEXT, text, b"") * 2, whole * 2)
    for name, opcode in (("ping", PING), ("pong", PONG)):
        between = frame(opcode, b"x").join(parts(TEXT, text[:9], text[9:20], text[20:]))
        answers = ((PONG, b"x"),) * 2 if opcode == PING else ()
        yield Case(f"5.4 {name} between fragments", between, answers + whole)
    opened = frame(TEXT, b"{", fin=False)
    yield Case("5.4 close between fragments", opened + close(1000), code=1000)
    yield Case("5.4 a continuation of nothing", frame(CONTINUATION, b"x"), code=PROTOCOL_ERROR)
    yield Case("5.4 a continuation of nothing, with more", frame(CONTINUATION, b"x", fin=False), code=PROTOCOL_ERROR)
    after = frame(TEXT, text) + frame(CONTINUATION, b"x")
    yield Case("5.4 a continuation of a whole message", after, whole, PROTOCOL_ERROR)
    after = fragments(TEXT, text, b"") + frame(CONTINUATION, b"x")
    yield Case("5.4 a continuation of a message that has ended", after, whole, PROTOCOL_ERROR)
    for name, opcode in (("text", TEXT), ("binary", BINARY)):
        for fin in (True, False):
            within = opened + frame(opcode, b"x", fin=fin)
            yield Case(f"5.4 {name} within a message, fin {fin:d}", within, code=PROTOCOL_ERROR)
    long = fragments(BINARY, *[bytes(1_000)] * (LIMIT_BYTES // 1_000), bytes(LIMIT_BYTES % 1_000 + 1))
    yield Case("7.4.1 fragments that are too big together", long, code=TOO_BIG)


def control_frames() -> Iterator[Case]:
    for name, opcode in (("close", CLOSE), ("ping", PING), ("pong", PONG)):
        payload = struct.pack(">H", 1000).ljust(126, b"x")
        yield Case(f"5.5 {name} of 126 bytes", frame(opcode, payload), code=PROTOCOL_ERROR)
        yield Case(f"5.5 {name} in fragments", frame(opcode, payload[:3], fin=False), code=PROTOCOL_ERROR)
        within = frame(TEXT, b"{", fin=False) + frame(opcode, fin=False)
        yield Case(f"5.5 {name} in fragments within a message", within, code=PROTOCOL_ERROR)
    for payload in (b"", b"x", b"hello", bytes(range(125)), b"\xff" * 125):
        yield Case(f"5.5.2 ping of {payload[:6].hex()}, {len(payload)}", frame(PING, payload), ((PONG, payload),))
    many = tuple((PONG, b"%d" % number) for number in range(50))
    yield Case("5.5.3 pongs in the order of pings", b"".join(frame(PING, payload) for _, payload in many), many)
    yield Case("5.5.3 a pong unasked", frame(PONG) + frame(PONG, bytes(125)))
    yield Case("5.5.3 a pong unasked, then a ping", frame(PONG, b"old") + frame(PING, b"new"), ((PONG, b"new"),))


def closing() -> Iterator[Case]:
    yield Case("5.5.1 without a code", frame(CLOSE), code=NO_CODE)
    yield Case("5.5.1 of one byte", frame(CLOSE, b"\x03"), code=PROTOCOL_ERROR)
    yield Case("5.5.1 nothing is read after it", close(1000) + frame(PING, b"x") + frame(TEXT, beat()), code=1000)
    yield Case("5.5.1 what came before is answered", frame(PING, b"x") + close(1000), ((PONG, b"x"),), 1000)
    yield Case("5.5.1 the first of two counts", close(1000) + close(1001), code=1000)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        yield Case(f"7.4 code {code}", close(code, b"bye"), code=code)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield Case(f"7.4 code {code} may not be sent", close(code), code=PROTOCOL_ERROR)
    yield Case("7.1.6 words of 123 bytes", close(1000, b"x" * 123), code=1000)
    yield Case("7.1.6 words in UTF-8", close(1000, "Schlüssel 😀".encode()), code=1000)


def texts() -> Iterator[Case]:
    for char in ("ü", "€", "\ud7ff", "\ue000", "\ufffd", "\uffff", "😀", "\U0010ffff"):
        yield Case(f"8.1 U+{ord(char):04X}", frame(TEXT, beat(char.encode())), back(char.encode()))
    for bad in (
        *(b"\x80", b"\xbf", b"\xfe", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\x80", b"\xc1\xbf"),
        *(b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80"),
        *(b"\xf8\x88\x80\x80\x80", b"\xc3\xc3\xbc"),
    ):
        yield Case(f"8.1 a text with {bad.hex()}", frame(TEXT, beat(bad)), code=INVALID_DATA)
        pieces = fragments(TEXT, beat(bad)[:24], beat(bad)[24:])
        yield Case(f"8.1 a text in fragments with {bad.hex()}", pieces, code=INVALID_DATA)
        yield Case(f"8.1 a goodbye with {bad.hex()}", close(1000, b"bye" + bad), code=INVALID_DATA)


CASES = [*masking(), *framing(), *fragmentation(), *control_frames(), *closing(), *texts()]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def nothing_leaks(service: RunningService) -> AsyncIterator[None]:
    yield
    await nobody_is_left(service)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
async def test_a_case(service: RunningService, case: Case) -> None:
    """The frames that must come, and none else; then the connection ends with the code, or still answers."""
    async with raw(service) as one:
        await one.upgrade(service.url(USER))
        code = case.code
        await one.send(case.sent if code is not None else case.sent + frame(PING, b"alive") + close(1000))
        for answer in case.answers if code is not None else (*case.answers, (PONG, b"alive")):
            assert await one.next_frame() == answer
        opcode, payload = await one.next_frame()
        assert opcode == CLOSE
        payload[2:].decode()
        if code != NO_CODE:
            assert int.from_bytes(payload[:2], "big") == (1000 if code is None else code)
        with contextlib.suppress(OSError):
            await one.send(close(1000))
        assert await one.rest() == b""


@pytest.mark.parametrize("pieces", [1, 2, 3, 50])
async def test_a_binary_message_in_fragments_is_one_request(service: RunningService, pieces: int) -> None:
    """5.6: what is in it is the application's."""
    codec = CODECS[0]
    data = codec.encode_request(Request(Op.NEWEST_SEQ, "", USER, "op", "1"))
    step = len(data) // pieces + 1
    async with raw(service) as one:
        await one.upgrade(service.url(USER))
        await one.send(fragments(BINARY, *(data[at : at + step] for at in range(0, len(data), step))))
        opcode, payload = await one.next_frame()
        assert opcode == BINARY
        assert codec.decode_response(payload, LIMIT_BYTES).msg_incr == "1"
        await one.send(close(1000))
        assert (await one.next_frame())[0] == CLOSE
        assert await one.rest() == b""
