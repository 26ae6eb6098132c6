"""Frames, judged by the independent library `websockets`."""

import struct
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame
from websockets.protocol import Protocol, Side, State

from adsum.domain.errors import FrameError
from adsum.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FRAGMENT,
    NO_CODE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    client_frame,
    goodbye,
    goodbye_code,
    goodbye_reason,
    server_frame,
)
from tests.support.client import frame

LIMIT = 70_000

Message = tuple[int, bytes]

SIZES = (0, 1, 3, 4, 5, 124, 125, 126, 127, 128, 1_000, 65_534, 65_535, 65_536, LIMIT)


def read(reader: FrameReader, pieces: Iterable[bytes]) -> tuple[list[Message], int | None]:
    """All messages in these pieces, and the close code of the violation that ended them."""
    messages: list[Message] = []
    try:
        for piece in pieces:
            short_cut = reader.binary(piece)
            for message in reader.feed(piece) if short_cut is None else [(BINARY, short_cut)]:
                messages += [message] if message != FRAGMENT else []
    except FrameError as error:
        return messages, error.close_code
    return messages, None


def read_client(*pieces: bytes, limit: int = LIMIT) -> tuple[list[Message], int | None]:
    """What a server reads of these pieces of a client's bytes."""
    return read(FrameReader(limit, masked=True), pieces)


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


# Messages that a client may send, as the judge sends them

payloads = st.one_of(st.binary(max_size=300), st.sampled_from([bytes(size) for size in (125, 126, 65_535, 65_536)]))
texts = st.text(max_size=100).map(str.encode)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def traffic(draw: st.DrawFn) -> tuple[bytes, list[Message]]:
    """The bytes of some messages, fragmented or not, with control frames between, and what they say in order."""
    judge = Protocol(Side.CLIENT, state=State.OPEN)
    said: list[Message] = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from([TEXT, BINARY]))
        payload = draw(texts if kind == TEXT else payloads)
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for number, part in enumerate(parts):
            if number and draw(st.booleans()):
                said.append(control(judge, *draw(controls)))
            fin = number == len(parts) - 1
            send = judge.send_continuation if number else judge.send_text if kind == TEXT else judge.send_binary
            send(part, fin=fin)
        said.append((kind, payload))
        if draw(st.booleans()):
            said.append(control(judge, *draw(controls)))
    return b"".join(judge.data_to_send()), said


def control(judge: Protocol, opcode: int, payload: bytes) -> Message:
    (judge.send_ping if opcode == PING else judge.send_pong)(payload)
    return opcode, payload


@given(traffic(), st.data())
def test_what_a_client_sends_is_read_however_it_arrives(sent: tuple[bytes, list[Message]], data: st.DataObject) -> None:
    stream, said = sent
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read_client(*pieces) == (said, None)


def test_byte_by_byte_and_at_every_split() -> None:
    judge = Protocol(Side.CLIENT, state=State.OPEN)
    judge.send_text("ü".encode() * 40, fin=False)
    judge.send_ping(b"between")
    judge.send_continuation(b"x" * 130, fin=True)
    judge.send_binary(b"")
    judge.send_binary(bytes(range(256)))
    judge.send_close(1000, "bye")
    stream = b"".join(judge.data_to_send())
    said = [
        (PING, b"between"),
        (TEXT, "ü".encode() * 40 + b"x" * 130),
        (BINARY, b""),
        (BINARY, bytes(range(256))),
        (CLOSE, goodbye(1000, "bye")),
    ]
    assert read_client(*pieces_of(stream, 1)) == (said, None)
    for at in range(len(stream) + 1):
        assert read_client(stream[:at], stream[at:]) == (said, None)


@pytest.mark.parametrize("size", SIZES)
def test_every_length_is_read_and_written(size: int) -> None:
    """A client's frames are read here, and a server's by the judge; the other way round too."""
    payload = bytes(number % 251 for number in range(size))
    sender = Protocol(Side.CLIENT, state=State.OPEN)
    sender.send_binary(payload)
    assert read_client(*sender.data_to_send()) == ([(BINARY, payload)], None)
    server = Protocol(Side.SERVER, state=State.OPEN)
    server.send_binary(payload)
    assert read(FrameReader(LIMIT, masked=False), server.data_to_send()) == ([(BINARY, payload)], None)
    assert judged(Side.CLIENT, server_frame(BINARY, payload)) == [(BINARY, payload)]
    assert judged(Side.SERVER, client_frame(BINARY, payload, b"\x01\x80\xff\x00")) == [(BINARY, payload)]


def judged(side: Side, stream: bytes) -> list[Message]:
    """What the judge, at that end, reads."""
    judge = Protocol(side, state=State.OPEN, max_size=None)
    judge.receive_data(stream)
    assert judge.parser_exc is None
    frames = [event for event in judge.events_received() if isinstance(event, Frame)]
    return [(int(event.opcode), bytes(event.data)) for event in frames]


