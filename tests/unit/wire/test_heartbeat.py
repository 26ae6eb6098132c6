import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.errors import FrameError
from adsum.wire.heartbeat import PING, PONG, answer_heartbeat

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("frame", [PING, PING.decode(), b' { "type" : "ping" } ', '{"TYPE":"ping","x":[1]}'], ids=repr)
def test_a_ping_gets_a_pong(frame: bytes | str) -> None:
    assert answer_heartbeat(frame) == PONG


@pytest.mark.parametrize("frame", [PONG, PONG.decode(), b'{"body":{},"type":"pong"}'], ids=repr)
def test_a_pong_gets_nothing(frame: bytes | str) -> None:
    assert answer_heartbeat(frame) is None


@given(json_values)
def test_the_body_comes_back(body: object) -> None:
    answer = answer_heartbeat(json.dumps({"type": "ping", "body": body}))
    assert answer is not None
    assert json.loads(answer) == {"type": "pong", "body": body}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"ping",
        b"null",
        b"{}",
        b'{"type":null}',
        b'{"type":1}',
        b'{"type":"Ping"}',
        b'{"type":"text"}',
        b'"ping"',
        b'[{"type":"ping"}]',
        b'{"type":"ping"}{"type":"ping"}',
        b'{"type":"ping","body":}',
        b'{"type":"ping","body":"\\x"}',
        b'{"type":"ping","body":"\xff"}',
        b'{"type":"ping","body":NaN}',
        b'{"type":"ping","body":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        '{"type":"ping","body":"\ud800"}',
        b'{"type":"ping","body":1,"\\ud800":1}',
        b'{"type":"ping","body":"\\ud800"}',
    ],
    ids=range(19),
)
def test_anything_else_is_refused(frame: bytes | str) -> None:
    with pytest.raises(FrameError):
        answer_heartbeat(frame)


def test_a_body_is_not_rewritten() -> None:
    assert answer_heartbeat(b'{"type":"ping","body": [1.0, "\\u0041"] }') == b'{"type":"pong","body":[1.0, "\\u0041"]}'


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda body: b'{"type":"ping","body":%b}' % body))
def test_any_bytes_give_valid_json_or_a_frame_error(frame: bytes) -> None:
    with suppress(FrameError):
        answer = answer_heartbeat(frame)
        assert answer is None or json.loads(answer.decode())["type"] == "pong"
