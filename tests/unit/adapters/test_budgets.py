"""Whose work is paid from which budget."""

import asyncio

import pytest

from adsum.adapters.ws import budgets as module
from adsum.adapters.ws.budgets import Budgets
from adsum.core.budget import Share
from tests.support.waiting import until


async def test_a_user_has_one_budget_whatever_the_connection() -> None:
    budgets = Budgets(Share(burst_s=0.1, rate=0.001, dearest_s=1))
    assert budgets.spend("a", 0.09) == 0
    assert budgets.spend("b", 0.09) == 0
    assert budgets.spend("a", 0.09) > 0


async def test_budgets_that_are_whole_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGET_S", 0.01)
    budgets = Budgets(Share(burst_s=10, rate=1_000, dearest_s=100))
    budgets.spend("a", 1)
    budgets.spend("b", 10**9)
    await until(lambda: not len(budgets))
    await asyncio.sleep(0.02)
    assert budgets._timer is None