@pytest.mark.parametrize("size", [0, 1, 118, 119, 120, 125, 126, 127, 300])
def test_a_length_may_be_written_longer_than_needed(size: int) -> None:
    """As OpenIM's own gateway takes it; in any form it means the same number."""
    for head_form in (struct.pack(">BBH", 0x82, 0xFE, size), head(size)):
        stream = head_form + bytes(4) + b"x" * size
        assert read_client(stream) == ([(BINARY, b"x" * size)], None)
        assert read_client(stream + frame(PING)) == ([(BINARY, b"x" * size), (PING, b"")], None)


@given(st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=125), st.binary(min_size=4, max_size=4))
def test_frames_written_here_are_read_by_the_judge(opcode: int, payload: bytes, mask: bytes) -> None:
    assert judged(Side.CLIENT, server_frame(opcode, payload)) == [(opcode, payload)]
    assert judged(Side.SERVER, client_frame(opcode, payload, mask)) == [(opcode, payload)]


# Violations


def head(size: int, opcode: int = BINARY) -> bytes:
    """The beginning of a client's frame that claims a size, and nothing of its payload."""
    return struct.pack(">BBQ", 0x80 | opcode, 0xFF, size)


VIOLATIONS = {
    "reserved bit 1": (1002, frame(BINARY, b"x", rsv=4)),
    "reserved bit 2": (1002, frame(TEXT, b"x", rsv=2)),
    "reserved bit 3 of a ping": (1002, frame(PING, b"x", rsv=1)),
    "no mask": (1002, frame(BINARY, b"x", masked=False)),
    "a ping without a mask": (1002, frame(PING, masked=False)),
    "a long ping": (1002, frame(PING, b"x" * 126)),
    "a ping in fragments": (1002, frame(PING, b"x", fin=False)),
    "a goodbye in fragments": (1002, frame(CLOSE, goodbye(1000), fin=False)),
    "a continuation of nothing": (1002, frame(CONTINUATION, b"x")),
    "a message within a message": (1002, frame(BINARY, b"x", fin=False) + frame(BINARY, b"y")),
    "another text within a text": (1002, frame(TEXT, b"x", fin=False) + frame(TEXT, b"y", fin=False)),
    "a text that is no UTF-8": (1007, frame(TEXT, b"\xff")),
    "a text cut within a letter": (1007, frame(TEXT, "ü".encode()[:1])),
    "fragments that are no UTF-8": (1007, frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"\xed\xa0\x80")),
    "a goodbye of one byte": (1002, frame(CLOSE, b"x")),
    "words of a goodbye that are no UTF-8": (1007, frame(CLOSE, goodbye(1000) + b"\xff")),
    "one byte too long": (1009, head(LIMIT + 1)),
    "in fragments too long": (1009, frame(BINARY, bytes(LIMIT), fin=False) + frame(CONTINUATION, b"x")[:2]),
    "2^62 bytes": (1009, head(2**62)),
    "2^63 bytes": (1002, head(2**63)),
    "2^64 - 1 bytes": (1002, head(2**64 - 1)),
} | {
    f"opcode {opcode}": (1002, frame(opcode, b"x"))
    for opcode in range(16)
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_has_its_code_after_all_that_came_before(name: str) -> None:
    code, bad = VIOLATIONS[name]
    before, said = frame(BINARY, b"good") + frame(PING), [(BINARY, b"good"), (PING, b"")]
    after = frame(BINARY, b"never read")
    assert read_client(before + bad + after) == (said, code)
    assert read_client(*pieces_of(before + bad, 1)) == (said, code)
    reader = FrameReader(LIMIT, masked=True)
    assert read(reader, [before + bad]) == (said, code)
    assert read(reader, [after, after]) == ([], None), "after a violation nothing is read"


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    assert read_client(frame(CLOSE, goodbye(code))) == ([(CLOSE, goodbye(code))], None)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535])
def test_codes_that_may_not(code: int) -> None:
    assert read_client(frame(CLOSE, struct.pack(">H", code))) == ([], 1002)


def test_nothing_is_read_after_a_goodbye() -> None:
    end = frame(CLOSE) + frame(BINARY, b"late") + b"\xff"
    assert read_client(end) == ([(CLOSE, b"")], None)
    assert read_client(frame(CLOSE), frame(BINARY, b"late"), b"\xff\xff") == ([(CLOSE, b"")], None)


def test_a_message_of_the_limit_is_read_whole_or_in_fragments() -> None:
    whole = bytes(LIMIT)
    assert read_client(frame(BINARY, whole)) == ([(BINARY, whole)], None)
    parts = frame(BINARY, whole[:-1], fin=False) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"\0")
    assert read_client(parts) == ([(BINARY, whole)], None)
    assert read_client(parts, frame(BINARY, whole)) == ([(BINARY, whole)] * 2, None)


