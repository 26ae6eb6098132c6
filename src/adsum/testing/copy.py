"""The copy of presence that all nodes keep for other services, as each of them reaches it.

What is sent lands in order, also while the sender stands still or is dead, as on one
connection; now and then it does not, or its answer gets lost.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from random import Random

from adsum.domain.errors import StoreError
from adsum.domain.presence import Status
from adsum.testing.loop import VirtualLoop
from adsum.testing.network import Network

FAILS = 0.03


class Copy:
    """A `Projection` of one node into the `users` of all."""

    def __init__(self, network: Network, chance: Random, users: dict[str, int]) -> None:
        self._network = network
        self._chance = chance
        self._users = users
        self._lands_s = 0.0

    async def write(self, statuses: Sequence[Status]) -> None:
        """Make these the users' platforms."""
        loop: VirtualLoop = self._network.loop
        answer: asyncio.Future[None] = loop.create_future()
        fate = self._chance.random()
        self._lands_s = max(self._lands_s, loop.time() + self._chance.uniform(0.0002, 0.02))
        if fate > FAILS:
            self._at(self._lands_s, self._land, statuses)
        self._at(self._lands_s + 0.001, _settle, answer, fate < 2 * FAILS)
        await answer

    async def users(self) -> AsyncGenerator[list[str], None]:
        """Everybody in it."""
        await asyncio.sleep(0.001)
        yield list(self._users)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _at(self, when_s: float, what: Callable[..., None], *args: object) -> None:
        self._network.loop.call_at(when_s, what, *args, context=self._network.outside)

    def _land(self, statuses: Sequence[Status]) -> None:
        for user_id, mask in statuses:
            if mask:
                self._users[user_id] = mask
            else:
                self._users.pop(user_id, None)


def _settle(answer: "asyncio.Future[None]", failed: bool) -> None:  # noqa: FBT001 - a timer has no other form
    if answer.done():
        return
    if failed:
        answer.set_exception(StoreError("the copy does not answer"))
    else:
        answer.set_result(None)
