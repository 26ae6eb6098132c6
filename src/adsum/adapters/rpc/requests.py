"""The requests of one streaming call, as they come."""

import asyncio
from collections import deque
from typing import Self

from adsum.wire.rpc import Messages, RpcRefused, StatusCode

MAX_REQUEST_BYTES = 65_536
MAX_QUEUED = 100
"""Requests that wait for their turn, the most."""


class Requests:
    """An iterator over them; it ends when the client has sent all."""

    def __init__(self, *, gzip: bool) -> None:
        self._messages = Messages(MAX_REQUEST_BYTES, gzip=gzip)
        self._queue: deque[bytes] = deque()
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None

    def feed(self, data: bytes, *, ended: bool) -> None:
        """What came of them; raises `RpcRefused`."""
        self._queue.extend(self._messages.feed(data))
        if len(self._queue) > MAX_QUEUED:
            raise RpcRefused(StatusCode.RESOURCE_EXHAUSTED, "too many requests that wait for an answer")
        if ended and self._messages.partial:
            raise RpcRefused(StatusCode.INTERNAL, "the last request is cut off")
        self._ended = ended
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._queue.popleft()
