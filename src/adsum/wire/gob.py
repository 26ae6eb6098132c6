"""Go's encoding/gob for the two messages of the wire (`sdkType=go`).

OpenIM uses a fresh encoder for each frame, so a frame is one or more messages
that define types, then one message with the value. The sender's struct name,
type numbers, field order and integer widths differ between SDKs and processes;
all that counts is the definition in the frame itself, matched by field name.

Invariant: a frame is judged as Go's decoder judges it, by its own definitions;
any bytes at all give a message or `FrameError`, in a bounded number of steps. What a
definition compiles to is cached by its bytes: never more than `PLANS` entries per message, never a
definition over `MAX_CACHED_BYTES`, so that a hostile client can neither grow
the cache nor gain by filling it (what it evicts costs one compilation, as much
as the frame that evicted it).
"""

from functools import lru_cache

from adsum.domain.errors import ArgumentError, FrameError
from adsum.wire.gobtypes import (
    BYTES,
    FIRST_DEFINED,
    INT,
    TEXT,
    Definition,
    Message,
    Skip,
    Skipper,
    check_names,
    frame_steps,
    read_bytes,
    read_definition,
    read_int,
    read_type_id,
    read_uint,
    skip_value,
)
from adsum.wire.messages import Request, Response
from adsum.wire.text import to_text, to_utf8

PLANS = 512
"""How many compiled definitions are kept for each message."""

MAX_CACHED_BYTES = 1024
"""Longer definitions are compiled for each frame; the SDKs' take about 100 bytes."""

_CUT_OFF = "the gob frame ends too early, or numbers a field that its type does not have"
_ZEROS: dict[int, int | str | bytes] = {INT: 0, TEXT: "", BYTES: b""}
_WIDEST = 0x100 - 8  # the first byte of an integer of 8 bytes, the most there may be

_BEYOND = (IndexError, OverflowError, ValueError)
"""What an index past the end raises; compiled, one past the machine's integers raises the other two."""

_UNUSUAL = (*_BEYOND, FrameError)
"""Text that is not UTF-8 is a `ValueError` too."""

_Value = int | str | bytes


class _Plan:
    """What to do with each field of a struct type, by field number.

    `slots` are indexes of our fields, or -1 for a field that `skips` steps over.
    """

    __slots__ = ("skips", "slots")

    def __init__(self, slots: list[int], skips: dict[int, Skip]) -> None:
        self.slots = slots
        self.skips = skips


