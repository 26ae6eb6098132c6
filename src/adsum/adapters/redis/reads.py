"""Callers who ask at the same moment share one trip.

Invariant: a caller's answer was read after the caller asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from adsum.domain.errors import StoreError
from adsum.domain.presence import Reading

ReadMany = Callable[[Sequence[str]], Awaitable[Mapping[str, Reading]]]


class SharedReads:
    """Gathers what is asked in one turn of the event loop."""

    def __init__(self, read_many: ReadMany) -> None:
        self._read_many = read_many
        self._gathering: _Gathering | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, user_ids: Sequence[str]) -> list[Reading]:
        """The platforms of each user, in the order asked; raises `StoreError`."""
        gathering = self._gathering
        if gathering is None:
            loop = asyncio.get_running_loop()
            gathering = self._gathering = _Gathering(loop.create_future())
            loop.call_soon(self._go)
        gathering.users.update(dict.fromkeys(user_ids))
        # One caller's giving up is no reason for the others to fail.
        readings = await asyncio.shield(gathering.done)
        return [readings[user_id] for user_id in user_ids]

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go(self) -> None:
        gathering, self._gathering = self._gathering, None
        assert gathering is not None
        task = asyncio.create_task(self._run(gathering))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, gathering: "_Gathering") -> None:
        try:
            gathering.done.set_result(await self._read_many(list(gathering.users)))
        except asyncio.CancelledError:
            gathering.done.set_exception(StoreError("the store is closed"))
            raise
        except Exception as error:  # noqa: BLE001 - told to those who asked
            gathering.done.set_exception(error)
        finally:
            gathering.done.exception()  # nobody may be left to be told


class _Gathering:
    __slots__ = ("done", "users")

    def __init__(self, done: "asyncio.Future[Mapping[str, Reading]]") -> None:
        self.done = done
        self.users: dict[str, None] = {}
