"""Unary calls that have to wait, run without a task each.

A call mostly waits for one future, which somebody else completes: the trip to the store that
it shares with others. A task for that costs as much as the rest of the call.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from adsum.wire.http2_streams import Stream


class Outcome(Protocol):
    """Who is told how a call went."""

    def answered(self, stream: Stream[Any], answer: bytes) -> None:
        """It has an answer."""
        ...

    def failed(self, stream: Stream[Any], error: Exception) -> None:
        """It has none."""
        ...


class Running:
    """Runs a coroutine that was begun by hand, and `waits_for` something, to its end.

    As a task would, with one difference: nothing in it may ask for the current task, as
    `asyncio.timeout` does. What does is awaited as a task of its own (`in_task`).
    """

    __slots__ = ("_cancelled", "_coroutine", "_ended", "_outcome", "_stream", "_to_throw", "_waits_for")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, bytes],
        waits_for: "asyncio.Future[Any] | None",
        outcome: Outcome,
        stream: Stream[Any],
    ) -> None:
        self._coroutine = coroutine
        self._outcome = outcome
        self._stream = stream
        self._cancelled = self._to_throw = False
        self._ended: asyncio.Future[None] | None = None
        self._waits_for: asyncio.Future[Any] | None = None
        self._wait(waits_for)

    def cancel(self) -> None:
        """Have `CancelledError` raised where it waits; nobody is told of its end then."""
        self._cancelled = True
        self._to_throw = self._waits_for is None or not self._waits_for.cancel()

    def ended(self) -> "asyncio.Future[None]":
        """Tells its end, for one who asks before that."""
        self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def _wait(self, waits_for: "asyncio.Future[Any] | None") -> None:
        self._waits_for = waits_for
        if waits_for is None:
            # It only lets others go first (`asyncio.sleep(0)`).
            asyncio.get_running_loop().call_soon(self._go_on, None)
        else:
            # As a task tells a future that it was awaited, and not yielded by mistake.
            waits_for._asyncio_future_blocking = False  # noqa: SLF001 - so agreed between futures and who runs them
            waits_for.add_done_callback(self._go_on)

    def _go_on(self, _done: object) -> None:
        try:
            if self._to_throw:
                self._to_throw = False
                waits_for = self._coroutine.throw(asyncio.CancelledError())
            else:
                waits_for = self._coroutine.send(None)
        except StopIteration as done:
            self._end()
            self._outcome.answered(self._stream, done.value)
        except asyncio.CancelledError:
            self._end()
            if not self._cancelled:
                self._outcome.failed(self._stream, RuntimeError("what a call waited for was cancelled"))
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self._end()
            self._outcome.failed(self._stream, error)
        else:
            self._wait(waits_for)

    def _end(self) -> None:
        self._waits_for = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


async def in_task(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    """The same, in a task of its own."""
    return await asyncio.get_running_loop().create_task(coroutine)
