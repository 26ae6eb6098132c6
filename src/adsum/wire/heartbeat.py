"""Heartbeats in text frames: `{"type":"ping"}` and `{"type":"pong"}`.

Browsers cannot send WebSocket pings, so OpenIM has its own in text frames; a
`body` of a ping comes back in the pong. Text frames carry nothing else.

Invariant: what is sent back is valid JSON in UTF-8.
"""

import msgspec

from adsum.domain.errors import DataError, FrameError
from adsum.wire import gojson

PING = b'{"type":"ping"}'
PONG = b'{"type":"pong"}'

_raw_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def answer_heartbeat(frame: bytes | str) -> bytes | None:
    """The text frame that answers this one, or `None` if none is due.

    Raises `FrameError` if the frame is no heartbeat.
    """
    data = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
    if data == PING:
        return PONG
    kind, has_body = _read(data)
    if kind == "pong":
        return None
    if kind != "ping":
        raise FrameError(f"a text frame must be a ping or a pong, not of type {kind[:40]!r}")
    return b'{"type":"pong","body":%b}' % _raw_body(data) if has_body else PONG


def _read(data: bytes) -> tuple[str, bool]:
    kind, has_body = "", False
    try:
        data.decode()
        for key, value in gojson.read_members(data):
            if key == "type" and value is not None:
                kind = gojson.as_text(value, "type")
            elif key == "body":
                has_body = True
    except UnicodeDecodeError:
        raise FrameError("a text frame is not valid UTF-8") from None
    except DataError as error:
        raise FrameError(f"a text frame must be a heartbeat: {error.detail}") from None
    return kind, has_body


def _raw_body(data: bytes) -> bytes:
    """The bytes of `body` in a JSON object that is known to be valid and to have one."""
    try:
        members = _raw_members(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # Unlike Go's parser, this one refuses lone surrogates: they are no text.
        raise FrameError("the body of a ping cannot be sent back: it is not text throughout, or too deep") from None
    return next(bytes(raw) for key, raw in reversed(members.items()) if key.lower() == "body")
