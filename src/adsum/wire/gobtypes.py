"""Go gob type definitions, and skipping values by them.

A gob stream describes its own types: before a value come messages that define
the types it needs (`WireType`s, each under a number). This module reads those
definitions and steps over values of any type they can describe. The format is
documented in Go's package encoding/gob.

Invariant: reading definitions and skipping a value take at most `MAX_STEPS`
steps each and memory bounded by the bytes given, whatever lengths, counts,
numbers or cycles they claim; there is no recursion. Bytes that break the format
raise `FrameError`; running off the end of a message may also raise `IndexError`,
which callers turn into one.
"""

from dataclasses import dataclass, field

from adsum.domain.errors import FrameError
from adsum.wire.steps import Steps

BOOL, INT, UINT, FLOAT, BYTES, TEXT, COMPLEX, INTERFACE = range(1, 9)
"""The type numbers that need no definition."""

FIRST_DEFINED = 64
"""The lowest number a definition may take."""

MAX_STEPS = 512
"""How many fields the definitions of a frame may have, and values a frame that no field of ours takes.

Go has no such limit.
"""

_MAX_TYPE_ID = 2**31 - 1
_MAX_UINT_BYTES = 8


def frame_steps() -> Steps:
    """The steps that the definitions, or the skipped values, of a frame may take."""
    words = f"the gob frame defines or has more than {MAX_STEPS} values of no use here: send only the request's fields"
    return Steps(MAX_STEPS, FrameError, words)


def read_uint(body: bytes, pos: int) -> tuple[int, int]:
    """The unsigned integer at `pos` and the position after it."""
    first = body[pos]
    if first < 0x80:
        return first, pos + 1
    width = 0x100 - first
    if width > _MAX_UINT_BYTES:
        raise FrameError(f"the gob frame has an integer of {width} bytes; 8 is the most")
    end = pos + 1 + width
    if end > len(body):
        raise FrameError("the gob frame ends within an integer")
    return int.from_bytes(body[pos + 1 : end], "big"), end


def read_int(body: bytes, pos: int) -> tuple[int, int]:
    """The signed integer at `pos` (its sign is the lowest bit) and the position after it."""
    bits, pos = read_uint(body, pos)
    return (~(bits >> 1) if bits & 1 else bits >> 1), pos


def read_bytes(body: bytes, pos: int) -> tuple[bytes, int]:
    """The counted bytes at `pos` and the position after them."""
    count, pos = read_uint(body, pos)
    end = pos + count
    if end > len(body):
        raise FrameError(f"the gob frame claims {count} bytes where {len(body) - pos} are left")
    return body[pos:end], end


def read_type_id(body: bytes, pos: int) -> tuple[int, int]:
    """The type number at `pos`, negative before a definition, and the position after it."""
    type_id, pos = read_int(body, pos)
    if not -_MAX_TYPE_ID <= type_id <= _MAX_TYPE_ID:
        raise FrameError(f"the gob frame has a type number out of range: {type_id}")
    return type_id, pos


@dataclass(slots=True)
class Struct:
    """A struct's name and its fields as (name, type number), in the order their numbers count."""

    name: bytes = b""
    fields: list[tuple[bytes, int]] = field(default_factory=list)


@dataclass(slots=True)
class Definition:
    """What one number was defined to be. A well-formed definition sets one member.

    `array` is (element type, length), `map` (key type, element type); `opaque`
    stands for the three kinds whose value is just counted bytes.
    """

    array: tuple[int, int] | None = None
    slice: int | None = None
    struct: Struct | None = None
    map: tuple[int, int] | None = None
    opaque: bool = False


