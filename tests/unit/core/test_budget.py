"""A client's share of work: bursts pass, more has to wait, and who never has enough is told to go."""

from math import inf

import pytest

from adsum.core.budget import Budget, Share

SHARE = Share(burst_s=1, rate=0.1, again_s=0.01, patience_s=5, dearest_s=0.25)


def test_a_burst_is_free() -> None:
    budget = Budget(SHARE, 0)
    assert [budget.spend(0.25, 0) for _ in range(4)] == [0, 0, 0, 0]


def test_more_has_to_wait_until_there_is_some_again() -> None:
    budget = Budget(SHARE, 0)
    for _ in range(4):
        budget.spend(0.25, 0)
    wait_s = budget.spend(0.1, 0)
    assert wait_s == pytest.approx(1.1), "a tenth of a second short, at a tenth a second, and a little more"
    assert budget.spend(0.005, wait_s) == 0


def test_whoever_keeps_asking_is_told_to_go() -> None:
    """However little of it is done: what counts is that it asks as soon as it may."""
    budget, now_s = Budget(SHARE, 0), 0.0
    waits = []
    while (wait_s := budget.spend(0.02, now_s)) != inf:
        waits.append(wait_s)
        now_s += wait_s
    assert SHARE.patience_s <= now_s < SHARE.patience_s + 2 * max(waits)
    assert sum(0.02 for _ in waits) <= SHARE.burst_s + SHARE.rate * now_s + 0.02


def test_whoever_rests_is_forgiven() -> None:
    budget, now_s = Budget(SHARE, 0), 0.0
    for _ in range(10):
        for _ in range(5):
            assert budget.spend(0.25, now_s) < inf
        assert not budget.is_full(now_s)
        now_s += 20
    assert budget.is_full(now_s)


def test_standing_still_is_nobodys_fault() -> None:
    """A process that was stopped for an hour in the middle of a frame charges it as a dear one."""
    assert Budget(SHARE, 0).spend(3_600, 3_600) == 0
