import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.errors import ArgumentError, FrameError
from adsum.wire import gob
from adsum.wire.gobtypes import MAX_STEPS
from adsum.wire.messages import Request, Response
from tests.unit.wire import strategies, vectors

REQUEST = gob.encode_request(Request(2005, "token", "u1", "op", "u1_1_1", b"\x0a\x02u2"))
HEAD = gob.encode_request(Request())[:-4]  # the definition without a value


def uint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes((0x100 - len(raw),)) + raw


def sint(value: int) -> bytes:
    return uint(~value << 1 | 1 if value < 0 else value << 1)


def counted(raw: bytes) -> bytes:
    return uint(len(raw)) + raw


def head(name: bytes = b"T") -> bytes:
    """The name and number that open every definition."""
    return b"\x01\x01" + counted(name) + b"\x01" + sint(64) + b"\x00"


def struct(type_id: int, *fields: tuple[bytes, int]) -> bytes:
    listed = b"".join(b"\x01" + counted(name) + b"\x01" + sint(kind) + b"\x00" for name, kind in fields)
    return counted(sint(-type_id) + b"\x03" + head() + b"\x01" + uint(len(fields)) + listed + b"\x00\x00")


def array(type_id: int, element: int, length: int) -> bytes:
    return counted(sint(-type_id) + b"\x01" + head() + b"\x01" + sint(element) + b"\x01" + sint(length) + b"\x00\x00")


def slice_(type_id: int, element: int) -> bytes:
    return counted(sint(-type_id) + b"\x02" + head() + b"\x01" + sint(element) + b"\x00\x00")


def map_(type_id: int, key: int, element: int) -> bytes:
    return counted(sint(-type_id) + b"\x04" + head() + b"\x01" + sint(key) + b"\x01" + sint(element) + b"\x00\x00")


def value(type_id: int, content: bytes) -> bytes:
    return counted(sint(type_id) + content)


SEND_ID = (b"SendID", 6)


def outcome(data: bytes) -> dict[str, Any] | None:
    try:
        return vectors.shown(gob.decode_request(data))
    except FrameError:
        return None


def exact(data: bytes) -> list[Any] | None:
    try:
        return list(gob._REQUESTS.decode_exactly(data))
    except FrameError:
        return None


class TestVectors:
    @pytest.mark.parametrize("frame", [f for f in vectors.own()["frames"] if f["codec"] == "gob" and "fields" in f])
    def test_every_frame_of_go_decodes_and_ours_are_the_same_bytes(self, frame: dict[str, Any]) -> None:
        data = bytes.fromhex(frame["hex"])
        message: Request | Response
        if frame["struct"].endswith("Req"):
            message = gob.decode_request(data)
            encoded = gob.encode_request(message)
        else:
            message = gob.decode_response(data)
            encoded = gob.encode_response(message)
        expected = frame["fields"]
        if "\ufffd" in json.dumps(expected, ensure_ascii=False):
            return  # not UTF-8 in Go, so it cannot be written again
        assert vectors.shown(message) == expected
        if frame["struct"] in ("GeneralWsReq", "Resp"):
            assert encoded == data

    def test_bytes_are_judged_as_go_judges_them(self) -> None:
        cases = [case for case in vectors.own()["decode"] if case["codec"] == "gob"]
        assert len(cases) > 100
        wrong = [case for case in cases if outcome(vectors.frame_of(case)) != case["fields"]]
        assert wrong == []

    def test_nil_interfaces_in_a_skipped_field_do_no_harm(self) -> None:
        # Go's encoder writes them, as the format allows; its decoder fails to step over them.
        frame = next(f for f in vectors.own()["frames"] if f["struct"] == "NilInterfaces")
        assert gob.decode_request(bytes.fromhex(frame["hex"])).token == "nil interfaces"

    def test_golden_frames(self) -> None:
        for frame in vectors.golden("frames.json"):
            if frame["sdkType"] != "go":
                continue
            data = bytes.fromhex(frame["hex"])
            request = frame["struct"].endswith("Req")
            message = gob.decode_request(data) if request else gob.decode_response(data)
            assert vectors.shown(message) == vectors.golden_fields(frame["fields"]), frame["name"]
            if frame["gob_type_id"] == 64 and frame["struct"] == "Resp":
                assert isinstance(message, Response)
                assert gob.encode_response(message) == data
            if frame["gob_type_id"] == 64 and frame["struct"] == "GeneralWsReq":
                assert isinstance(message, Request)
                assert gob.encode_request(message) == data

    def test_golden_decode_cases(self) -> None:
        for case in vectors.golden("decode_cases.json"):
            if case["sdkType"] == "go":
                expected = vectors.golden_fields(case["fields"]) if case["ok"] else None
                assert outcome(bytes.fromhex(case["hex"])) == expected, case["name"]


