"""One connection as a client speaks it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.client.errors import ServerError
from adsum.client.protocol import (
    MAX_REQUEST_BYTES,
    PING_INTERVAL_MS,
    Answer,
    Beat,
    ClientProtocol,
    Kicked,
    Login,
    Push,
    refusal,
    watch_portions,
)
from adsum.core.opids import OpIds
from adsum.domain.errors import DataError, TokenExpired
from adsum.domain.platforms import parse_platforms
from adsum.wire.frames import CODECS, Codec
from adsum.wire.handshake import parse_handshake, refusal_body
from adsum.wire.messages import Op, Response
from adsum.wire.protobuf import UserStatus, decode_watch, encode_elem

LIMIT = 51_200


def protocol(codec: Codec = CODECS[0]) -> ClientProtocol:
    return ClientProtocol(Login("alice", 1, "T", codec=codec), OpIds("op"), now_ms=0)


@pytest.mark.parametrize("codec", CODECS)
def test_a_server_reads_the_handshake_as_it_was_meant(codec: Codec) -> None:
    login = Login("al ice&=", 5, "a.b.c", background=True, codec=codec)
    handshake = parse_handshake(login.query("op-1"), {}, parse_platforms(["openim"]))
    assert (handshake.user_id, handshake.platform_id, handshake.token) == ("al ice&=", 5, "a.b.c")
    assert (handshake.background, handshake.codec, handshake.operation_id) == (True, codec, "op-1")


def test_a_login_does_not_show_its_token() -> None:
    assert "secret" not in repr(Login("alice", 1, "secret"))


@pytest.mark.parametrize("codec", CODECS)
def test_an_answer_is_matched_to_its_request(codec: Codec) -> None:
    client = protocol(codec)
    first, second = client.ask(Op.WATCH, b"1"), client.ask(Op.LOGOUT)
    request = codec.decode_request(second.frame, LIMIT)
    assert (request.op, request.send_id, request.operation_id) == (Op.LOGOUT, "alice", "op-2")
    assert first.msg_incr != second.msg_incr == request.msg_incr

    answer = codec.encode_response(Response(Op.LOGOUT, second.msg_incr, "op-2", data=b"x"))
    assert client.receive(answer) == Answer(second.msg_incr, b"x", None)
    assert client.receive(answer) is None, "a second answer to one request says nothing"


def test_an_error_answer_has_code_and_text() -> None:
    client = protocol()
    asked = client.ask(Op.WATCH)
    frame = CODECS[0].encode_response(Response(Op.WATCH, asked.msg_incr, "", 1001, "a user ID is empty"))
    event = client.receive(frame)
    assert isinstance(event, Answer)
    assert event.error is not None
    assert (event.error.code, str(event.error)) == (1001, "a user ID is empty (1001)")


def test_an_answer_that_came_too_late_says_nothing() -> None:
    client = protocol()
    asked = client.ask(Op.WATCH)
    client.forget(asked.msg_incr)
    assert client.receive(CODECS[0].encode_response(Response(Op.WATCH, asked.msg_incr))) is None


def test_pushes_kicks_and_what_is_not_presence() -> None:
    client = protocol()

    def receive(response: Response) -> object:
        return client.receive(CODECS[0].encode_response(response))

    data = encode_elem("bob", (1, 5)) + encode_elem("eve", ())
    assert receive(Response(Op.WATCH, data=data)) == Push((UserStatus("bob", (1, 5)), UserStatus("eve", ())))
    assert receive(Response(Op.KICKED)) == Kicked()
    assert receive(Response(Op.PUSH_MESSAGE, data=b"a message")) is None


@given(st.binary(max_size=200), st.sampled_from(CODECS))
def test_any_bytes_give_an_event_or_a_data_error(data: bytes, codec: Codec) -> None:
    with contextlib.suppress(DataError):
        protocol(codec).receive(data)


def test_a_ping_is_due_at_intervals_and_silence_after_one_is_death() -> None:
    client = protocol()
    assert client.beat_due_ms == PING_INTERVAL_MS
    assert client.beat(PING_INTERVAL_MS) is Beat.PING
    client.heard(PING_INTERVAL_MS + 5)
    assert client.beat_due_ms == 2 * PING_INTERVAL_MS
    assert client.beat(2 * PING_INTERVAL_MS) is Beat.PING
    assert client.beat(3 * PING_INTERVAL_MS) is Beat.DEAD


@given(st.lists(st.text(max_size=300), max_size=400), st.lists(st.text(max_size=300), max_size=50))
def test_portions_hold_every_user_and_stay_short(add: list[str], drop: list[str]) -> None:
    add, drop = [f"{user}{index}" for index, user in enumerate(add)], [f"d{user}" for user in drop]
    portions = list(watch_portions(add, drop))
    read = [decode_watch(data) for data in portions]
    assert [user for request in read for user in request.subscribe] == add
    assert [user for request in read for user in request.unsubscribe] == drop
    assert all(portions)
    assert all(len(data) <= MAX_REQUEST_BYTES for data in portions)


def test_a_refusal_is_read_from_its_body() -> None:
    error = refusal(refusal_body(TokenExpired("it ended yesterday")))
    assert error is not None
    assert (error.code, error.name, error.detail, error.final) == (
        1501,
        "TokenExpiredError",
        "it ended yesterday",
        True,
    )
    assert str(error) == "it ended yesterday (TokenExpiredError 1501)"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"1", b'{"errCode":"x","errMsg":""}', b'{"errCode":1}', b"\xff"]
)
def test_another_body_is_no_refusal(body: bytes) -> None:
    assert refusal(body) is None


@pytest.mark.parametrize(("code", "final"), [(1500, False), (1501, True), (1507, True), (1508, False), (1601, False)])
def test_only_token_errors_are_final(code: int, *, final: bool) -> None:
    assert ServerError(code, "", "").final is final