class _Decoder:
    """Decodes frames into the values of one message's fields, as a list in our order.

    `fields` are (Go field name, gob type): integers first, then texts, then bytes.
    """

    def __init__(self, name: str, fields: tuple[tuple[bytes, int], ...]) -> None:
        kinds = [kind for _, kind in fields]
        self._name = name
        self._fields = {field: (kind, slot) for slot, (field, kind) in enumerate(fields)}
        self._blank: list[_Value] = [_ZEROS[kind] for kind in kinds]
        self._first_text = kinds.index(TEXT)
        self._first_bytes = kinds.index(BYTES)
        self._cached = lru_cache(maxsize=PLANS)(self._compile)

    def decode_usual(self, data: bytes) -> list[_Value]:
        """The values in a frame as the SDKs send them: one short definition, nothing to skip, nothing to follow.

        There is hardly a check in the loop. A value that is cut off is noticed
        late: it leaves `pos` past the end, where the next read fails, and only
        reading a zero ends the loop. Raises one of `_UNUSUAL` for any other
        frame, good or bad: that is for `decode_exactly` to tell.
        """
        start = data[0] + 1
        pos = start + 1
        length = data[start]
        if length > 0x7F:
            if length < _WIDEST:
                raise IndexError
            pos += 0x100 - length
            length = int.from_bytes(data[start + 1 : pos], "big")
        if pos + length != len(data) or start > 0x80:
            raise IndexError
        first = data[pos]
        values_at = pos + (1 if first < 0x80 else 0x101 - first)
        slots = self._cached(data[:start], data[pos:values_at]).slots
        pos = values_at
        values = self._blank.copy()
        first_text = self._first_text
        first_bytes = self._first_bytes
        number = -1
        while delta := data[pos]:
            number += delta
            slot = slots[number]
            count = data[pos + 1]
            pos += 2
            if count > 0x7F:
                if count < _WIDEST:
                    raise IndexError
                end = pos + 0x100 - count
                count = int.from_bytes(data[pos:end], "big")
                pos = end
            if slot >= first_text:
                end = pos + count
                values[slot] = data[pos:end].decode() if slot < first_bytes else data[pos:end]
                pos = end
            elif slot >= 0:
                values[slot] = ~(count >> 1) if count & 1 else count >> 1
            else:
                raise IndexError
        return values

    def decode_exactly(self, data: bytes) -> list[_Value]:
        """The values of the first value in `data`, absent fields zero; raises `FrameError`."""
        try:
            message = Message(data)
            id_bytes = _find_value(message)
            plan = self._cached if message.start <= MAX_CACHED_BYTES else self._compile
            return self._read(message, len(id_bytes), plan(data[: message.start], id_bytes))
        except _BEYOND:
            raise FrameError(_CUT_OFF) from None

    def _compile(self, prefix: bytes, id_bytes: bytes) -> _Plan:
        """The plan for values of the type that `id_bytes` encode, defined by the messages in `prefix`."""
        type_id, _ = read_type_id(id_bytes, 0)
        if type_id < FIRST_DEFINED:
            raise FrameError(f"the gob frame has a value of type {type_id}, which is no struct")
        definitions = _read_definitions(prefix)
        definition = definitions.get(type_id)
        if definition is None:
            raise FrameError(f"the gob frame has a value of type {type_id} and does not define it")
        if definition.struct is None:
            raise FrameError("the gob frame has a value that is not a struct")
        check_names(definition.struct)
        skipper = Skipper(definitions)
        slots: list[int] = []
        skips: dict[int, Skip] = {}
        for number, (name, field_type) in enumerate(definition.struct.fields):
            kind, slot = self._fields.get(name, (field_type, -1))
            if field_type != kind:
                raise FrameError(f"field {name.decode()} of the gob frame has type {field_type}, not {kind}")
            slots.append(slot)
            if slot < 0:
                skips[number] = skipper.plan(field_type)
        if slots and max(slots) < 0:
            raise FrameError(f"the gob frame has no field in common with a {self._name}")
        return _Plan(slots, skips)

    def _read(self, message: Message, pos: int, plan: _Plan) -> list[_Value]:
        body = message.body
        values = self._blank.copy()
        number = -1
        # Go takes the end of the message for the end of the struct as well.
        while pos < len(body):
            delta, pos = read_uint(body, pos)
            if not delta:
                break
            number += delta
            slot = plan.slots[number]
            if slot < 0:
                pos = skip_value(message, pos, plan.skips[number])
                body = message.body
            elif slot < self._first_text:
                values[slot], pos = read_int(body, pos)
            else:
                raw, pos = read_bytes(body, pos)
                values[slot] = to_text(raw) if slot < self._first_bytes else raw
        return values


def _find_value(message: Message) -> bytes:
    """Moves on to the message with the first value; the number of its type, as encoded."""
    while True:
        message.advance()
        type_id, pos = read_type_id(message.body, 0)
        if type_id >= 0:
            return message.body[:pos]


def _read_definitions(prefix: bytes) -> dict[int, Definition]:
    definitions: dict[int, Definition] = {}
    steps = frame_steps()
    start = 0
    while start < len(prefix):
        length, body_at = read_uint(prefix, start)
        start = body_at + length
        body = prefix[body_at:start]
        negative_id, pos = read_type_id(body, 0)
        type_id = -negative_id
        if type_id < FIRST_DEFINED or type_id in definitions:
            raise FrameError(f"the gob frame defines type {type_id}, which is taken")
        definitions[type_id], pos = read_definition(body, pos, steps)
        if pos < len(body):
            raise FrameError("a gob type definition is followed by more bytes")
    return definitions


_REQUEST_FIELDS = (
    (b"ReqIdentifier", INT),
    (b"Token", TEXT),
    (b"SendID", TEXT),
    (b"OperationID", TEXT),
    (b"MsgIncr", TEXT),
    (b"Data", BYTES),
)
_RESPONSE_FIELDS = (
    (b"ReqIdentifier", INT),
    (b"MsgIncr", TEXT),
    (b"OperationID", TEXT),
    (b"ErrCode", INT),
    (b"ErrMsg", TEXT),
    (b"Data", BYTES),
)

_REQUESTS = _Decoder("request", _REQUEST_FIELDS)
_RESPONSES = _Decoder("response", tuple(sorted(_RESPONSE_FIELDS, key=lambda item: (INT, TEXT, BYTES).index(item[1]))))