class TestRoundTrip:
    @given(strategies.requests)
    def test_request(self, request_: Request) -> None:
        assert gob.decode_request(gob.encode_request(request_)) == request_

    @given(strategies.responses)
    def test_response(self, response: Response) -> None:
        assert gob.decode_response(gob.encode_response(response)) == response

    @given(strategies.requests, st.binary(max_size=20))
    def test_bytes_after_the_value_are_ignored(self, request_: Request, rest: bytes) -> None:
        assert gob.decode_request(gob.encode_request(request_) + rest) == request_

    def test_a_lone_surrogate_becomes_a_replacement_character(self) -> None:
        frame = gob.encode_response(Response(err_msg="a\ud800b"))
        assert gob.decode_response(frame).err_msg == "a\ufffdb"

    @pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
    def test_an_integer_over_64_bits_is_refused(self, number: int) -> None:
        with pytest.raises(ArgumentError):
            gob.encode_response(Response(err_code=number))


class TestHostile:
    @given(st.binary(max_size=200))
    def test_any_bytes_give_a_message_or_a_frame_error(self, data: bytes) -> None:
        outcome(data)

    @given(st.binary(max_size=60))
    def test_any_value_after_a_good_definition(self, content: bytes) -> None:
        data = HEAD + value(64, content)
        assert outcome(data) is None or exact(data) is not None

    @pytest.mark.parametrize("end", range(len(REQUEST)))
    def test_a_cut_off_frame_is_refused(self, end: int) -> None:
        assert outcome(REQUEST[:end]) is None

    @given(st.data())
    def test_the_quick_path_never_disagrees_with_the_exact_one(self, data: st.DataObject) -> None:
        frame = bytearray(gob.encode_request(data.draw(strategies.requests)))
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, min(len(frame), 200) - 1))
            frame[at] = data.draw(st.integers(0, 255))
        try:
            quick = gob._REQUESTS.decode_usual(bytes(frame))
        except gob._UNUSUAL:
            return
        assert quick == exact(bytes(frame))

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"\xf8" + b"\xff" * 8, id="message of 2**64 bytes"),
            pytest.param(b"\xf7" + b"\x00" * 8 + b"\x01", id="integer of nine bytes"),
            pytest.param(b"\x80" * 300, id="integers of 128 bytes"),
            pytest.param(b"\x00" * 1000, id="empty messages"),
            pytest.param(value(64, b"\x00"), id="undefined type"),
            pytest.param(value(0, b"\x00"), id="type zero"),
            pytest.param(value(2**40, b"\x00"), id="enormous type number"),
            pytest.param(struct(-64, SEND_ID) + value(64, b"\x00"), id="type number not below zero"),
            pytest.param(struct(2**31, SEND_ID) + value(2**31, b"\x00"), id="type number over 31 bits"),
            pytest.param(struct(20, SEND_ID) + value(20, b"\x00"), id="reserved type number"),
            pytest.param(struct(64, SEND_ID) * 2 + value(64, b"\x00"), id="defined twice"),
            pytest.param(counted(sint(-64) + b"\x00") + value(64, b"\x00"), id="defined as nothing"),
            pytest.param(counted(sint(-64) + b"\x08\x00") + value(64, b"\x00"), id="defined as an unknown kind"),
            pytest.param(counted(struct(64, SEND_ID)[1:] + b"\x00") + value(64, b"\x00"), id="more after a definition"),
            pytest.param(struct(64, (b"", 2), SEND_ID) + value(64, b"\x00"), id="field without a name"),
            pytest.param(struct(64, SEND_ID, (b"X", 65)) + value(64, b"\x00"), id="undefined type of a field"),
            pytest.param(struct(64, SEND_ID, (b"X", 17)) + value(64, b"\x00"), id="reserved type of a field"),
            pytest.param(struct(64, SEND_ID) + value(64, b"\x02\x01a\x00"), id="field number over the type's"),
            pytest.param(struct(64, SEND_ID) + value(64, b"\xf8" + b"\xff" * 8), id="enormous field number"),
            pytest.param(struct(64, SEND_ID) + value(64, b"\x01\xf8" + b"\xff" * 8), id="enormous text"),
            pytest.param(
                counted(sint(-64) + b"\x03" + head() + b"\x01\xfc\x7f\xff\xff\xff\x00\x00"), id="enormous field count"
            ),
            pytest.param(
                struct(64, SEND_ID, (b"X", 65)) + slice_(65, 2) + value(64, b"\x02\xfc\x7f\xff\xff\xff"),
                id="enormous slice",
            ),
            pytest.param(
                struct(64, SEND_ID, (b"X", 65)) + map_(65, 2, 2) + value(64, b"\x02\xfc\x7f\xff\xff\xff"),
                id="enormous map",
            ),
            pytest.param(
                struct(64, SEND_ID, (b"X", 65)) + array(65, 2, 2**60) + value(64, b"\x02" + uint(2**60)),
                id="enormous array",
            ),
            pytest.param(
                struct(64, SEND_ID, (b"X", 65)) + array(65, 2, -1) + value(64, b"\x02" + uint(2**64 - 1)),
                id="array of negative length",
            ),
            pytest.param(
                struct(64, SEND_ID, (b"X", 65)) + array(65, 2, 3) + value(64, b"\x02\x02\x02\x02\x00"),
                id="array of another length",
            ),
        ],
    )
    def test_lies_are_refused(self, data: bytes) -> None:
        assert outcome(data) is None

    def test_a_type_made_of_itself_and_nothing_else_is_refused_when_the_value_ends(self) -> None:
        types = struct(64, SEND_ID, (b"X", 65)) + slice_(65, 65)
        assert outcome(types + value(64, b"\x02" + b"\x01" * 500)) is None
        assert outcome(types + value(64, b"\x02" + b"\x01" * 500 + b"\x00\x00")) is not None

    def test_nesting_is_bounded(self) -> None:
        types = struct(64, SEND_ID, (b"X", 65)) + slice_(65, 65)
        assert outcome(types + value(64, b"\x02" + b"\x01" * MAX_STEPS + b"\x00\x00")) is None

    def test_the_elements_that_nobody_wants_are_bounded(self) -> None:
        """194 bytes of gzip were 50,700 of them, and 17 ms."""
        types = struct(64, SEND_ID, (b"X", 65)) + slice_(65, 66) + struct(66)

        def elements(count: int) -> bytes:
            return types + value(64, b"\x01\x01a\x01" + uint(count) + b"\x00" * count + b"\x00")

        assert outcome(elements(MAX_STEPS - 10)) is not None
        with pytest.raises(FrameError, match="send only the request's fields"):
            gob.decode_request(elements(50_700))

    def test_definitions_are_bounded(self) -> None:
        end = value(64, b"\x01\x01a\x00")
        assert outcome(struct(64, SEND_ID, *[(b"X", 2)] * (MAX_STEPS - 2)) + end) is not None
        assert outcome(struct(64, SEND_ID, *[(b"X", 2)] * MAX_STEPS) + end) is None
        assert outcome(b"\x02\xff\x81" * 20_000 + end) is None

    def test_a_long_chain_of_types_is_no_recursion(self) -> None:
        chain = b"".join(slice_(type_id, type_id + 1) for type_id in range(65, 300)) + slice_(300, 2)
        assert outcome(struct(64, SEND_ID, (b"X", 65)) + chain + value(64, b"\x01\x01a\x00")) is not None

    def test_structs_of_nothing_cannot_be_asked_for_without_end(self) -> None:
        # Each level claims as many elements as it has bytes left: 25,000 times 25,000 steps if the end were free.
        types = struct(64, SEND_ID, (b"X", 66)) + struct(66, (b"M", 67)) + map_(67, 66, 66)
        levels = b"".join(b"\x01" + uint(count) for count in range(40_000, 20_000, -5))
        assert outcome(types + value(64, b"\x02" + levels + b"\x01\x00")) is None

    def test_a_skipped_value_may_end_with_its_message(self) -> None:
        types = struct(64, SEND_ID, (b"X", 65)) + struct(65, (b"Y", 2))
        assert outcome(types + value(64, b"\x01\x01a\x01\x01\x02")) is not None


