"""The requests of one streaming call, as they come."""

import asyncio
from collections.abc import Callable
from typing import Self

from adsum.wire.rpc import Messages, RpcRefused, StatusCode


class Requests:
    """An iterator over them; it ends when the client has sent all, and raises `RpcRefused` for what is no request.

    What was not taken is kept as it came. `taken` is told of bytes that are not any more: only
    then may the client send more, so that HTTP/2 is the queue.
    """

    def __init__(self, messages: Messages, taken: Callable[[int], None]) -> None:
        self._messages = messages
        self._taken = taken
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None

    @property
    def kept_bytes(self) -> int:
        """Of what came and was not taken."""
        return self._messages.kept_bytes

    def feed(self, data: bytes, *, ended: bool) -> None:
        """What came of them."""
        self._messages.feed(data)
        self._ended = ended
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while (message := self._take()) is None:
            if self._ended:
                if self._messages.kept_bytes:
                    raise RpcRefused(StatusCode.INTERNAL, "the last request is cut off")
                raise StopAsyncIteration
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return message

    def _take(self) -> bytes | None:
        before = self._messages.kept_bytes
        message = self._messages.take()
        if message is not None:
            self._taken(before - self._messages.kept_bytes)
        return message
