"""Opening handshakes, judged by the independent library `websockets`."""

import base64
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from adsum.wire.upgrade import (
    MAX_HEAD_BYTES,
    Probe,
    UpgradeError,
    accepting_response,
    accepts,
    build_request,
    content_length,
    http_response,
    parse_probe,
    parse_request,
    split_request,
)

KEY = base64.b64encode(bytes(range(16))).decode()
GOOD = (
    "Host: localhost:10001",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
SECRET = "T0KEN"


def head(*headers: str, line: str = f"GET /?token={SECRET} HTTP/1.1", without: str = "") -> bytes:
    """The head of a good handshake with headers added, without one of its own, or with another first line."""
    kept = [header for header in GOOD if not without or not header.startswith(f"{without}:")]
    return "\r\n".join([line, *kept, *headers]).encode("latin-1")


def status_of(request: bytes) -> HTTPStatus:
    """The status this request is refused with; nothing of what was sent may be in the words beside it."""
    with pytest.raises(UpgradeError) as caught:
        parse_request(request)
    assert caught.value.detail
    assert SECRET not in str(caught.value)
    return caught.value.status


# Both ends, each against the judge's other


def test_a_handshake_of_the_judge_is_accepted_and_the_answer_understood() -> None:
    judge = ClientProtocol(parse_uri("ws://example.org:10001/a/b?sendID=%C3%BC&token=x"))
    judge.send_request(judge.connect())
    [sent] = judge.data_to_send()
    found = split_request(sent + b"more")
    assert found is not None
    request = parse_request(found[0])
    assert found[1] == b"more"
    assert (request.target, request.query) == (b"/a/b?sendID=%C3%BC&token=x", "sendID=%C3%BC&token=x")
    assert request.header(b"host") == "example.org:10001"
    assert request.header(b"origin") is None
    judge.receive_data(accepting_response(request.key))
    assert judge.handshake_exc is None
    assert judge.state is State.OPEN


def test_our_handshake_is_accepted_by_the_judge_and_its_answer_understood() -> None:
    judge = ServerProtocol()
    judge.receive_data(build_request("[::1]:10001", "/a?b=c", bytes(16)))
    [request] = judge.events_received()
    assert isinstance(request, Request)
    assert request.path == "/a?b=c"
    response = judge.accept(request)
    assert response.status_code == 101
    answer = response.serialize().removesuffix(b"\r\n\r\n")
    assert accepts(answer, bytes(16))
    assert not accepts(answer, bytes(15) + b"\1")
    assert not accepts(answer + b"\r\nSec-WebSocket-Protocol: chat", bytes(16))
    assert not accepts(answer.replace(b" 101 ", b" 1019 "), bytes(16))


def test_an_answer_that_opens_nothing() -> None:
    good = accepting_response(base64.b64encode(bytes(16))).removesuffix(b"\r\n\r\n")
    assert accepts(good, bytes(16))
    for bad in (
        good.replace(b" 101 ", b" 200 "),
        good.replace(b"websocket", b"h2c"),
        good.replace(b"Connection: Upgrade", b"Connection: close"),
        good + b"\r\nSec-WebSocket-Extensions: permessage-deflate",
        good + b"\r\nno colon",
        b"",
    ):
        assert not accepts(bad, bytes(16)), bad


@pytest.mark.parametrize("target", ["/ x", "/\r\nHost: other", "/\0", ""])
def test_nothing_can_be_slipped_into_our_request(target: str) -> None:
    with pytest.raises(ValueError, match="control"):
        build_request("host", target, bytes(16))


# Finding the head


def test_a_head_is_found_when_it_is_complete_and_not_before() -> None:
    request = head() + b"\r\n\r\n"
    for at in range(len(request)):
        assert split_request(request[:at]) is None
    assert split_request(request) == (head(), b"")
    assert split_request(request + b"\x82\x80") == (head(), b"\x82\x80")


@pytest.mark.parametrize("start", [b"POST / HTTP/1.1\r\n", b"HEAR", b"get / ", b"\x16\x03\x01", b"\0", b"PRI", b"G\r"])
def test_what_is_no_get_is_refused_at_its_first_letters(start: bytes) -> None:
    with pytest.raises(UpgradeError) as caught:
        split_request(start)
    assert caught.value.status is HTTPStatus.METHOD_NOT_ALLOWED


def test_a_head_has_a_longest_length() -> None:
    filler = "X: " + "x" * (MAX_HEAD_BYTES - len(head()) - len("\r\nX: ") - 4)
    longest = head(filler) + b"\r\n\r\n"
    assert len(longest) == MAX_HEAD_BYTES
    assert split_request(longest) == (head(filler), b"")
    for too_long in (head(filler + "x") + b"\r\n\r\n", b"GET /" + b"x" * MAX_HEAD_BYTES):
        with pytest.raises(UpgradeError) as caught:
            split_request(too_long)
        assert caught.value.status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


# What is in it


@pytest.mark.parametrize(
    "request_head",
    [
        head("Upgrade: h2c, foo"),
        head("CONNECTION: keep-alive"),
        head("connection: keep-alive, UPGRADE", without="Connection"),
        head("upgrade:WebSocket", without="Upgrade"),
        head("upgrade:\t websocket \t", without="Upgrade"),
        head("Content-Length: 0"),
        head("X-Empty:", "X-Odd: \xff:é"),
        head(line="GET http://proxy.example/?x HTTP/1.1"),
        head(line="GET /ü?x HTTP/1.1"),
    ],
)
def test_forms_that_are_good(request_head: bytes) -> None:
    request = parse_request(request_head)
    assert accepting_response(request.key) == accepting_response(KEY.encode())


def test_headers_are_found_by_any_case_and_joined_when_repeated() -> None:
    request = parse_request(head("COMPRESSION: gzip", "X-Two: a", "x-two: b"))
    assert request.header(b"compression") == "gzip"
    assert request.header(b"x-two") == "a, b"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head(without="Upgrade"), 426),
        (head(without="Connection"), 426),
        (head("Upgrade: websockets", without="Upgrade"), 426),
        (head("Connection: close", without="Connection"), 426),
        (head(without="Sec-WebSocket-Version"), 426),
        (head("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"), 426),
        (head("Sec-WebSocket-Version: 8"), 426),
        (head(without="Sec-WebSocket-Key"), 400),
        (head("Sec-WebSocket-Key: c2hvcnQ=", without="Sec-WebSocket-Key"), 400),
        (head("Sec-WebSocket-Key: " + "A" * 24, without="Sec-WebSocket-Key"), 400),
        (head(f"Sec-WebSocket-Key: {KEY}"), 400),
        (head(without="Host"), 400),
        (head(without="Host").replace(b"HTTP/1.1", b"HTTP/1.1\r\nHost: a\r\nHost: b"), 400),
        (head(without="Host").replace(b"HTTP/1.1", b"HTTP/1.1\r\nHost: "), 400),
        (head("Content-Length: 5"), 400),
        (head("Transfer-Encoding: chunked"), 400),
        (head(" folded: header"), 400),
        (head("no colon"), 400),
        (head(": no name"), 400),
        (head("spaced : name"), 400),
        (head("\xff: \xff"), 400),
        (head("X: a\nY: b"), 400),
        (head("X: a\rb"), 400),
        (head("X: \0"), 400),
        (head(""), 400),
        (head(line=f"GET /?{SECRET}"), 400),
        (head(line=f"GET  /?{SECRET} HTTP/1.1"), 400),
        (head(line=f"GET /?{SECRET} x HTTP/1.1"), 400),
        (head(line=f"GET /\x7f\x01{SECRET} HTTP/1.1"), 400),
        (head(line=f"GET /?{SECRET} FTP/1.1"), 400),
        (head(line=f"GET /?{SECRET} HTTP/1.0"), 505),
        (head(line=f"GET /?{SECRET} HTTP/2.0"), 505),
        (b"GET / HTTP/1.1", 426),
        (head(line="HEAD / HTTP/1.1"), 405),
        (b"GET ", 400),
    ],
)
def test_each_refusal_has_its_status(request_head: bytes, status: int) -> None:
    assert status_of(request_head) == status


