"""Callers who ask at the same moment share one trip.

Invariant: a caller's answer was read after the caller asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain

from adsum.domain.errors import StoreError
from adsum.domain.presence import Reading

_Gathering = list[tuple[Sequence[str], asyncio.Future[list[Reading]]]]
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
            gathering = self._gathering = []
            asyncio.get_running_loop().call_soon(self._go)
        # A future each: one caller's giving up is no reason for the others to fail.
        answer: asyncio.Future[list[Reading]] = asyncio.get_running_loop().create_future()
        gathering.append((user_ids, answer))
        return await answer

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
        failure: Exception = StoreError("the store is closed")
        readings: Mapping[str, Reading] | None = None
        try:
            asked = [user_ids for user_ids, _ in gathering]
            readings = await self._read_many(asked[0] if len(asked) == 1 else list(dict.fromkeys(chain(*asked))))
        except Exception as error:  # noqa: BLE001 - told to those who asked
            failure = error
        finally:
            for user_ids, answer in gathering:
                if answer.done():
                    continue
                if readings is None:
                    answer.set_exception(failure)
                else:
                    answer.set_result([readings[user_id] for user_id in user_ids])
