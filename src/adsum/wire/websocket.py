"""WebSocket frames (RFC 6455) between bytes and messages, for either end; no extension is ever agreed.

Invariant: a reader gives whole messages and control frames in the order sent, and
only what the RFC allows: text and the words of a goodbye are UTF-8, lengths are
within the limits, codes are those that may be sent. At the first violation it
raises, and after that, or after a goodbye, it reads nothing more. It keeps bytes
only while a frame or a fragmented message is incomplete, and never more than one
message of them: a length is judged before its bytes come.
"""

from collections.abc import Iterator
from typing import Final

from adsum.domain.errors import FrameError
from adsum.wire.compression import MESSAGE_TOO_BIG

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NO_CODE: Final = 1005
"""What stands for a goodbye without a code; never on the wire (section 7.1.5)."""

PROTOCOL_ERROR: Final = 1002
INVALID_DATA: Final = 1007

MAX_CONTROL_BYTES: Final = 125

_FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_IS_CONTROL: Final = 0x8
_WHOLE_BINARY: Final = _FIN | BINARY
"""How nearly every frame begins: it is worth a short cut."""

FRAGMENT: Final = (CONTINUATION, b"")
"""What a fragment completes with which a message does not end: nothing."""

_NEVER_SENT: Final = frozenset({1004, 1005, 1006})
"""Codes below 1015 that no frame may have (section 7.4.1)."""


class FrameReader:
    """Reads the frames of the other end: of a client (`masked`) or a server. Messages have at most `max_bytes`."""

    __slots__ = ("_ended", "_kind", "_masked", "_max_bytes", "_need", "_parts", "_rest")

    def __init__(self, max_bytes: int, *, masked: bool) -> None:
        self._max_bytes = max_bytes
        self._masked = masked
        self._rest: bytearray | None = None
        self._need = 0
        self._parts: bytearray | None = None
        self._kind = CONTINUATION
        self._ended = False

    @property
    def kept_bytes(self) -> int:
        """Of a frame or a message that is not complete."""
        return len(self._rest or b"") + len(self._parts or b"")

    def binary(self, data: bytes) -> bytes | None:
        """The payload if these bytes are what nearly all reads bring: one masked binary message of under 64 KiB.

        None for anything else, which is for `feed` then: nothing has been read.
        """
        size = len(data)
        if size <= 8 or data[0] != _WHOLE_BINARY:
            return None
        second = data[1]
        if second < _MASKED | 126:
            body = 6 if second == size - 6 + _MASKED else 0
        else:
            body = 8 if second == _MASKED | 126 and (data[2] << 8 | data[3]) == size - 8 else 0
        between = self._masked and self._rest is None and self._parts is None and not self._ended
        if not body or not between or size - body > self._max_bytes:
            return None
        return _xor(data[body:], data[body - 4 : body])

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """What is complete with these bytes: opcodes (TEXT, BINARY, CLOSE, PING, PONG) and payloads.

        A fragment with more to come is `FRAGMENT`, so that who reads may rest between any two frames.
        Read it to its end, before anything else is fed. Raises `FrameError`, with the code to close with,
        after all that came before the violation.
        """
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data, self._rest = bytes(self._rest), None
        at = 0
        while at < len(data) and not self._ended:
            try:
                first, body, size = self._head(data, at)
                end = body + size
                if end > len(data):
                    self._keep(data, at, end)
                    return
                payload = data[body:end]
                if self._masked:
                    payload = _xor(payload, data[body - 4 : body])
                message = (BINARY, payload) if first == _WHOLE_BINARY else self._take(first, payload)
            except FrameError:
                self._ended = True
                raise
            at = end
            yield message

    def _head(self, data: bytes, at: int) -> tuple[int, int, int]:
        """A frame's first byte, where its payload begins, and its length there.

        If the head is incomplete, the payload begins beyond the data, as far as is known.
        """
        if len(data) - at < 2:
            return 0, at + 2, 0
        first, second = data[at], data[at + 1]
        size = second & 0x7F
        if first != _WHOLE_BINARY or self._parts is not None or second >> 7 != self._masked:
            self._check_head(first, second, size)
        body = at + 2
        if size > MAX_CONTROL_BYTES:
            body += 2 if size == 126 else 8
            if len(data) < body:
                return first, body, 0
            size = int.from_bytes(data[at + 2 : body])
            if size >> 63:
                raise FrameError("a frame's length has its highest bit set", PROTOCOL_ERROR)
        if not first & _IS_CONTROL and size + len(self._parts or b"") > self._max_bytes:
            self._parts = None
            raise FrameError(f"the message is longer than {self._max_bytes} bytes", MESSAGE_TOO_BIG)
        return first, body + 4 if self._masked else body, size

    def _check_head(self, first: int, second: int, size: int) -> None:
        if first & _RESERVED:
            raise FrameError("reserved bits are set, but no extension was agreed", PROTOCOL_ERROR)
        if second >> 7 != self._masked:
            raise FrameError("a client's frames must be masked, and a server's must not", PROTOCOL_ERROR)
        opcode = first & 0xF
        if opcode & _IS_CONTROL:
            if opcode > PONG:
                raise FrameError(f"frames of type {opcode} do not exist", PROTOCOL_ERROR)
            if not first & _FIN or size > MAX_CONTROL_BYTES:
                raise FrameError("a control frame is in fragments or too long", PROTOCOL_ERROR)
        elif opcode > BINARY:
            raise FrameError(f"frames of type {opcode} do not exist", PROTOCOL_ERROR)
        elif (opcode == CONTINUATION) is (self._parts is None):
            raise FrameError("a fragmented message is out of order", PROTOCOL_ERROR)

    def _keep(self, data: bytes, at: int, end: int) -> None:
        """Keep an incomplete frame; there is nothing to look at before `end` is there."""
        self._rest = bytearray(data[at:])
        self._need = end - at

    def _take(self, first: int, payload: bytes) -> tuple[int, bytes]:
        """What a frame completes."""
        opcode = first & 0xF
        if opcode & _IS_CONTROL:
            if opcode == CLOSE:
                _check_goodbye(payload)
                self._ended = True
            return opcode, payload
        if not first & _FIN or self._parts is not None:
            if self._parts is None:
                self._parts, self._kind = bytearray(), opcode
            self._parts += payload
            if not first & _FIN:
                return FRAGMENT
            opcode, payload, self._parts = self._kind, bytes(self._parts), None
        if opcode == TEXT:
            _check_text(payload)
        return opcode, payload