class _Reader:
    """A position in one message, for the small fixed structs that definitions are made of."""

    __slots__ = ("_steps", "body", "pos")

    def __init__(self, body: bytes, pos: int, steps: Steps) -> None:
        self.body = body
        self.pos = pos
        self._steps = steps

    def next_field(self, number: int, count: int) -> int:
        """The number of the next field present after `number`, or -1 at the struct's end."""
        # Go takes the end of the message for the end of the struct as well.
        if self.pos >= len(self.body):
            return -1
        delta, self.pos = read_uint(self.body, self.pos)
        if delta == 0:
            return -1
        if number + delta >= count:
            raise FrameError("a gob type definition has a field that definitions do not have")
        return number + delta

    def type_id(self) -> int:
        value, self.pos = read_type_id(self.body, self.pos)
        return value

    def name(self) -> bytes:
        value, self.pos = read_bytes(self.body, self.pos)
        return value

    def named_id(self) -> tuple[bytes, int]:
        """A struct of a name and a type number: the head of every definition, and a struct's field."""
        name, type_id, at = b"", 0, -1
        while (at := self.next_field(at, 2)) >= 0:
            if at == 0:
                name = self.name()
            else:
                type_id = self.type_id()
        return name, type_id

    def type_ids(self, count: int) -> tuple[int, int]:
        """A struct of a head and `count` (0 to 2) type numbers."""
        values, at = [0, 0], -1
        while (at := self.next_field(at, count + 1)) >= 0:
            if at == 0:
                self.named_id()
            else:
                values[at - 1] = self.type_id()
        return values[0], values[1]

    def array(self) -> tuple[int, int]:
        """A struct of a head, a type number and a length."""
        element, length, at = 0, 0, -1
        while (at := self.next_field(at, 3)) >= 0:
            if at == 0:
                self.named_id()
            elif at == 1:
                element = self.type_id()
            else:
                length, self.pos = read_int(self.body, self.pos)
        return element, length

    def struct(self) -> Struct:
        result, at = Struct(), -1
        while (at := self.next_field(at, 2)) >= 0:
            if at == 0:
                result.name, _ = self.named_id()
            else:
                result.fields = self.fields()
        return result

    def fields(self) -> list[tuple[bytes, int]]:
        count, self.pos = read_uint(self.body, self.pos)
        left = len(self.body) - self.pos
        if count > left:
            raise FrameError(f"a gob type definition claims {count} fields in {left} bytes")
        self._steps.take(count)
        fields = []
        for _ in range(count):
            if self.pos >= len(self.body):
                raise FrameError("a gob type definition ends before its fields do")
            fields.append(self.named_id())
        return fields


def read_definition(body: bytes, pos: int, steps: Steps) -> tuple[Definition, int]:
    """The definition at `pos` (after its number) and the position after it."""
    steps.take()
    reader, result, at = _Reader(body, pos, steps), Definition(), -1
    while (at := reader.next_field(at, 7)) >= 0:
        if at == 0:
            result.array = reader.array()
        elif at == 1:
            result.slice = reader.type_ids(1)[0]
        elif at == 2:
            result.struct = reader.struct()
        elif at == 3:
            result.map = reader.type_ids(2)
        else:
            reader.type_ids(0)
            result.opaque = True
    return result, reader.pos


_SKIP_UINT, _SKIP_PAIR, _SKIP_BYTES, _SKIP_INTERFACE, _SKIP_ARRAY, _SKIP_COUNTED, _SKIP_STRUCT = range(7)


class Skip:
    """How to step over a value of one type; `parts` are the types of what it is made of."""

    __slots__ = ("form", "length", "parts")

    def __init__(self, form: int) -> None:
        self.form = form
        self.parts: list[Skip] = []
        self.length = 0


_BUILTIN = {type_id: Skip(_SKIP_UINT) for type_id in (BOOL, INT, UINT, FLOAT)} | {
    BYTES: Skip(_SKIP_BYTES),
    TEXT: Skip(_SKIP_BYTES),
    COMPLEX: Skip(_SKIP_PAIR),
    INTERFACE: Skip(_SKIP_INTERFACE),
}


class Skipper:
    """Plans skips over the types that `definitions` define. Cyclic types become cyclic plans."""

    def __init__(self, definitions: dict[int, Definition]) -> None:
        self._definitions = definitions
        self._skips = dict(_BUILTIN)
        self._unplanned: list[tuple[Skip, list[int]]] = []

    def plan(self, type_id: int) -> Skip:
        """The plan for a type; raises `FrameError` if it or a type it is made of is not defined."""
        result = self._node(type_id)
        while self._unplanned:
            skip, part_ids = self._unplanned.pop()
            skip.parts.extend(map(self._node, part_ids))
        return result

    def _node(self, type_id: int) -> Skip:
        known = self._skips.get(type_id)
        if known is not None:
            return known
        definition = self._definitions.get(type_id)
        if definition is None:
            raise FrameError(f"the gob frame uses type {type_id} and does not define it")
        skip, part_ids = self._outline(type_id, definition)
        self._skips[type_id] = skip
        self._unplanned.append((skip, part_ids))
        return skip

    @staticmethod
    def _outline(type_id: int, definition: Definition) -> tuple[Skip, list[int]]:
        """An unfinished plan and the numbers of its parts. A definition of many kinds is read in Go's order."""
        if definition.array is not None:
            skip = Skip(_SKIP_ARRAY)
            skip.length = definition.array[1]
            return skip, [definition.array[0]]
        if definition.map is not None:
            return Skip(_SKIP_COUNTED), list(definition.map)
        if definition.slice is not None:
            return Skip(_SKIP_COUNTED), [definition.slice]
        if definition.struct is not None:
            check_names(definition.struct)
            return Skip(_SKIP_STRUCT), [part_id for _, part_id in definition.struct.fields]
        if definition.opaque:
            return Skip(_SKIP_BYTES), []
        raise FrameError(f"the gob frame defines type {type_id} as nothing")


