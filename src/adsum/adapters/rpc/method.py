"""What connections need to know: the methods there are, and what the server's calls share."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adsum.wire.rpc import HEADER_TOO_LARGE, HTTP_OK, CallHead, Metadata, RpcRefused, StatusCode

WHOLE_REQUESTS = 32
"""How many requests of the greatest size are kept, with what else waits, on all connections."""

SHARE = 4
"""A connection may have one part in so many of that."""

STREAM_MESSAGE_BYTES = 4_096
"""Of a request in a stream: those here name a service or a file."""

log = logging.getLogger(__name__)


def nobody_asks(_metadata: Metadata) -> None:
    """Admits every call."""


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one answer. `answer` raises `RpcRefused` for any other end.

    `prompt`: it is run outside of any task; so nothing in it may ask for the current one (as
    `asyncio.timeout` does).
    `admit` raises `RpcRefused` when the call's header has come, before anything else of it is kept.
    `max_bytes` of a request, if that is less than the server takes.
    """

    answer: Callable[[bytes, Metadata], Coroutine[Any, Any, bytes]]
    prompt: bool = False
    admit: Callable[[Metadata], None] = nobody_asks
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Streaming:
    """Any number of requests and answers. `answers` raises `RpcRefused` to end otherwise."""

    answers: Callable[[AsyncIterator[bytes], Metadata], AsyncGenerator[bytes, None]]


Method = Unary | Streaming


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What clients may have of a server. Past the first three a call gets RESOURCE_EXHAUSTED.

    4 MiB (gRPC's own default) hold setUserOnlineStatus for 10,000 users with IDs
    of 256 bytes and 60 bytes of platforms and connection ID each. Streaming calls,
    such as health watches, are bounded by connection, and are none of the calls worked on.
    """

    max_request_bytes: int = 4 * 1024 * 1024
    max_concurrent_calls: int = 1_000
    max_streaming_calls: int = 16
    max_connections: int = 1_000

    @property
    def max_kept_bytes(self) -> int:
        """Of calls under way, requests that are not whole, or not taken, and answers that nobody takes, in all."""
        return WHOLE_REQUESTS * self.max_request_bytes


class Keeper(Protocol):
    """A connection, as the desk knows it."""

    kept_bytes: int

    def shed(self) -> bool:
        """End the calls that have most kept; whether that gave any back at once."""
        ...


class Desk:
    """What all connections of a server share: its methods, its limits, and how near these are.

    `flooded` is to be called for each that was ended because of what it sends, `turned_away` with the reason for
    each that had to go for what it did not.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        limits: RpcLimits,
        flooded: Callable[[], None],
        turned_away: Callable[[str], None],
    ) -> None:
        self.methods = methods
        self.limits = limits
        self.flooded = flooded
        self.turned_away = turned_away
        self.calls = 0
        self.kept_bytes = 0
        self.keepers: set[Keeper] = set()
        self.too_large = Called(HEADER_TOO_LARGE, self)

    def check_calls(self) -> None:
        """Raise `RpcRefused` if no more calls can be worked on."""
        if self.calls >= self.limits.max_concurrent_calls:
            raise RpcRefused(StatusCode.RESOURCE_EXHAUSTED, "too many calls at a time")

    def keep(self, keeper: Keeper, size: int) -> None:
        """So many more bytes (fewer, if below 0) are kept for a connection; if too many, who has most loses calls.

        Not who comes last: a few that let theirs lie about would shut out all others.
        """
        keeper.kept_bytes += size
        self.kept_bytes += size
        if size <= 0:
            return
        most = self.limits.max_kept_bytes
        while keeper.kept_bytes > most // SHARE:
            if not keeper.shed():
                return
        while self.kept_bytes > most:
            if not max(self.keepers, key=lambda one: one.kept_bytes).shed():
                return


class Called:
    """What calls with a header of some shape are: of one of the methods, or why they can't be served."""

    __slots__ = ("gzip", "http_status", "max_bytes", "path", "refusal", "streaming", "unary")

    def __init__(self, head: CallHead, desk: Desk) -> None:
        method = desk.methods.get(head.path)
        self.path = head.path
        self.gzip = head.gzip
        self.http_status = head.http_status
        self.refusal = head.refusal
        if method is None and self.refusal is None:
            self.refusal = RpcRefused(StatusCode.UNIMPLEMENTED, "this method is unknown here")
        served = self.refusal is None and self.http_status == HTTP_OK
        self.unary = method if served and isinstance(method, Unary) else None
        self.streaming = method if served and isinstance(method, Streaming) else None
        most = None if self.unary is None else self.unary.max_bytes
        self.max_bytes = most or desk.limits.max_request_bytes


def as_refusal(error: Exception, path: str) -> RpcRefused:
    """How to end a call whose method raised this; what was not foreseen goes to the log."""
    if isinstance(error, RpcRefused):
        return error
    log.error("%s failed", path, exc_info=error)
    return RpcRefused(StatusCode.INTERNAL, "the service failed")
