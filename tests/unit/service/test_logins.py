"""Logins across gateways, as this one acts on them: what it tells again when entries were lost."""

import asyncio
from collections.abc import Iterable

import pytest

from adsum.adapters.clock import SystemClock
from adsum.core.partition import partition_of
from adsum.domain.login import LoginPolicy
from adsum.service import logins as logins_module
from adsum.service.logins import Logins
from tests.support.compiled import replaces_a_method
from tests.unit.service.node import Node, World

PARTITIONS = 4


def make(policy: LoginPolicy, users: int) -> tuple[Node, Logins]:
    """A node whose users are all written, and its logins."""
    node = Node(World(SystemClock(), PARTITIONS).store, SystemClock(), policy=policy)
    for number in range(users):
        node.connect(f"u{number}")
    for lane in range(len(node.writer.dirty_users)):
        while flight := node.writer.take(lane, 0, node.ledger.tell):
            node.ledger.written(flight.batch.states, {state.user_id: 1 for state in flight.batch.states})
            node.writer.acknowledged(lane)
    return node, Logins(node.ledger, node.flusher, PARTITIONS, lambda _: None)


async def test_where_no_login_ends_another_nothing_is_told_again() -> None:
    node, logins = make(LoginPolicy.KICK_NOBODY, 100)
    await logins.missed(0)
    assert node.writer.clean


@pytest.mark.parametrize("a_turn", [1, 7, 1_000])
async def test_the_logins_of_a_partition_are_told_again(monkeypatch: pytest.MonkeyPatch, a_turn: int) -> None:
    """Those of others are not, however many turns it takes."""
    monkeypatch.setattr(logins_module, "USERS_A_TURN", a_turn)
    node, logins = make(LoginPolicy.KICK_SAME_PLATFORM, 100)
    await logins.missed(2)
    mine = {f"u{number}" for number in range(100) if partition_of(f"u{number}", PARTITIONS) == 2}
    assert 0 < len(mine) < 100
    assert {user_id for lane in node.writer._lanes for user_id in lane.dirty} == mine


@replaces_a_method
async def test_partitions_missed_at_once_are_gone_through_together(monkeypatch: pytest.MonkeyPatch) -> None:
    node, logins = make(LoginPolicy.KICK_SAME_PLATFORM, 100)
    walks = []
    users = node.registry.users

    def counted() -> Iterable[str]:
        walks.append(0)
        return users()

    monkeypatch.setattr(node.registry, "users", counted)
    await asyncio.gather(*(logins.missed(partition) for partition in range(PARTITIONS)))
    assert sum(node.writer.dirty_users) == 100
    assert len(walks) == 1