def test_a_server_must_not_mask() -> None:
    reader = FrameReader(LIMIT, masked=False)
    assert read(reader, [server_frame(TEXT, b"fine"), client_frame(TEXT, b"x", b"mask")]) == ([(TEXT, b"fine")], 1002)


def test_nothing_is_kept_once_messages_are_whole() -> None:
    """What an idle connection costs: a reader without any buffer."""
    reader = FrameReader(LIMIT, masked=True)
    stream = frame(BINARY, b"x" * 200, fin=False) + frame(CONTINUATION, b"y" * 200)
    for piece in pieces_of(stream, 7):
        list(reader.feed(piece))
    assert (reader._rest, reader._parts) == (None, None)


def test_one_may_rest_after_each_frame() -> None:
    """Fragments that complete nothing are told too; what is left is read later, whatever was read meanwhile."""
    reader = FrameReader(LIMIT, masked=True)
    sent = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, fin=False) * 3 + frame(PING) + frame(CONTINUATION, b"b")
    frames = reader.feed(sent + frame(BINARY, b"c")[:3])
    assert [next(frames) for _ in range(5)] == [FRAGMENT] * 4 + [(PING, b"")]
    assert list(frames) == [(TEXT, b"ab")]
    assert list(reader.feed(frame(BINARY, b"c")[3:])) == [(BINARY, b"c")]


# Whatever comes


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Good bytes with some bits turned over, or no good bytes at all."""
    stream, _ = draw(traffic())
    if not stream:
        return draw(st.binary(max_size=60))
    spoilt = bytearray(stream[: draw(st.integers(1, len(stream)))][:400])
    for at, bit in draw(st.lists(st.tuples(st.integers(0, len(spoilt) - 1), st.integers(0, 7)), max_size=4)):
        spoilt[at] ^= 1 << bit
    return bytes(spoilt)


@given(damaged())
def test_damage_is_judged_the_same_however_it_arrives(stream: bytes) -> None:
    assert read_client(stream, limit=300) == read_client(*pieces_of(stream, 1), limit=300)


@given(damaged())
def test_damage_is_judged_as_by_the_judge(stream: bytes) -> None:
    """What the judge reads is read, and what it refuses is refused.

    We refuse sooner: a bad length or control frame when its head is there, where the judge waits for the rest.
    """
    messages, code = read_client(stream, limit=300)
    theirs, their_code = judge_of(stream, limit=300)
    if code is None:
        assert (messages, None) == (theirs, their_code)
    else:
        assert messages == theirs[: len(messages)]
        assert len(theirs) == len(messages)


def judge_of(stream: bytes, limit: int) -> tuple[list[Message], int | None]:
    """As `read`, by the judge; it leaves putting fragments together, and what is text, to its callers."""
    judge = Protocol(Side.SERVER, state=State.OPEN, max_size=limit)
    judge.receive_data(stream)
    messages: list[Message] = []
    parts: list[Frame] = []
    for event in judge.events_received():
        assert isinstance(event, Frame)
        if event.opcode >= CLOSE:
            messages.append((int(event.opcode), bytes(event.data)))
            continue
        parts.append(event)
        if event.fin:
            message = int(parts[0].opcode), b"".join(bytes(part.data) for part in parts)
            parts.clear()
            if message[0] == TEXT and not is_text(message[1]):
                return messages, 1007
            messages.append(message)
    return messages, code_of(judge.parser_exc)


def is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def code_of(error: Exception | None) -> int | None:
    match error:
        case None | EOFError():
            return None
        case PayloadTooBig():
            return 1009
        case UnicodeDecodeError():
            return 1007
    return 1002


# Goodbyes


@pytest.mark.parametrize(
    ("reason", "sent"),
    [("", ""), ("bye", "bye"), ("x" * 200, "x" * 123), ("ü" * 100, "ü" * 61), ("👩" * 40, "👩" * 30)],
)
def test_the_words_of_a_goodbye_are_cut_between_letters(reason: str, sent: str) -> None:
    payload = goodbye(1008, reason)
    assert (goodbye_code(payload), goodbye_reason(payload)) == (1008, sent)
    assert judged(Side.CLIENT, server_frame(CLOSE, payload)) == [(CLOSE, payload)]


def test_a_goodbye_may_have_no_code() -> None:
    assert (goodbye_code(b""), goodbye_reason(b"")) == (NO_CODE, "")


def test_many_messages_in_one_piece_are_all_read() -> None:
    count = 5_000
    stream = frame(BINARY, b"some request") * count
    said: Sequence[Message] = [(BINARY, b"some request")] * count
    assert read_client(stream) == (said, None)
