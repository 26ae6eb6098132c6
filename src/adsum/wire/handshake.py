"""The WebSocket handshake: OpenIM's query string, as a server reads it and a client writes it.

Parameters come either plainly (`sendID=…&token=…`) or as one parameter `v`,
unpadded base64url of a JSON object; `v` wins. Parsing follows Go's net/url,
strconv and encoding/json, on which OpenIM's own gateway rests.

Invariant: a `Handshake` has every required parameter, and its platform is
known; everything else is refused with `ConnectionArgumentError`. No token ever
gets into an error or a repr.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_to_bytes, urlencode

import msgspec

from adsum.domain.errors import AdsumError, ConnectionArgumentError, DataError
from adsum.domain.platforms import PlatformRegistry
from adsum.wire import gojson
from adsum.wire.frames import Codec, codec_of
from adsum.wire.text import scrub, to_utf8

SUCCESS_BODY = b'{"errCode":0,"errMsg":"","errDlt":""}'
"""The text frame that opens a connection which asked for `isMsgResp`."""

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_MAX_PARAMETERS = 100
"""Go takes 10,000; clients send up to a dozen."""


@dataclass(slots=True)
class Handshake:
    """What a client says about itself. `send_response`: it wants the outcome as a text frame."""

    user_id: str
    token: str = field(repr=False)
    platform_id: int
    operation_id: str
    background: bool = False
    gzip: bool = False
    sdk_type: Literal["go", "js"] = "go"
    send_response: bool = False
    sdk_version: str = ""

    @property
    def codec(self) -> Codec:
        """How the binary frames of this connection are written."""
        return codec_of(self.sdk_type, gzip=self.gzip)


def parse_handshake(query: str, headers: Mapping[str, str], platforms: PlatformRegistry) -> Handshake:
    """The handshake in a raw query string (without its `?`).

    `headers` has lower-case keys; only `compression` is read, in the plain form.
    Raises `ConnectionArgumentError` saying which parameter is wrong.
    """
    parameters = _parse_query(query)
    packed = parameters.get("v")
    handshake = _from_json(packed) if packed else _from_parameters(parameters, headers)
    required = (
        ("token", handshake.token),
        ("sendID" if not packed else "userID", handshake.user_id),
        ("operationID", handshake.operation_id),
    )
    for name, value in required:
        if not value:
            raise ConnectionArgumentError(f"{name} is missing")
    if handshake.platform_id not in platforms:
        raise ConnectionArgumentError(f"platformID {handshake.platform_id} is not known here")
    return handshake


def wants_text_outcome(query: str) -> bool:
    """Whether a query, bad as it may be, asks for the outcome as a text frame (`isMsgResp`, `sendResponse`).

    A refusal must then upgrade first, since browsers cannot read a failed upgrade.
    """
    try:
        parameters = _parse_query(query)
        packed = parameters.get("v")
        if not packed:
            return parameters.get("isMsgResp", "") in _TRUE
        wanted = False
        for key, value in gojson.read_members(_unpack(packed)):
            if key == "sendresponse" and isinstance(value, bool):
                wanted = value
    except (ConnectionArgumentError, DataError):
        return False
    return wanted


def build_query(handshake: Handshake) -> str:
    """The plain query string of a handshake, as OpenIM's Go SDK writes it."""
    parameters: dict[str, bytes | str | int] = {
        "sendID": to_utf8(handshake.user_id),
        "token": to_utf8(handshake.token),
        "platformID": handshake.platform_id,
        "operationID": to_utf8(handshake.operation_id),
        "isBackground": "true" if handshake.background else "false",
    }
    if handshake.sdk_version:
        parameters["sdkVersion"] = to_utf8(handshake.sdk_version)
    if handshake.gzip:
        parameters["compression"] = "gzip"
    if handshake.sdk_type != "go":
        parameters["sdkType"] = handshake.sdk_type
    if handshake.send_response:
        parameters["isMsgResp"] = "true"
    return urlencode(parameters)


def refusal_body(error: AdsumError) -> bytes:
    """The JSON that tells a client why it is refused, as an HTTP body or a text frame."""
    return msgspec.json.encode({"errCode": error.code, "errMsg": error.name, "errDlt": error.detail})


