"""What little bytes can ask for is bounded: these stand for tens of thousands of steps, and are refused after few.

Steps are calls that Python makes, counted, so nothing here depends on how fast the machine is.
"""

import gzip
import json
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from adsum.domain.errors import AdsumError
from adsum.wire import gob, jsonframe, protobuf
from adsum.wire.frames import codec_of
from adsum.wire.hpack import Decoder, HpackError
from adsum.wire.http2_headers import tell
from adsum.wire.rpc import RpcRefused, StatusCode, read_message
from adsum.wire.upgrade import UpgradeError, parse_request
from tests.unit.wire.test_gob import SEND_ID, slice_, struct, uint, value

MOST_CALLS = 20_000
"""Made for any one message; a request that names 10,000 users takes four for each."""

MIB = 1 << 20


def calls_of(work: Callable[[], object]) -> int:
    """How many calls it makes."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def refused(work: Callable[[], object], *errors: type[Exception]) -> Exception:
    """The error it is refused with, after a bounded number of calls."""
    found: list[Exception] = []

    def run() -> None:
        with pytest.raises(errors) as caught:
            work()
        found.append(caught.value)

    assert calls_of(run) < MOST_CALLS
    return found[0]


def gob_of(count: int) -> bytes:
    """A valid 2004 with a field of so many empty structs."""
    types = struct(64, (b"ReqIdentifier", 2), SEND_ID, (b"X", 65)) + slice_(65, 66) + struct(66)
    return types + value(64, b"\x01\xfe\x0f\xa8\x01\x01a\x01" + uint(count) + b"\x00" * count + b"\x00")


def test_a_small_gob_frame_of_many_empty_structs() -> None:
    frame = gzip.compress(gob_of(50_700))
    assert len(frame) < 250
    codec = codec_of("go", gzip=True)
    error = refused(lambda: codec.decode_request(frame, 51_200), AdsumError)
    assert "send only the request's fields" in str(error)


def test_a_gob_frame_of_many_definitions() -> None:
    frame = b"".join(struct(number, SEND_ID) for number in range(64, 2_000)) + value(64, b"\x01\x01a\x00")
    refused(lambda: gob.decode_request(frame), AdsumError)


@pytest.mark.parametrize(
    "data",
    [
        "[" + ",".join("0" * 25_500) + "]",
        "{" + ",".join(f'"{n}":0' for n in range(5_000)) + "}",
        "[[" * 900 + "]]" * 900,
    ],
    ids=["numbers", "members", "depth"],
)
def test_a_json_frame_of_many_values(data: str) -> None:
    frame = f'{{"reqIdentifier":2004,"sendID":"a","data":{data}}}'.encode()
    refused(lambda: jsonframe.decode_request(frame), AdsumError)


def test_a_json_frame_as_clients_send_it_has_room() -> None:
    frame = json.dumps({"reqIdentifier": 2004, "sendID": "a,b[c{" * 20, "data": "AAAA"}).encode()
    assert calls_of(lambda: jsonframe.decode_request(frame)) < 100


@pytest.mark.parametrize(
    "payload", [b"\x23\x10\x12\x24" * MIB, b"\x18\x01" * MIB, b"\x23" * 90 + b"\x24" * 90 + b"\x1d1234" * MIB]
)
def test_a_call_of_fields_that_nobody_knows(payload: bytes) -> None:
    refused(lambda: protobuf.has_more_than(10_000, payload, 2), AdsumError)


def test_a_call_of_two_million_empty_users() -> None:
    found: list[bool] = []
    assert calls_of(lambda: found.append(protobuf.has_more_than(10_000, b"\x0a\x00" * 2_000_000, 1))) < 10 * MOST_CALLS
    assert found == [True]


def test_a_request_to_watch_of_fields_that_nobody_knows() -> None:
    refused(lambda: protobuf.decode_background(b"\x18\x01" * 20_000), AdsumError)


def test_a_compressed_call_that_becomes_a_thousand_times_as_long() -> None:
    packed = gzip.compress(bytes(4 * MIB))
    data = b"\1" + len(packed).to_bytes(4, "big") + packed
    error = refused(lambda: read_message(data, 4 * MIB, gzip=True), RpcRefused)
    assert isinstance(error, RpcRefused)
    assert error.code == StatusCode.RESOURCE_EXHAUSTED


def test_a_header_block_that_only_resizes_its_table() -> None:
    refused(lambda: Decoder(tell, 16_384, 65_536).decode(b"\x20" * 16_000), HpackError)


def test_a_handshake_of_many_headers() -> None:
    head = b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 4_000
    refused(lambda: parse_request(head), UpgradeError)
