"""One connection to one Redis server: commands go out in order, answers come back in order.

Many callers share a connection: a command is written when it is asked for, whatever
is still unanswered (pipelining), so there is nothing to wait for but the answer.

Invariants:
- answers go to requests in the order these were sent, also where the caller has
  given up waiting (the answer is dropped then);
- a request is answered, or fails, within the time limit: a connection on which one
  is not is closed, because nothing that comes later can be trusted to come;
- nothing is ever sent twice: what was under way when a connection is lost fails, its
  outcome unknown.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from hiredis import Reader, pack_command

from adsum.domain.errors import StoreError

Command = tuple[str | bytes | int, ...] | bytes
"""A command's parts, or all of it as it is sent."""

PUSHED = (b"smessage", b"sunsubscribe")
"""What a server says unasked: a message, and that a channel's slot has moved away."""

MAX_WAITING = 20_000
"""Commands unanswered on one connection, the most; past it callers fail at once."""


def pack_parts(parts: Sequence[bytes]) -> bytes:
    """Parts of a command as they are sent. Of many, hiredis takes twice as long."""
    return b"".join(map(_packed, map(len, parts))) % tuple(parts)


@lru_cache(maxsize=1_024)
def _packed(size: int) -> bytes:
    """The format of a part of so many bytes: few lengths are in use."""
    return b"$%d\r\n%%b\r\n" % size


class Refused(Exception):
    """An error that the server answered, as a value among the answers."""


class Overloaded(StoreError):
    """Too much is unanswered: nothing was sent. It says nothing against the connection or the server."""


class _Request:
    __slots__ = ("answers", "count", "done", "sent")

    def __init__(self, count: int, done: "asyncio.Future[list[Any]]", sent: float) -> None:
        self.count = count
        self.done = done
        self.sent = sent
        self.answers: list[Any] = []


class Link(asyncio.Protocol):
    """A connection. `heard` is called with what comes unasked, `lost` once it has ended."""

    def __init__(self, name: str, limit_s: float, heard: Callable[[list[Any]], None] | None = None) -> None:
        self.name = name
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.overdue = False
        """Whether it was closed because an answer did not come in time."""
        self._limit_s = limit_s
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=Refused)
        self._transport: asyncio.Transport | None = None
        self._requests: deque[_Request] = deque()
        self._waiting = 0
        self._watch: asyncio.TimerHandle | None = None
        self._reason = ""

    @property
    def alive(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def ended(self) -> str:
        """Why it ended."""
        return f"{self.name}: {self._reason}"

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answer of each command, `Refused` ones as values. Raises `StoreError` if the connection ends first."""
        if not commands:
            return []
        if self._transport is None or self._transport.is_closing():
            raise StoreError(f"{self.name}: {self._reason or 'the connection is closed'}")
        if self._waiting + len(commands) > MAX_WAITING:
            raise Overloaded(f"{self.name}: {self._waiting} commands are unanswered, no more are sent")
        request = _Request(len(commands), self._loop.create_future(), self._loop.time())
        self._requests.append(request)
        self._waiting += len(commands)
        self._transport.write(b"".join([c if isinstance(c, bytes) else pack_command(cast("Any", c)) for c in commands]))
        if self._watch is None:
            self._watch = self._loop.call_later(self._limit_s, self._look)
        return await request.done

    async def must(self, *commands: Command) -> list[Any]:
        """The answer of each command; raises `StoreError` also if one is refused."""
        answers = await self.run(commands)
        for answer in answers:
            if isinstance(answer, Refused):
                raise StoreError(f"{self.name}: {answer}")
        return answers

    def close(self, reason: str = "the connection is closed") -> None:
        """End the connection now; what is under way fails with this reason."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to be written to."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are complete."""
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._answered(answer)
        except Exception as error:  # noqa: BLE001 - what is not RESP can't be followed any further
            self.close(f"cannot be understood: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way."""
        if self._watch is not None:
            self._watch.cancel()
        reason = self._reason or (f"the connection was lost: {exc}" if exc else "the server closed the connection")
        self._reason = reason
        requests, self._requests = self._requests, deque()
        for request in requests:
            if not request.done.done():
                request.done.set_exception(StoreError(f"{self.name}: {reason}"))
        if not self.lost.done():
            self.lost.set_result(None)

    def _answered(self, answer: Any) -> None:  # noqa: ANN401 - as Redis answers
        if self._heard is not None and isinstance(answer, list) and answer and answer[0] in PUSHED:
            self._heard(answer)
            return
        if not self._requests:
            self.close("an answer came to nothing that was asked")
            return
        request = self._requests[0]
        request.answers.append(answer)
        if len(request.answers) == request.count:
            self._requests.popleft()
            self._waiting -= request.count
            if not request.done.done():
                request.done.set_result(request.answers)

    def _look(self) -> None:
        """Close a connection whose oldest request has waited for too long; look again when the next one will have."""
        self._watch = None
        if not self._requests:
            return
        left_s = self._requests[0].sent + self._limit_s - self._loop.time()
        if left_s <= 0:
            self.overdue = True
            self.close(f"no answer within {self._limit_s:g} s")
        else:
            self._watch = self._loop.call_later(left_s, self._look)


async def open_link(
    address: tuple[str, int],
    tls: ssl.SSLContext | None,
    limit_s: float,
    greeting: Sequence[Command],
    heard: Callable[[list[Any]], None] | None = None,
) -> Link:
    """Connect within the time limit, and send the `greeting`, none of which may be refused; raises `StoreError`."""
    name = f"{address[0]}:{address[1]}"
    try:
        async with asyncio.timeout(limit_s):
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(name, limit_s, heard), *address, ssl=tls
            )
            try:
                await link.must(*greeting)
            except BaseException:
                link.close()
                raise
    except TimeoutError:
        raise StoreError(f"{name}: no answer within {limit_s:g} s") from None
    except OSError as error:
        raise StoreError(f"{name}: {_reason(error)}") from None
    return link


def _reason(error: OSError) -> str:
    """Why a connection failed, without the addresses that the texts of uvloop and asyncio repeat each their own way."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return error.strerror or str(error)