def decode_request(data: bytes) -> Request:
    """The request in a gob frame; bytes after its value are ignored.

    Raises `FrameError` for anything that Go's decoder would refuse for OpenIM's
    request struct, an identifier beyond 32 bits included.
    """
    try:
        values = _REQUESTS.decode_usual(data)
    except _UNUSUAL:
        values = _REQUESTS.decode_exactly(data)
    op, token, send_id, operation_id, msg_incr, content = values
    request = Request(op, token, send_id, operation_id, msg_incr, content)  # type: ignore[arg-type]  # by _REQUEST_FIELDS
    if not -0x80000000 <= request.op <= 0x7FFFFFFF:
        raise FrameError(f"the request identifier {request.op} does not fit 32 bits")
    return request


def decode_response(data: bytes) -> Response:
    """The response in a gob frame, as a client reads it; raises `FrameError`."""
    try:
        values = _RESPONSES.decode_usual(data)
    except _UNUSUAL:
        values = _RESPONSES.decode_exactly(data)
    op, err_code, msg_incr, operation_id, err_msg, content = values
    return Response(op, msg_incr, operation_id, err_code, err_msg, content)  # type: ignore[arg-type]


def _uint(value: int) -> bytes:
    if value < 0x80:
        return value.to_bytes(1, "big")
    width = (value.bit_length() + 7) // 8
    return bytes((0x100 - width,)) + value.to_bytes(width, "big")


@lru_cache(maxsize=1024)
def _int(value: int) -> bytes:
    if not -(2**63) <= value < 2**63:
        raise ArgumentError(f"{value} does not fit a 64-bit integer")
    return _uint(~value << 1 | 1 if value < 0 else value << 1)


def _counted(raw: bytes) -> bytes:
    return _uint(len(raw)) + raw


def _definition(struct_name: bytes, fields: tuple[tuple[bytes, int], ...]) -> bytes:
    """The message that defines a struct under the first free number, as Go's encoder writes it."""
    parts = [_int(-FIRST_DEFINED), b"\x03\x01\x01", _counted(struct_name), b"\x01", _int(FIRST_DEFINED)]
    parts += [b"\x00\x01", _uint(len(fields))]
    for name, kind in fields:
        parts += [b"\x01", _counted(name), b"\x01", _int(kind), b"\x00"]
    return _counted(b"".join(parts) + b"\x00\x00")


_REQUEST_HEAD = _definition(b"GeneralWsReq", _REQUEST_FIELDS)
_RESPONSE_HEAD = _definition(b"Resp", _RESPONSE_FIELDS)
_VALUE_HEAD = _int(FIRST_DEFINED)
_SHORT = [bytes((length,)) for length in range(0x80)]
_GAPS = [bytes((gap,)) for gap in range(8)]
_SHORT_IDS = 110
"""Bytes of two IDs with which an answer's length still takes one byte."""


def _frame(head: bytes, values: tuple[_Value, ...]) -> bytes:
    """The frame of a struct with these field values; zero values are left out, as the format demands."""
    parts = [_VALUE_HEAD]
    add = parts.append
    gap = 1
    for value in values:
        if not value:
            gap += 1
            continue
        add(_GAPS[gap])
        gap = 1
        if isinstance(value, int):
            add(_int(value))
            continue
        raw = value if isinstance(value, bytes) else to_utf8(value)
        size = len(raw)
        add(_SHORT[size] if size < 0x80 else _uint(size))
        add(raw)
    add(b"\x00")
    body = b"".join(parts)
    size = len(body)
    return head + (_SHORT[size] if size < 0x80 else _uint(size)) + body


def encode_response(response: Response) -> bytes:
    """The frame that OpenIM's gateway would send: its struct `Resp` under type number 64."""
    op, incr, op_id = response.op, to_utf8(response.msg_incr), to_utf8(response.operation_id)
    size = len(incr) + len(op_id)
    # What most requests are answered with: success, no data, and two short IDs.
    if size <= _SHORT_IDS and incr and op_id and op and not (response.data or response.err_code or response.err_msg):
        body = b"%b\x01%b\x01%c%b\x01%c%b\x00" % (_VALUE_HEAD, _int(op), len(incr), incr, len(op_id), op_id)
        return b"%b%c%b" % (_RESPONSE_HEAD, len(body), body)
    return _frame(
        _RESPONSE_HEAD,
        (
            op,
            incr,
            op_id,
            response.err_code,
            response.err_msg,
            response.data,
        ),
    )


def encode_request(request: Request) -> bytes:
    """The frame that OpenIM's Go SDK would send: its struct `GeneralWsReq` under type number 64."""
    return _frame(
        _REQUEST_HEAD,
        (
            request.op,
            request.token,
            request.send_id,
            request.operation_id,
            request.msg_incr,
            request.data,
        ),
    )
