"""Calls of gRPC between bytes and values."""

import gzip
from base64 import b64decode
from urllib.parse import unquote

import pytest

from adsum.wire.http2_headers import Block
from adsum.wire.rpc import (
    STANDARD_CODE_KEY,
    Messages,
    RpcRefused,
    StatusCode,
    http_refusal,
    message_end,
    read_call,
    read_message,
    text_of,
    timeout_of,
    trailers,
    trailers_only,
    write_message,
)
from tests.unit.wire.peer import fields_of


def block(method: bytes = b"POST", content_type: bytes = b"application/grpc", **fields: bytes) -> Block:
    plain = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    return Block(b"/a.b/c", method, {b"content-type": content_type, **plain}, (), -1, 100)


def test_the_header_of_a_call() -> None:
    call = read_call(block(grpc_encoding=b"gzip"))
    assert (call.path, call.gzip, call.refusal) == ("/a.b/c", True, None)


def test_the_metadata_of_a_call() -> None:
    metadata = {b"operationid": b"op1"}
    assert text_of(metadata, b"operationid") == "op1"
    assert text_of(metadata, b"token") is None
    assert timeout_of(metadata) is None


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(b"2H", 7_200), (b"3M", 180), (b"4S", 4), (b"5m", 0.005), (b"6u", 6e-6), (b"7n", 7e-9), (b"0S", 0)],
)
def test_timeouts(timeout: bytes, seconds: float) -> None:
    assert timeout_of({b"grpc-timeout": timeout}) == pytest.approx(seconds)


@pytest.mark.parametrize("timeout", [b"", b"5", b"S", b"-1S", b"1.5S", b"123456789S", b"5s", "٣S".encode()])
def test_a_malformed_timeout_is_refused(timeout: bytes) -> None:
    with pytest.raises(RpcRefused) as refused:
        timeout_of({b"grpc-timeout": timeout})
    assert refused.value.code == 13


def test_an_unknown_compression_is_refused_and_ours_named() -> None:
    refusal = read_call(block(grpc_encoding=b"zstd")).refusal
    assert refusal is not None
    fields = fields_of(trailers_only(refusal))
    assert (fields[b"grpc-status"], fields[b"grpc-accept-encoding"]) == (b"12", b"identity,gzip")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (block(content_type=b"application/grpc+proto"), 200),
        (block(content_type=b"application/grpc;charset=utf-8"), 200),
        (block(content_type=b"application/grpcx"), 415),
        (block(content_type=b"text/plain"), 415),
        (block(method=b"GET"), 405),
    ],
)
def test_what_is_no_grpc_is_answered_as_http(found: Block, status: int) -> None:
    call = read_call(found)
    assert call.http_status == status
    assert fields_of(http_refusal(call.http_status)) == {b":status": b"%d" % status}


@pytest.mark.parametrize("message", [b"", b"x", b"x" * 1_000])
def test_a_message_plain_and_compressed(message: bytes) -> None:
    assert read_message(write_message(message), 1_000, gzip=False) == message
    packed = gzip.compress(message)
    assert read_message(b"\1" + len(packed).to_bytes(4, "big") + packed, 1_000, gzip=True) == message


@pytest.mark.parametrize(
    ("data", "packed", "code"),
    [
        (b"", False, 13),
        (b"\0\0\0\0", False, 13),
        (b"\0\0\0\0\2x", False, 13),
        (b"\0\0\0\0\1xy", False, 13),
        (b"\2\0\0\0\1x", False, 13),
        (b"\1\0\0\0\1x", False, 13),
        (b"\1\0\0\0\1x", True, 13),
        (b"\2\0\0\0\1x", True, 13),
        (b"\0\0\0\x03\xe9" + bytes(1_001), False, 8),
    ],
)
def test_what_is_not_one_whole_message_is_refused(data: bytes, packed: bool, code: int) -> None:  # noqa: FBT001 - a parameter of the table
    with pytest.raises(RpcRefused) as caught:
        read_message(data, 1_000, gzip=packed)
    assert caught.value.code == code


def test_a_message_that_grows_past_the_limit_is_refused() -> None:
    packed = gzip.compress(bytes(1_001))
    with pytest.raises(RpcRefused) as caught:
        read_message(b"\1" + len(packed).to_bytes(4, "big") + packed, 1_000, gzip=True)
    assert caught.value.code == 8


def test_the_length_of_a_message_is_judged_by_its_prefix() -> None:
    assert message_end(b"\0\0\0", 10) == 5
    assert message_end(b"\0\0\0\0\7", 10) == 12
    with pytest.raises(RpcRefused):
        message_end(b"\0\0\0\0\x0b", 10)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_messages_of_a_stream_in_any_pieces(size: int) -> None:
    sent = [b"one", b"", b"three" * 10]
    data = b"".join(map(write_message, sent))
    messages = Messages(100, gzip=False)
    got = []
    for i in range(0, len(data), size):
        messages.feed(data[i : i + size])
        while (message := messages.take()) is not None:
            got.append(message)
    assert got == sent
    assert not messages.kept_bytes


def test_a_message_is_inflated_when_it_is_taken() -> None:
    packed = gzip.compress(bytes(1_000))
    sent = b"\1" + len(packed).to_bytes(4, "big") + packed
    messages = Messages(1_000, gzip=True)
    messages.feed(sent * 10)
    assert messages.kept_bytes == 10 * len(sent)
    assert messages.take() == bytes(1_000)
    assert messages.kept_bytes == 9 * len(sent)


def test_a_status_on_the_wire() -> None:
    fields = fields_of(trailers(RpcRefused(1001, "100% für\n~", b"\x00\xffabcd")))
    assert fields[b"grpc-status"] == b"1001"
    assert fields[b"grpc-message"] == b"100%25 f%C3%BCr%0A~"
    details = fields[b"grpc-status-details-bin"]
    assert not details.endswith(b"=")
    assert b64decode(details + b"==") == b"\x00\xffabcd"


def test_a_status_says_no_more_than_there_is() -> None:
    """And gRPC's own code beside OpenIM's, for who reads only that."""
    assert fields_of(trailers(RpcRefused(13, ""))) == {b"grpc-status": b"13"}
    named = RpcRefused(1001, "no", standard=StatusCode.INVALID_ARGUMENT)
    expected = {b"grpc-status": b"1001", b"grpc-message": b"no", STANDARD_CODE_KEY: b"INVALID_ARGUMENT"}
    assert fields_of(trailers(named)) == expected


def test_a_status_is_bounded() -> None:
    """A client takes a header of 8 KiB, and not more."""
    for character, size in (("x", 4_096), ("\n", 4_095), ("ü", 4_096 - 4), ("\U0001f600", 4_092)):
        fields = fields_of(trailers(RpcRefused(13, character * 10_000, b"y" * 10_000)))
        message = fields[b"grpc-message"]
        assert 4_096 - 24 < len(message) <= size
        assert set(unquote(message.decode(), errors="strict")) == {character}
        assert b"grpc-status-details-bin" not in fields
