import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adsum.domain.errors import FrameError
from adsum.wire import jsonframe
from adsum.wire.messages import Request, Response
from tests.unit.wire import strategies, vectors


def outcome(data: bytes) -> dict[str, Any] | None:
    try:
        return vectors.shown(jsonframe.decode_request(data))
    except FrameError:
        return None


def exact(data: bytes) -> dict[str, Any] | None:
    try:
        return vectors.shown(jsonframe.decode_request_exactly(data))
    except FrameError:
        return None


def exact_response(data: bytes) -> Response | None:
    try:
        return jsonframe.decode_response_exactly(data)
    except FrameError:
        return None


# Texts near the border between the two paths: names in other cases, numbers and base64 of all kinds.
json_names = st.sampled_from(
    [
        "reqIdentifier",
        "token",
        "sendID",
        "operationID",
        "msgIncr",
        "data",
        "errCode",
        "errMsg",
        "SENDID",
        "x",
        "da\\u0074a",
    ]
)
json_values = st.sampled_from(
    [
        "0",
        "-0",
        "1",
        "-1",
        "1.0",
        "1e0",
        "1E2",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9223372036854775807",
        "9223372036854775808",
        "01",
        "+1",
        "null",
        "true",
        "false",
        "NaN",
        "Infinity",
        "[]",
        "{}",
        "[1]",
        "[256]",
        "[null]",
        '{"a":[1,{}]}',
        '""',
        '"a"',
        '"AA=="',
        '"AB=="',
        '"AA"',
        '"AA="',
        '"A==="',
        '"=A=="',
        '"AAA="',
        '"-_-_"',
        '"+/+/"',
        '"A\\nA=="',
        '"\\u0041A=="',
        '"\\ud83d"',
        '"\\ud83d\\ude00"',
        '"\\x"',
        '"\\/"',
        '"é"',
        '"\x7f"',
        '"\x01"',
        "1.5",
        "-1e-3",
        "]",
        "}",
        ",",
        ":",
    ]
)
json_objects = st.lists(st.tuples(json_names, json_values), max_size=4).map(
    lambda pairs: ("{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}").encode()
)


class TestVectors:
    def test_bytes_are_judged_as_go_judges_them(self) -> None:
        cases = [case for case in vectors.own()["decode"] if case["codec"] == "json"]
        assert len(cases) > 100
        wrong = [case for case in cases if outcome(vectors.frame_of(case)) != case["fields"]]
        assert wrong == []

    @pytest.mark.parametrize("frame", [f for f in vectors.own()["frames"] if f["codec"] == "json"])
    def test_what_we_encode_is_the_same_json_in_the_same_order(self, frame: dict[str, Any]) -> None:
        data = bytes.fromhex(frame["hex"])
        if frame["struct"].endswith("Req"):
            encoded = jsonframe.encode_request(jsonframe.decode_request(data))
        else:
            encoded = jsonframe.encode_response(jsonframe.decode_response(data))
        theirs, ours = json.loads(data), json.loads(encoded)
        assert ours == theirs | {"data": theirs["data"] or None}
        if frame["struct"] != "GeneralWsResp":
            assert list(ours) == list(theirs)

    def test_golden_frames(self) -> None:
        for frame in vectors.golden("frames.json"):
            if frame["sdkType"] == "js":
                data = bytes.fromhex(frame["hex"])
                request = frame["struct"].endswith("Req")
                message = jsonframe.decode_request(data) if request else jsonframe.decode_response(data)
                assert vectors.shown(message) == vectors.golden_fields(frame["fields"]), frame["name"]

    def test_golden_decode_cases(self) -> None:
        for case in vectors.golden("decode_cases.json"):
            if case["sdkType"] == "js":
                expected = vectors.golden_fields(case["fields"]) if case["ok"] else None
                assert outcome(bytes.fromhex(case["hex"])) == expected, case["name"]


class TestTwoPaths:
    @given(json_objects | st.binary(max_size=40))
    @example(b'{"reqIdentifier":1.0}')
    @example(b'{"data":"AB=="}')
    def test_what_the_fast_path_accepts_is_what_the_exact_one_decodes(self, data: bytes) -> None:
        assert outcome(data) == exact(data)

    @given(json_objects | st.binary(max_size=40))
    @example(b'{"errCode":9223372036854775808}')
    @example(b'{"reqIdentifier":1.0}')
    def test_for_responses_too(self, data: bytes) -> None:
        try:
            response = jsonframe.decode_response(data)
        except FrameError:
            assert exact_response(data) is None
        else:
            assert response == exact_response(data)

    @given(strategies.requests, st.data())
    def test_for_frames_with_changed_bytes(self, request_: Request, data: st.DataObject) -> None:
        frame = bytearray(jsonframe.encode_request(request_)[:400])
        for _ in range(data.draw(st.integers(0, 3))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        assert outcome(bytes(frame)) == exact(bytes(frame))


class TestRoundTrip:
    @given(strategies.requests)
    def test_request(self, request_: Request) -> None:
        assert jsonframe.decode_request(jsonframe.encode_request(request_)) == request_

    @given(strategies.responses)
    def test_response(self, response: Response) -> None:
        assert jsonframe.decode_response(jsonframe.encode_response(response)) == response

    def test_a_lone_surrogate_becomes_a_replacement_character(self) -> None:
        frame = jsonframe.encode_response(Response(2005, msg_incr="\ud800", err_msg="a\udfffb"))
        assert jsonframe.decode_response(frame) == Response(2005, msg_incr="\ufffd", err_msg="a\ufffdb")
        assert jsonframe.decode_request(jsonframe.encode_request(Request(send_id="\udc80"))).send_id == "\ufffd"


def test_an_answer_without_data_has_null_as_openim_has() -> None:
    assert jsonframe.encode_response(Response(2004, "1", "op")) == (
        b'{"reqIdentifier":2004,"msgIncr":"1","operationID":"op","errCode":0,"errMsg":"","data":null}'
    )


@pytest.mark.parametrize("decode", [jsonframe.decode_response, jsonframe.decode_response_exactly])
def test_null_leaves_a_field_of_an_answer_as_it_is(decode: Callable[[bytes], Response]) -> None:
    """As it does in Go."""
    assert decode(b'{"errMsg":null,"ERRCODE":null,"data":null,"x":null,"msgIncr":"1"}') == Response(msg_incr="1")


@pytest.mark.parametrize("end", range(90))
def test_a_cut_off_frame_is_refused(end: int) -> None:
    frame = jsonframe.encode_request(Request(2005, "t", "u1", "op", "1", b"abc"))
    assert outcome(frame[: min(end, len(frame) - 1)]) is None


@pytest.mark.parametrize("text", [b"[", b'{"x":', b'{"x":[', b'[{"x":'])
def test_depth_bombs_are_refused(text: bytes) -> None:
    assert outcome(text * 20_000) is None


def test_a_number_of_many_digits_in_an_unknown_field_costs_nothing() -> None:
    assert jsonframe.decode_request(b'{"x":%b,"sendID":"u"}' % (b"9" * 40_000)).send_id == "u"