def check_names(struct: Struct) -> None:
    """Raises `FrameError` if a field has no name."""
    if any(not name for name, _ in struct.fields):
        raise FrameError("a gob type definition has a field without a name")


class Message:
    """The message being read, of the several that `data` may hold.

    A value is one message, but for one case: a definition that the encoder first
    needs inside an interface ends the message, and the value goes on in the next.
    """

    __slots__ = ("_data", "_end", "body", "start", "steps")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = 0
        self.start = 0
        self.body = b""
        self.steps = frame_steps()

    def advance(self) -> None:
        """Moves on to the next message: `body` is its content, `start` where it starts in the data."""
        self.steps.take()
        self.start = self._end
        self.body, self._end = read_bytes(self._data, self.start)
        if not self.body:
            raise FrameError("the gob frame has an empty message")


def skip_value(message: Message, pos: int, skip: Skip) -> int:
    """The position after the value at `pos`, in what is then the message's body."""
    # What is open around the value at hand: (plan, elements still to come) of an
    # array, slice or map, (plan, last field number) of a struct.
    around: list[tuple[Skip, int]] = []
    current: Skip | None = skip
    while current is not None:
        message.steps.take()
        if current.form <= _SKIP_INTERFACE:
            pos = _skip_simple(message, pos, current.form)
        elif current.form == _SKIP_STRUCT:
            around.append((current, -1))
        else:
            count, pos = _read_count(message.body, pos, current)
            around.append((current, count * len(current.parts)))
        current, pos = _next_value(message.body, pos, around)
    return pos


def _next_value(body: bytes, pos: int, around: list[tuple[Skip, int]]) -> tuple[Skip | None, int]:
    """The plan of the next value inside what is open, closing what is complete; `None` when all is."""
    while around:
        skip, state = around.pop()
        if skip.form == _SKIP_STRUCT:
            if pos >= len(body):
                continue
            delta, pos = read_uint(body, pos)
            if delta == 0:
                continue
            state += delta
            if state >= len(skip.parts):
                raise FrameError("the gob frame numbers a field that its type does not have")
            around.append((skip, state))
            return skip.parts[state], pos
        if state == 0:
            continue
        # Without this, structs that end with the message would cost nothing and
        # nested counts could ask for any number of them.
        if pos >= len(body):
            raise FrameError("the gob frame ends before the elements it claims")
        around.append((skip, state - 1))
        return skip.parts[state % len(skip.parts)], pos
    return None, pos


def _read_count(body: bytes, pos: int, skip: Skip) -> tuple[int, int]:
    count, pos = read_uint(body, pos)
    if skip.form == _SKIP_ARRAY and count != skip.length:
        raise FrameError(f"the gob frame has {count} elements for an array of {skip.length}")
    left = len(body) - pos
    if count > left:
        raise FrameError(f"the gob frame claims {count} elements in {left} bytes")
    return count, pos


def _skip_simple(message: Message, pos: int, form: int) -> int:
    if form == _SKIP_INTERFACE:
        return _skip_interface(message, pos)
    if form == _SKIP_BYTES:
        return read_bytes(message.body, pos)[1]
    pos = read_uint(message.body, pos)[1]
    return read_uint(message.body, pos)[1] if form == _SKIP_PAIR else pos


def _skip_interface(message: Message, pos: int) -> int:
    """Over the name of a dynamic type, definitions that may follow, its number and its counted value."""
    name, pos = read_bytes(message.body, pos)
    if not name:
        return pos
    while True:
        if pos >= len(message.body):
            message.advance()
            pos = 0
        type_id, pos = read_type_id(message.body, pos)
        if type_id >= 0:
            return read_bytes(message.body, pos)[1]
        _, pos = read_definition(message.body, pos, message.steps)
        if pos < len(message.body):
            _, pos = read_uint(message.body, pos)