@pytest.mark.parametrize(
    ("request_head", "probe"),
    [
        (b"GET /livez HTTP/1.1", Probe("livez", with_body=True)),
        (b"HEAD /readyz?x HTTP/1.0\r\nHost: a", Probe("readyz", with_body=False)),
        (head(line="GET /livez HTTP/1.1"), None),  # a client may open a WebSocket at any path
        (b"GET /livez2 HTTP/1.1", None),
        (b"GET /livez/ HTTP/1.1", None),
        (b"GET /livez HTTP/2.0", None),
        (b"HEAD / HTTP/1.1", None),
        (b"GET / HTTP/1.1", None),
    ],
)
def test_a_balancer_asks_by_two_paths(request_head: bytes, probe: Probe | None) -> None:
    assert parse_probe(request_head) == probe


def test_a_question_with_broken_headers_is_refused() -> None:
    with pytest.raises(UpgradeError):
        parse_probe(b"GET /livez HTTP/1.1\r\nno colon")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_handshake_or_refused(data: bytes) -> None:
    for request_head in (data, b"GET " + data, head() + data):
        try:
            parse_request(request_head)
        except UpgradeError as error:
            assert 400 <= error.status < 600  # noqa: PT017 - only what is raised is asserted


# Answers


def test_refusals_say_what_would_be_right_and_end_the_connection() -> None:
    answer = http_response(HTTPStatus.UPGRADE_REQUIRED, "text/plain", b"no")
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert answer.endswith(b"\r\n\r\nno")
    for line in (
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Content-Length: 2",
        b"Connection: close, Upgrade",
    ):
        assert line in answer.split(b"\r\n")
    assert b"Allow: GET" in http_response(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"").split(b"\r\n")


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: 3", 12),
        (b"HTTP/1.1 200 OK\r\ncontent-length:0", 0),
        (b"HTTP/1.1 200 OK\r\nX-Content-Length: 5", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1", None),
        (b"HTTP/1.1 200 OK", None),
    ],
)
def test_how_long_a_body_is(answer: bytes, size: int | None) -> None:
    assert content_length(answer) == size
