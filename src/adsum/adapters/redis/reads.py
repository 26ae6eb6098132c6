"""Callers who ask at the same moment share one trip.

Invariant: a caller's answer was read after the caller asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from adsum.domain.errors import StoreError

T = TypeVar("T")

_Caller = tuple[int, asyncio.Future[list[T]]]
"""How many users were asked for, and where the answers are waited for."""


class SharedReads(Generic[T]):
    """Gathers what is asked in one turn of the event loop. `read_many` gives an answer for each user, in order."""

    def __init__(self, read_many: Callable[[Sequence[str]], Awaitable[list[T]]]) -> None:
        self._read_many = read_many
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users: list[str] = []
        self._callers: list[_Caller[T]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, user_ids: Sequence[str]) -> list[T]:
        """An answer for each user, in the order asked; raises `StoreError`."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if not self._callers:
            self._loop.call_soon(self._go)
        # A future each: one caller's giving up is no reason for the others to fail.
        answer: asyncio.Future[list[T]] = self._loop.create_future()
        self._users += user_ids
        self._callers.append((len(user_ids), answer))
        return await answer

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go(self) -> None:
        users, self._users = self._users, []
        callers, self._callers = self._callers, []
        assert self._loop is not None
        task = self._loop.create_task(self._run(users, callers))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, callers))

    def _ended(self, callers: "list[_Caller[T]]", task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            _fail(callers, StoreError("the store is closed"))

    async def _run(self, users: list[str], callers: "list[_Caller[T]]") -> None:
        try:
            found = await self._read_many(users)
        except Exception as error:  # noqa: BLE001 - told to those who asked
            _fail(callers, error)
            return
        start = 0
        for count, answer in callers:
            if not answer.done():
                answer.set_result(found[start : start + count])
            start += count


def _fail(callers: "list[_Caller[T]]", failure: Exception) -> None:
    for _, answer in callers:
        if not answer.done():
            answer.set_exception(failure)
