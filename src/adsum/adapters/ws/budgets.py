"""What clients may have done for them over seconds: kept only of those that had more than a moment's work."""

import asyncio
from collections.abc import Hashable

from adsum.core.budget import Budget, Share

FORGET_S = 10
"""How often those are forgotten whose budget is whole again."""


class Budgets:
    """The budgets of connections by connection."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._budgets: dict[Hashable, Budget] = {}
        self._timer: asyncio.TimerHandle | None = None

    def spend(self, who: Hashable, work_s: float) -> float:
        """Pay for work; seconds to wait before more is done, infinity for one that is told to go."""
        loop = asyncio.get_running_loop()
        budget = self._budgets.get(who)
        if budget is None:
            budget = self._budgets[who] = Budget(self._share, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(FORGET_S, self._forget)
        return budget.spend(work_s, loop.time())

    def leave(self, who: Hashable) -> None:
        """A connection has ended."""
        self._budgets.pop(who, None)

    def __len__(self) -> int:
        return len(self._budgets)

    def _forget(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._budgets = {who: budget for who, budget in self._budgets.items() if not budget.is_full(now_s)}
        self._timer = loop.call_later(FORGET_S, self._forget) if self._budgets else None
