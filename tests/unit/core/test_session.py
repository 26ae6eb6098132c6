"""What a request asks for."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.core.session import Answer, Background, Logout, Watch, check_watch, interpret
from adsum.domain.errors import AdsumError, ArgumentError, DataError, FrameError, NotServed
from adsum.domain.presence import Cause
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import encode_background, encode_watch
from tests.support.sessions import make_session


def ask(op: int, data: bytes = b"", send_id: str = "me") -> Request:
    return Request(op, "", send_id, "operation", "1", data)


def test_the_newest_sequence_is_answered_with_nothing() -> None:
    """Clients ask it after every connect and wait for the answer; there are no messages to number."""
    assert interpret(ask(Op.NEWEST_SEQ, b"anything"), "me") == Answer()


def test_background_is_noted() -> None:
    """2004 says whether the app is in the background."""
    assert interpret(ask(Op.BACKGROUND, encode_background("me", background=True)), "me") == Background(background=True)
    assert interpret(ask(Op.BACKGROUND), "me") == Background(background=False)


def test_logout() -> None:
    """2003 ends the connection in peace."""
    assert interpret(ask(Op.LOGOUT), "me") == Logout()


def test_watching_names_each_user_once() -> None:
    """2005 starts and ends watching; a user named twice counts once, in the order first named."""
    command = interpret(ask(Op.WATCH, encode_watch(["b", "a", "b"], ["c", "c"])), "me")
    assert command == Watch(("b", "a"), ("c",))


@pytest.mark.parametrize("op", range(1002, 1008))
def test_message_operations_are_not_served(op: int) -> None:
    """They are answered with an error, which does not end the connection."""
    with pytest.raises(NotServed) as caught:
        interpret(ask(op), "me")
    assert not isinstance(caught.value, FrameError)


@pytest.mark.parametrize("op", [0, -1, 1000, 1008, 2001, 2002, 2006, 3001, 2**31 - 1])
def test_an_unknown_operation_ends_the_connection(op: int) -> None:
    """As in OpenIM; what only a server sends is unknown too."""
    with pytest.raises(FrameError) as caught:
        interpret(ask(op), "me")
    assert caught.value.close_code == 1008


@pytest.mark.parametrize("send_id", ["", "you", "ME", "me "])
def test_a_foreign_sender_ends_the_connection(send_id: str) -> None:
    """A connection speaks for its user only."""
    with pytest.raises(FrameError) as caught:
        interpret(ask(Op.NEWEST_SEQ, send_id=send_id), "me")
    assert caught.value.close_code == 1008


@pytest.mark.parametrize("op", [Op.WATCH, Op.BACKGROUND])
def test_data_that_does_not_decode_is_answered_not_closed_on(op: int) -> None:
    """A bad payload is the fault of one request."""
    with pytest.raises(DataError) as caught:
        interpret(ask(op, b"\xff\xff\xff"), "me")
    assert not isinstance(caught.value, FrameError)


@given(st.integers(-(2**31), 2**31 - 1) | st.sampled_from(Op), st.binary(max_size=60))
def test_any_request_is_a_command_or_one_of_our_errors(op: int, data: bytes) -> None:
    """Nothing a client can send raises anything else."""
    with suppress(AdsumError):
        interpret(ask(op, data), "me")


def test_a_request_to_watch_is_within_its_limits() -> None:
    """Empty and over-long IDs are refused, lengths counted in UTF-8, and too many users."""
    check_watch(Watch(("ü" * 4,), ()), 10, most=10, max_user_id_bytes=8)
    with pytest.raises(ArgumentError, match="empty"):
        check_watch(Watch(("a", ""), ()), 2, most=10, max_user_id_bytes=8)
    with pytest.raises(ArgumentError, match="longer than 8 bytes"):
        check_watch(Watch(("ü" * 4 + "x",), ()), 1, most=10, max_user_id_bytes=8)
    with pytest.raises(ArgumentError, match="10 users"):
        check_watch(Watch(("a",), ()), 11, most=10, max_user_id_bytes=8)


def test_ending_to_watch_is_never_refused() -> None:
    """Whatever is named, it is watched no longer."""
    check_watch(Watch((), ("", "x" * 1_000)), 0, most=10, max_user_id_bytes=8)


def test_a_session_is_a_cause() -> None:
    """A write tells the connection that led to it and whether its app was in the background just then."""
    session = make_session("u")
    assert session.cause == Cause(session.conn_id, background=False)
    session.background = True
    assert session.cause == Cause(session.conn_id, background=True)
