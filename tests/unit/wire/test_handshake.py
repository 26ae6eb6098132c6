import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.errors import ConnectionArgumentError, TokenExpired
from adsum.domain.platforms import parse_platforms
from adsum.wire import handshake
from adsum.wire.frames import Codec
from adsum.wire.handshake import (
    SUCCESS_BODY,
    Handshake,
    build_query,
    parse_handshake,
    refusal_body,
    wants_text_outcome,
)
from tests.unit.wire import strategies, vectors

PLATFORMS = parse_platforms(["openim"])
PLAIN = "sendID=u1&token=t&platformID=5&operationID=op&isBackground=false"
FULL = {
    "token": "t",
    "userID": "u1",
    "platformID": 5,
    "operationID": "op",
    "compression": "gzip",
    "sdkType": "js",
    "sendResponse": True,
    "background": True,
    "sdkVersion": "v3",
}


def parse(query: str, **headers: str) -> Handshake:
    return parse_handshake(query, headers, PLATFORMS)


def packed(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return "v=" + base64.urlsafe_b64encode(text).decode().rstrip("=")


def refused(query: str, **headers: str) -> str:
    with pytest.raises(ConnectionArgumentError) as error:
        parse(query, **headers)
    return error.value.detail


class TestPlainForm:
    def test_all_parameters(self) -> None:
        query = f"{PLAIN}&compression=gzip&sdkType=js&isMsgResp=true&sdkVersion=v3.8.3"
        assert parse(query) == Handshake(
            "u1", "t", 5, "op", gzip=True, sdk_type="js", send_response=True, sdk_version="v3.8.3"
        )

    @pytest.mark.parametrize("name", ["sendID", "token", "platformID", "operationID", "isBackground"])
    def test_a_missing_or_empty_required_parameter_is_named(self, name: str) -> None:
        pairs = dict(pair.split("=") for pair in PLAIN.split("&"))
        assert name in refused("&".join(f"{key}={value}" for key, value in pairs.items() if key != name))
        assert name in refused("&".join(f"{key}={value if key != name else ''}" for key, value in pairs.items()))

    @pytest.mark.parametrize(
        ("text", "value"),
        [(text, True) for text in ("1", "t", "T", "TRUE", "true", "True")]
        + [(text, False) for text in ("0", "f", "F", "FALSE", "false", "False")],
    )
    def test_booleans_of_go(self, text: str, value: bool) -> None:  # noqa: FBT001
        assert parse(f"{PLAIN.removesuffix('false')}{text}").background is value
        assert parse(f"{PLAIN}&isMsgResp={text}").send_response is value

    @pytest.mark.parametrize("text", ["yes", "tRUE", "2", " true", "+1", "-"])
    def test_other_booleans_are_refused(self, text: str) -> None:
        assert "isBackground" in refused(f"{PLAIN.removesuffix('false')}{text}")
        assert "isMsgResp" in refused(f"{PLAIN}&isMsgResp={text}")

    @pytest.mark.parametrize("text", ["5", "%2B5", "005", "0" * 30 + "5"])
    def test_platform_as_go_reads_integers(self, text: str) -> None:
        assert parse(PLAIN.replace("platformID=5", f"platformID={text}")).platform_id == 5

    @pytest.mark.parametrize(
        "text", ["ios", "+5", "5.0", "0x5", "1_0", "\u0665", "", "0", "-5", "12", "62", "9" * 39, "9" * 9999]
    )
    def test_other_platforms_are_refused(self, text: str) -> None:
        assert "platformID" in refused(PLAIN.replace("platformID=5", f"platformID={text}"))

    def test_compression_header_counts_when_the_parameter_is_absent_or_empty(self) -> None:
        assert parse(PLAIN, compression="gzip").gzip
        assert parse(f"{PLAIN}&compression=", compression="gzip").gzip
        assert not parse(f"{PLAIN}&compression=zstd", compression="gzip").gzip
        assert not parse(PLAIN, compression="GZIP").gzip

    @pytest.mark.parametrize("name", ["sendID", "token", "operationID", "platformID", "sdkType", "compression"])
    def test_a_parameter_that_is_not_utf8_is_refused(self, name: str) -> None:
        assert name in refused(f"{name}=%ff&{PLAIN}")

    def test_raw_bytes_that_are_not_utf8_are_refused(self) -> None:
        assert "sendID" in refused(PLAIN.replace("u1", b"\xff".decode("utf-8", "surrogateescape")))
        assert "text" in refused(PLAIN.replace("u1", "\ud800"))

    def test_a_version_is_free_text(self) -> None:
        assert parse(f"{PLAIN}&sdkVersion=%ff").sdk_version == "\ufffd"

    def test_too_many_parameters_are_refused(self) -> None:
        assert "parameters" in refused(PLAIN + "&a=1" * 100)

    @pytest.mark.parametrize("case", vectors.own()["queries"], ids=lambda case: case["raw"])
    def test_queries_are_split_as_go_splits_them(self, case: dict[str, Any]) -> None:
        parsed = handshake._parse_query(case["raw"])
        parsed.pop("", None)
        case["values"].pop("", None)
        raw = {name: value.encode("utf-8", "surrogateescape") for name, value in parsed.items()}
        assert {name: value.hex() for name, value in raw.items()} == case["values"]


class TestPackedForm:
    def test_all_members(self) -> None:
        expected = Handshake(
            "u1", "t", 5, "op", background=True, gzip=True, sdk_type="js", send_response=True, sdk_version="v3"
        )
        assert parse(packed(FULL)) == expected
        assert parse(packed({name.upper(): value for name, value in FULL.items()})) == expected

    @pytest.mark.parametrize("name", ["userID", "token", "platformID", "operationID"])
    def test_a_missing_or_null_required_member_is_named(self, name: str) -> None:
        assert name in refused(packed({key: value for key, value in FULL.items() if key != name}))
        assert name in refused(packed(FULL | {name: None}))

    @pytest.mark.parametrize("name", FULL)
    def test_a_member_of_another_type_is_refused(self, name: str) -> None:
        assert name in refused(packed(FULL | {name: [1]}))
        assert name in refused(packed(FULL | {name: 1.5}))

    def test_it_wins_over_plain_parameters_and_ignores_the_header(self) -> None:
        least = {name: FULL[name] for name in ("token", "userID", "platformID", "operationID")}
        assert parse(f"sendID=other&{packed(least)}", compression="gzip") == Handshake("u1", "t", 5, "op")
        assert parse(f"v=&{PLAIN}").user_id == "u1"

    @pytest.mark.parametrize("text", ["====", "%2B", "/", "A", "AAAAA", "e30=", "%ff", "e+30"])
    def test_anything_but_unpadded_base64url_is_refused(self, text: str) -> None:
        assert "base64url" in refused(f"v={text}")

    def test_line_breaks_in_base64_are_ignored(self) -> None:
        query = packed(FULL)
        assert parse(f"{query[:10]}%0d%0a{query[10:]}%0a") == parse(query)

    @pytest.mark.parametrize("text", [b"hello", b"[]", b"null", b"3", b"{", b"[" * 5000])
    def test_other_json_is_refused(self, text: bytes) -> None:
        refused(packed(text))


class TestOutcome:
    @pytest.mark.parametrize(
        ("query", "wanted"),
        [
            ("isMsgResp=true", True),
            ("isMsgResp=1&sendID=%zz", True),
            ("isMsgResp=yes", False),
            ("isMsgResp=%ff", False),
            ("", False),
            (packed({"sendResponse": True}), True),
            (packed({"SENDRESPONSE": True, "platformID": "bad"}), True),
            (packed({"sendResponse": True, "SendResponse": False}), False),
            (packed({"sendResponse": "true"}), False),
            (f"isMsgResp=true&{packed({})}", False),
            ("v=%&isMsgResp=true", True),
            ("v=====", False),
            (packed(b"[" * 5000), False),
            ("\ud800", False),
        ],
    )
    def test_wish_for_a_text_frame_is_known_for_bad_queries_too(self, query: str, wanted: bool) -> None:  # noqa: FBT001
        assert wants_text_outcome(query) is wanted

    def test_bodies(self) -> None:
        assert json.loads(refusal_body(TokenExpired("log in again"))) == {
            "errCode": 1501,
            "errMsg": "TokenExpiredError",
            "errDlt": "log in again",
        }
        assert json.loads(SUCCESS_BODY) == {"errCode": 0, "errMsg": "", "errDlt": ""}


def test_the_token_is_never_shown() -> None:
    assert "secret" not in repr(parse(PLAIN.replace("token=t", "token=secret")))
    assert "secret" not in refused("token=secret")
    assert "secret" not in refused(packed({"token": "secret"}))
    assert "secret" not in refused(packed(b'{"token":"secret'))


def test_codec() -> None:
    assert parse(f"{PLAIN}&sdkType=js&compression=gzip").codec == Codec("js", gzip=True)


words = strategies.texts.filter(bool)


@given(
    st.builds(
        Handshake,
        words,
        words,
        st.sampled_from(sorted(platform.id for platform in PLATFORMS)),
        words,
        background=st.booleans(),
        gzip=st.booleans(),
        sdk_type=st.sampled_from(["go", "js"]),
        send_response=st.booleans(),
        sdk_version=strategies.texts,
    )
)
def test_what_a_client_builds_a_server_reads(wanted: Handshake) -> None:
    assert parse(build_query(wanted)) == wanted
    assert wants_text_outcome(build_query(wanted)) is wanted.send_response


@given(st.text(st.characters(), max_size=60) | st.binary(max_size=40).map(packed))
def test_any_query_gives_a_handshake_or_a_refusal(query: str) -> None:
    wants_text_outcome(query)
    refused(query)


def test_golden_queries() -> None:
    for case in vectors.golden("queries.json"):
        if not case["ok"]:
            refused(case["query"], **case.get("header", {}))
            continue
        parsed = parse(case["query"], **case.get("header", {}))
        assert {
            "background": parsed.background,
            "gzip": parsed.gzip,
            "operationID": parsed.operation_id,
            "platformID": parsed.platform_id,
            "sdkType": parsed.sdk_type,
            "sdkVersion": parsed.sdk_version,
            "sendResponse": parsed.send_response,
            "token": parsed.token,
            "userID": parsed.user_id,
        } == case["decoded"], case["name"]