class TestCache:
    def test_many_types_do_not_grow_it(self) -> None:
        decoder = gob._Decoder("request", gob._REQUEST_FIELDS)
        for type_id in range(64, 64 + 2 * gob.PLANS):
            decoder.decode_exactly(struct(type_id, SEND_ID) + value(type_id, b"\x01\x01a\x00"))
        assert decoder._cached.cache_info().currsize == gob.PLANS

    def test_long_definitions_and_bad_ones_are_not_kept(self) -> None:
        decoder = gob._Decoder("request", gob._REQUEST_FIELDS)
        long = struct(64, SEND_ID, (b"x" * gob.MAX_CACHED_BYTES, 2)) + value(64, b"\x01\x01a\x00")
        assert decoder.decode_exactly(long)[2] == "a"
        with pytest.raises(FrameError):
            decoder.decode_exactly(struct(64, (b"Other", 2)) + value(64, b"\x00"))
        assert decoder._cached.cache_info().currsize == 0


SKIPPED: dict[str, tuple[bytes, bytes, str]] = {
    "more fields than bytes": (
        struct(64, SEND_ID, (b"X", 65)) + counted(sint(-65) + b"\x03" + head() + b"\x01" + uint(100) + b"\x00"),
        b"",
        "claims 100 fields",
    ),
    "a type that is nothing": (struct(64, SEND_ID, (b"X", 65)) + counted(sint(-65) + b"\x00"), b"\x00", "as nothing"),
    "a field that its type does not have": (
        struct(64, SEND_ID, (b"X", 65)) + struct(65, (b"Y", 2)),
        b"\x02\x00",
        "a field that its type does not have",
    ),
    "fewer elements than claimed": (
        struct(64, SEND_ID, (b"X", 65)) + slice_(65, 6),
        b"\x02\x01a",
        "before the elements it claims",
    ),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_is_skipped_must_be_sound_too(name: str) -> None:
    types, content, words = SKIPPED[name]
    with pytest.raises(FrameError, match=words):
        gob.decode_request(types + value(64, b"\x01\x01a\x01" + content))


def test_an_interface_may_define_its_type_where_it_stands() -> None:
    """The value is then preceded by its length once more."""
    inside = counted(b"X") + struct(65, (b"Y", 2))[1:] + uint(3) + sint(65) + counted(b"\x01\x02\x00")
    types = struct(64, (b"I", 8), SEND_ID)
    assert gob.decode_request(types + value(64, b"\x01" + inside + b"\x01\x01a\x00")).send_id == "a"


@pytest.mark.parametrize("op", [2**31, -(2**31) - 1, 2**62])
def test_an_identifier_beyond_32_bits_is_refused(op: int) -> None:
    with pytest.raises(FrameError, match="does not fit 32 bits"):
        gob.decode_request(struct(64, (b"ReqIdentifier", 2)) + value(64, b"\x01" + sint(op) + b"\x00"))