def _parse_query(query: str) -> dict[str, str]:
    """The first value of each parameter, bytes that are not UTF-8 escaped as surrogates.

    As in Go, a pair with `;` or a bad escape is as good as absent.
    """
    try:
        raw = query.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ConnectionArgumentError("the query string is not text") from None
    pairs = query.split("&", _MAX_PARAMETERS)
    if len(pairs) > _MAX_PARAMETERS:
        raise ConnectionArgumentError(f"the query string has more than {_MAX_PARAMETERS} parameters")
    # Most queries are IDs and a token, with nothing in them to decode.
    if b"%" in raw or b"+" in raw or b";" in raw:
        sound = [pair for pair in raw.split(b"&") if b";" not in pair and not _BAD_ESCAPE.search(pair)]
        found = [tuple(map(_unescape, pair.partition(b"="))) for pair in sound]
    else:
        found = [pair.partition("=") for pair in pairs]
    # The first of a name comes last here, and stays.
    return {name: value for name, _, value in reversed(found)}


def _unescape(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "surrogateescape")


def _from_parameters(parameters: Mapping[str, str], headers: Mapping[str, str]) -> Handshake:
    def text(name: str) -> str:
        value = parameters.get(name, "")
        if not value.isascii() and value != scrub(value):
            raise ConnectionArgumentError(f"{name} is not valid UTF-8")
        return value

    platform_id = text("platformID")
    if not _INTEGER.fullmatch(platform_id):
        raise ConnectionArgumentError("platformID is missing or not a decimal integer")
    compression = text("compression") or headers.get("compression", "")
    return Handshake(
        user_id=text("sendID"),
        token=text("token"),
        platform_id=int(platform_id),
        operation_id=text("operationID"),
        background=_parse_bool("isBackground", text("isBackground")),
        gzip=compression == "gzip",
        sdk_type=_sdk_type(text("sdkType")),
        send_response=bool(parameters.get("isMsgResp")) and _parse_bool("isMsgResp", text("isMsgResp")),
        sdk_version=scrub(parameters.get("sdkVersion", "")),
    )


def _parse_bool(name: str, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ConnectionArgumentError(f"{name} is missing or neither true nor false")


def _sdk_type(text: str) -> Literal["go", "js"]:
    if text in ("", "go"):
        return "go"
    if text == "js":
        return "js"
    raise ConnectionArgumentError("sdkType is neither go nor js")


def _unpack(packed: str) -> bytes:
    """The bytes of unpadded base64url, which Go reads with line breaks ignored."""
    packed = packed.replace("\r", "").replace("\n", "")
    if len(packed) % 4 == 1 or not _BASE64URL.fullmatch(packed):
        raise ConnectionArgumentError("v is not unpadded base64url")
    return binascii.a2b_base64(packed.translate(_TO_STANDARD) + "=" * (-len(packed) % 4))


_TO_STANDARD = str.maketrans("-_", "+/")
_JSON_TEXTS = {
    "token": "token",
    "userid": "userID",
    "operationid": "operationID",
    "compression": "compression",
    "sdktype": "sdkType",
    "sdkversion": "sdkVersion",
}
_JSON_BOOLS = {"sendresponse": "sendResponse", "background": "background"}


def _from_json(packed: str) -> Handshake:
    content = _unpack(packed)
    texts = dict.fromkeys(_JSON_TEXTS, "")
    bools = dict.fromkeys(_JSON_BOOLS, False)
    platform_id = 0
    try:
        for key, value in gojson.read_members(content):
            if value is None:
                continue
            if key in texts:
                texts[key] = gojson.as_text(value, _JSON_TEXTS[key])
            elif key in bools:
                bools[key] = gojson.as_bool(value, _JSON_BOOLS[key])
            elif key == "platformid":
                platform_id = gojson.as_int(value, "platformID", 64)
    except DataError as error:
        raise ConnectionArgumentError(f"v does not decode: {error.detail}") from None
    return Handshake(
        user_id=texts["userid"],
        token=texts["token"],
        platform_id=platform_id,
        operation_id=texts["operationid"],
        background=bools["background"],
        gzip=texts["compression"] == "gzip",
        sdk_type=_sdk_type(texts["sdktype"]),
        send_response=bools["sendresponse"],
        sdk_version=texts["sdkversion"],
    )
