"""What connections need to know: the methods there are, and what the server's calls share."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from adsum.wire.rpc import CallHead, Metadata, RpcRefused, StatusCode

WHOLE_REQUESTS = 16
"""How many requests of the greatest size may be there in part, on all connections, before more are refused."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one answer. `answer` raises `RpcRefused` for any other end.

    `prompt`: it is begun at once, outside of any task, which is only made if it comes to
    wait; so it must not ask for the current task (as `asyncio.timeout` does) before that.
    """

    answer: Callable[[bytes, Metadata], Coroutine[Any, Any, bytes]]
    prompt: bool = False


@dataclass(frozen=True, slots=True)
class Streaming:
    """Any number of requests and answers. `answers` raises `RpcRefused` to end otherwise."""

    answers: Callable[[AsyncIterator[bytes], Metadata], AsyncGenerator[bytes, None]]


Method = Unary | Streaming


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """Bytes of one request, and calls worked on at a time; beyond either a call gets RESOURCE_EXHAUSTED.

    4 MiB (gRPC's own default) hold setUserOnlineStatus for 10,000 users with IDs
    of 256 bytes and 60 bytes of platforms and connection ID each.
    """

    max_request_bytes: int = 4 * 1024 * 1024
    max_concurrent_calls: int = 1_000


class Desk:
    """What all connections of a server share: its methods, its limits, and how near these are."""

    def __init__(self, methods: Mapping[str, Method], limits: RpcLimits) -> None:
        self.methods = methods
        self.limits = limits
        self.calls = 0
        self._kept_bytes = 0

    def check_calls(self) -> None:
        """Raise `RpcRefused` if no more calls can be worked on."""
        if self.calls >= self.limits.max_concurrent_calls:
            raise RpcRefused(StatusCode.RESOURCE_EXHAUSTED, "too many calls at a time")

    def keep(self, size: int) -> None:
        """Count bytes of requests that are not whole; raises `RpcRefused` if they are too many."""
        self._kept_bytes += size
        if self._kept_bytes > WHOLE_REQUESTS * self.limits.max_request_bytes:
            raise RpcRefused(StatusCode.RESOURCE_EXHAUSTED, "too many large requests at a time")

    def let_go(self, size: int) -> None:
        """Such bytes are kept no longer."""
        self._kept_bytes -= size


class Begun(Awaitable[bytes]):
    """A coroutine that was begun outside of a task, and what it waits for: awaiting this goes on from there."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, bytes], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, bytes]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is the coroutine's
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration as done:
            answer: bytes = done.value
            return answer


def as_refusal(error: Exception, head: CallHead) -> RpcRefused:
    """How to end a call whose method raised this; what was not foreseen goes to the log."""
    if isinstance(error, RpcRefused):
        return error
    log.error("%s failed", head.path, exc_info=error)
    return RpcRefused(StatusCode.INTERNAL, "the service failed")