def goodbye_code(payload: bytes) -> int:
    """The code in the payload of a close frame; `NO_CODE` if there is none."""
    return int.from_bytes(payload[:2]) if payload else NO_CODE


def goodbye_reason(payload: bytes) -> str:
    """The words in the payload of a close frame that was read."""
    return payload[2:].decode()


def goodbye(code: int, reason: str = "") -> bytes:
    """The payload of a close frame, its words shortened to what one has room for."""
    words = reason.encode()[: MAX_CONTROL_BYTES - 2].decode("utf-8", "ignore")
    return code.to_bytes(2) + words.encode()


def server_frame(opcode: int, payload: bytes) -> bytes:
    """A whole message or control frame as a server sends it."""
    size = len(payload)
    if size <= MAX_CONTROL_BYTES:
        return b"%c%c%b" % (_FIN | opcode, size, payload)
    if size < 65_536:
        return b"%c~%c%c%b" % (_FIN | opcode, size >> 8, size & 0xFF, payload)
    return _start(opcode, size, 0) + payload


def client_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """A whole message or control frame as a client sends it; `mask` are four random bytes."""
    return _start(opcode, len(payload), _MASKED) + mask + _xor(payload, mask)


def _start(opcode: int, size: int, masked: int) -> bytes:
    first = _FIN | opcode
    if size <= MAX_CONTROL_BYTES:
        return (first << 8 | masked | size).to_bytes(2)
    if size < 65_536:
        return (first << 24 | (masked | 126) << 16 | size).to_bytes(4)
    return (first << 72 | (masked | 127) << 64 | size).to_bytes(10)


def _xor(payload: bytes, mask: bytes) -> bytes:
    """The payload with the mask repeated over it, as one long integer: 1 µs for 60 bytes, 4.5 µs for 1,000."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)


def _check_goodbye(payload: bytes) -> None:
    code = goodbye_code(payload)
    if not payload:
        return
    if len(payload) == 1 or not (1000 <= code < 1015 or 3000 <= code < 5000) or code in _NEVER_SENT:
        raise FrameError("a goodbye has a code that may not be sent", PROTOCOL_ERROR)
    _check_text(payload[2:])


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise FrameError("a text is not valid UTF-8", INVALID_DATA) from None
