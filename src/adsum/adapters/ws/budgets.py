"""What users may have done for them over seconds, on all their connections here, one after the other too.

Kept only of those who had more than a moment's work lately.
"""

import asyncio
from math import inf

from adsum.core.budget import Budget, Share

FORGET_S = 10
"""How often those are forgotten whose budget is whole again."""


class Budgets:
    """The budgets by user."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._budgets: dict[str, Budget] = {}
        self._timer: asyncio.TimerHandle | None = None

    def spend(self, user_id: str, work_s: float) -> float:
        """Pay for work; seconds to wait before more is done, infinity for one that is told to go."""
        loop = asyncio.get_running_loop()
        budget = self._budgets.get(user_id)
        if budget is None:
            budget = self._budgets[user_id] = Budget(self._share, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(FORGET_S, self._forget)
        return budget.spend(work_s, loop.time())

    def blame(self, user_id: str) -> None:
        """Note a fault of a user's, for which its connection ends."""
        self.spend(user_id, self._share.fault_s)

    def is_told_to_go(self, user_id: str) -> bool:
        """Whether a user has used up its share, and our patience."""
        return user_id in self._budgets and self.spend(user_id, 0) == inf

    def __contains__(self, user_id: str) -> bool:
        """Whether a user had more than a moment's work lately."""
        return user_id in self._budgets

    def __len__(self) -> int:
        return len(self._budgets)

    def _forget(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._budgets = {user_id: budget for user_id, budget in self._budgets.items() if not budget.is_full(now_s)}
        self._timer = loop.call_later(FORGET_S, self._forget) if self._budgets else None
