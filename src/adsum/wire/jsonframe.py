"""The JSON codec of the two messages (`sdkType=js`).

Invariant: decoding accepts and yields exactly what Go's encoding/json would.
A strict parser takes the frames that clients really send; whatever it refuses
is judged again, slowly and by Go's rules (`adsum.wire.gojson`).
"""

import msgspec

from adsum.domain.errors import DataError, FrameError
from adsum.wire import gojson
from adsum.wire.jsonshapes import JsonRequest, JsonResponse
from adsum.wire.messages import Request, Response
from adsum.wire.text import scrub

_fast_request = msgspec.json.Decoder(JsonRequest).decode
_fast_response = msgspec.json.Decoder(JsonResponse).decode
_encode = msgspec.json.Encoder().encode


# Key in lower case -> (attribute, name in errors).
_REQUEST_TEXTS = {
    "token": ("token", "token"),
    "sendid": ("send_id", "sendID"),
    "operationid": ("operation_id", "operationID"),
    "msgincr": ("msg_incr", "msgIncr"),
}
_RESPONSE_INTS = {"reqidentifier": ("op", "reqIdentifier"), "errcode": ("err_code", "errCode")}
_RESPONSE_TEXTS = {
    "msgincr": ("msg_incr", "msgIncr"),
    "operationid": ("operation_id", "operationID"),
    "errmsg": ("err_msg", "errMsg"),
}


def decode_request(data: bytes) -> Request:
    """The request in a JSON frame; raises `FrameError` for what Go would refuse."""
    try:
        fast = _fast_request(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return decode_request_exactly(data)
    return Request(fast.reqIdentifier, fast.token, fast.sendID, fast.operationID, fast.msgIncr, fast.data or b"")


def decode_response(data: bytes) -> Response:
    """The response in a JSON frame, as a client reads it; raises `FrameError`."""
    try:
        fast = _fast_response(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return decode_response_exactly(data)
    return Response(fast.reqIdentifier, fast.msgIncr, fast.operationID, fast.errCode, fast.errMsg, fast.data or b"")


def decode_request_exactly(data: bytes) -> Request:
    """As `decode_request`, by Go's rules alone: the reference for the fast path."""
    request = Request()
    try:
        for key, value in gojson.read_members(data):
            if key == "data":
                request.data = b"" if value is None else gojson.as_bytes(value, "data")
            elif value is None:
                continue
            elif key == "reqidentifier":
                request.op = gojson.as_int(value, "reqIdentifier", 32)
            elif key in _REQUEST_TEXTS:
                attribute, name = _REQUEST_TEXTS[key]
                setattr(request, attribute, gojson.as_text(value, name))
    except DataError as error:
        raise FrameError(error.detail) from None
    return request


def decode_response_exactly(data: bytes) -> Response:
    """As `decode_response`, by Go's rules alone: the reference for the fast path."""
    response = Response()
    try:
        for key, value in gojson.read_members(data):
            if key == "data":
                response.data = b"" if value is None else gojson.as_bytes(value, "data")
            elif value is None:
                continue
            elif key in _RESPONSE_INTS:
                attribute, name = _RESPONSE_INTS[key]
                setattr(response, attribute, gojson.as_int(value, name, 64))
            elif key in _RESPONSE_TEXTS:
                attribute, name = _RESPONSE_TEXTS[key]
                setattr(response, attribute, gojson.as_text(value, name))
    except DataError as error:
        raise FrameError(error.detail) from None
    return response


def encode_response(response: Response) -> bytes:
    """The response's JSON, fields in OpenIM's order; empty data is null, as in OpenIM's answers without data."""
    try:
        return _encode(_to_wire(response))
    except UnicodeEncodeError:
        clean = Response(
            response.op,
            scrub(response.msg_incr),
            scrub(response.operation_id),
            response.err_code,
            scrub(response.err_msg),
            response.data,
        )
        return _encode(_to_wire(clean))


def _to_wire(response: Response) -> JsonResponse:
    return JsonResponse(
        response.op,
        response.msg_incr,
        response.operation_id,
        response.err_code,
        response.err_msg,
        response.data or None,
    )


def encode_request(request: Request) -> bytes:
    """The request's JSON, fields in the SDK's order; empty data is null."""
    return _encode(
        JsonRequest(
            request.op,
            scrub(request.token),
            scrub(request.send_id),
            scrub(request.operation_id),
            scrub(request.msg_incr),
            request.data or None,
        )
    )
