"""What is fuzzed: every decoder of what a peer sends, with the errors it may raise and what it may cost.

A run also checks what must hold of the result, by `assert`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from adsum.domain.errors import ConnectionArgumentError, DataError, FrameError
from adsum.domain.platforms import PRESETS, PlatformRegistry
from adsum.proto.user_pb2 import getUserStatusReq
from adsum.wire import gob, heartbeat, jsonframe, protobuf
from adsum.wire.frames import codec_of
from adsum.wire.handshake import parse_handshake, wants_text_outcome
from adsum.wire.hpack import Decoder, HpackError
from adsum.wire.http2_frames import PING
from adsum.wire.http2_headers import read_shape, tell
from adsum.wire.rpc import Messages, RpcRefused, read_message
from adsum.wire.upgrade import UpgradeError, parse_probe, parse_request, split_request
from adsum.wire.websocket import FRAGMENT, FrameReader
from tests.fuzz import inputs
from tests.fuzz.inputs import Make, mutated, packed
from tests.unit.wire.peer import Peer

LIMIT: Final = 51_200
_PLATFORMS: Final = PlatformRegistry(PRESETS["openim"])


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder: where its inputs come from, and what it may raise.

    It may execute `lines` of the service's, and `lines_a_byte` more for each byte of the input.
    """

    make: Make
    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = ()
    lines: int = 2_000
    lines_a_byte: int = 20


def _both_gobs(data: bytes) -> None:
    gob.decode_request(data)
    gob.decode_response(data)


def _both_jsons(data: bytes) -> None:
    """The quick way and the exact way agree."""
    try:
        exactly = jsonframe.decode_request_exactly(data)
    except FrameError:
        exactly = None
    try:
        quickly = jsonframe.decode_request(data)
    except FrameError:
        quickly = None
    assert quickly == exactly
    jsonframe.decode_response(data)


def _handshake(data: bytes) -> None:
    query = data.decode("utf-8", "surrogateescape")
    wants_text_outcome(query)
    parse_handshake(query, {}, _PLATFORMS)


def _upgrade(data: bytes) -> None:
    found = split_request(data)
    if found is None:
        return
    if parse_probe(found[0]) is None:
        request = parse_request(found[0])
        _handshake(request.query.encode("utf-8", "surrogateescape"))


def _websocket(data: bytes) -> None:
    """Frames are the same however the bytes come."""
    assert _messages(data, len(data) or 1) == _messages(data, len(data) // 3 + 1)


def _messages(data: bytes, step: int) -> list[object]:
    reader = FrameReader(LIMIT, masked=True)
    found: list[object] = []
    try:
        for at in range(0, len(data), step):
            for message in reader.feed(data[at : at + step]):
                if message is not FRAGMENT:
                    found.append(message)  # noqa: PERF401 - what came before an error is kept
    except FrameError as error:
        found.append(error.close_code)
    return found


def _http2(data: bytes) -> None:
    """It never raises, all it sends is whole frames, and is the same however the bytes come."""
    whole, pieces = Peer(greet=False, answers=b"answer"), Peer(greet=False, answers=b"answer")
    step = len(data) // 3 + 1
    sent = whole.heard() + whole.say(data)
    again = pieces.heard() + [frame for at in range(0, len(data), step) for frame in pieces.say(data[at : at + step])]
    # Answers to pings go before what else is written at once.
    for pongs in (True, False):
        assert [frame for frame in sent if (frame.kind == PING) is pongs] == [
            frame for frame in again if (frame.kind == PING) is pongs
        ]
    assert whole.log == pieces.log
    assert whole.kept_bytes == pieces.kept_bytes


def _hpack(data: bytes) -> None:
    """Two blocks one after the other, for the second meets what the first left in the table."""
    decoder = Decoder(tell, 16_384, 65_536)
    for block in (data, data):
        shape, _ = decoder.decode(block)
        if shape is not None:
            read_shape(shape)


def _watch(data: bytes) -> None:
    """What is taken, Google's decoder takes too, and finds the same users in field 2 (its message is another)."""
    found = protobuf.decode_watch(data)
    assert tuple(getUserStatusReq.FromString(data).userIDs) == found.unsubscribe


def _many_users(data: bytes) -> None:
    protobuf.has_more_than(100, data, 1)


def _grpc(data: bytes) -> None:
    messages = Messages(4 << 20, gzip=True)
    messages.feed(data)
    if messages.take() is not None:
        protobuf.has_more_than(100, read_message(data, 4 << 20, gzip=True), 1)


def _gob_gzip(data: bytes) -> None:
    codec_of("go", gzip=True).decode_request(data, LIMIT)


def _json_gzip(data: bytes) -> None:
    codec_of("js", gzip=True).decode_request(data, LIMIT)


# What a few bytes of gzip unpack to is bounded, and so are the steps for that.
TARGETS: Final = {
    "gob": Target(mutated(inputs.gob_frame), _both_gobs, (FrameError,), lines=15_000),
    "gob-gzip": Target(packed(mutated(inputs.gob_frame)), _gob_gzip, (FrameError,), lines=15_000),
    "gob-in-bad-gzip": Target(mutated(packed(inputs.gob_frame)), _gob_gzip, (FrameError,), lines=15_000),
    "json": Target(mutated(inputs.json_frame), _both_jsons, (FrameError,)),
    "json-gzip": Target(packed(mutated(inputs.json_frame)), _json_gzip, (FrameError,), lines=15_000),
    "heartbeat": Target(mutated(inputs.heartbeat), heartbeat.answer_heartbeat, (FrameError,)),
    "handshake": Target(mutated(inputs.query), _handshake, (ConnectionArgumentError,)),
    "upgrade": Target(mutated(inputs.opening), _upgrade, (UpgradeError, ConnectionArgumentError)),
    "websocket": Target(mutated(inputs.websocket_frames), _websocket),
    "http2": Target(mutated(inputs.http2_bytes), _http2),
    # A byte may be a field, and is read twice.
    "hpack": Target(mutated(inputs.header_block), _hpack, (HpackError,), lines_a_byte=50),
    "watch": Target(mutated(inputs.protobuf_message), _watch, (DataError,)),
    "background": Target(mutated(inputs.protobuf_message), protobuf.decode_background, (DataError,)),
    "tips": Target(mutated(inputs.protobuf_message), protobuf.decode_tips, (DataError,)),
    "users": Target(mutated(inputs.protobuf_message), _many_users, (DataError,)),
    "grpc": Target(mutated(inputs.grpc_body), _grpc, (RpcRefused, DataError), lines=15_000),
}
"""By name."""
