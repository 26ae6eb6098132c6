"""What the supervisor and a worker say to each other, over a pair of sockets only they have.

Each message is a line of JSON. Settings and secret go this way, so that neither is
in a command line or an environment.

Invariant: one side's end, however it comes, is seen by the other as the end of the
messages. That is how a worker learns that its supervisor is dead.
"""

import asyncio
import socket
from typing import Any, Generic, Literal, TypeVar

import msgspec

from adsum.adapters.http import Check
from adsum.app import config
from adsum.app.settings import SPECS, Settings
from adsum.app.values import Address
from adsum.ports import PageFormat

T = TypeVar("T")

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Far more than any page of metrics or any settings: both sides are ours."""

Question = Literal["checks", "metrics"]


class Begin(msgspec.Struct, tag=True):
    """To a worker, first of all: what to be. `number` tells it from the others of its supervisor."""

    number: int
    settings: dict[str, Any]
    secret: str

    def __repr__(self) -> str:
        return f"Begin({self.number})"


class Stop(msgspec.Struct, tag=True):
    """To a worker: say goodbye to all and end, after having been open for so long."""

    delay_ms: int


class Reload(msgspec.Struct, tag=True):
    """To a worker: take over what can be while it runs (`RELOADED`) of these settings, and this secret."""

    settings: dict[str, Any]
    secret: str

    def __repr__(self) -> str:
        return "Reload()"


class Ask(msgspec.Struct, tag=True):
    """To a worker: answer with this ID."""

    id: int
    what: Question
    form: PageFormat = "text"
    """Of metrics."""


class Ready(msgspec.Struct, tag=True):
    """From a worker: it takes connections."""


class Answer(msgspec.Struct, tag=True):
    """From a worker: one of the two, as it was asked."""

    id: int
    checks: dict[str, Check] = {}
    page: str = ""


Order = Begin | Reload | Stop | Ask
Report = Ready | Answer


class Channel(Generic[T]):
    """One end, at which messages of type `T` arrive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Any) -> None:  # noqa: ANN401 - a union has no type
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)

    async def receive(self) -> T | None:
        """The next message; None when the other side is gone."""
        try:
            line = await self._reader.readline()
        except OSError:
            return None
        return self._decoder.decode(line) if line.endswith(b"\n") else None

    def send(self, message: Order | Report) -> None:
        """Send; without effect if the other side is gone, which `receive` tells."""
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    def close(self) -> None:
        """Have the other side see the end."""
        self._writer.close()


async def order_channel(sock: socket.socket) -> Channel[Order]:
    """The worker's end."""
    return Channel(*await asyncio.open_connection(sock=sock, limit=MAX_LINE_BYTES), Order)


async def report_channel(sock: socket.socket) -> Channel[Report]:
    """The supervisor's end."""
    return Channel(*await asyncio.open_connection(sock=sock, limit=MAX_LINE_BYTES), Report)


def pack(settings: Settings) -> dict[str, Any]:
    """Settings as `Begin` carries them."""
    found = {name: getattr(settings, name) for name in SPECS}
    return {name: str(value) if isinstance(value, Address) else value for name, value in found.items()}


def unpack(packed: dict[str, Any]) -> Settings:
    """The settings that were packed."""
    return config.load(packed, {}, None)
