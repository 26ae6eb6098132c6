"""News of users held here, while the lease is gone and they are to be written again."""

from dataclasses import dataclass, field

import pytest

from adsum.core.known import KnownTable
from adsum.core.registry import Registry
from adsum.domain.login import LoginPolicy
from adsum.domain.presence import HoldState
from adsum.service.heldback import HeldBack
from tests.support.sessions import make_session
from tests.support.world import IOS, WEB


@dataclass
class Here:
    """A node with a watched user on iOS."""

    lost: bool = True
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry = Registry(LoginPolicy.KICK_NOBODY, 10, 10)
        self.session = make_session("u", 1)
        self.registry.add(self.session)
        self.table = KnownTable(1, 10)
        self.user = self.table.enter("u")
        self.held_back = HeldBack(self.registry, self.table, lambda: self.lost, self.told.append)

    def hear(self, mask: int) -> None:
        self.user.learn(mask, self.user.version + 1)
        self.held_back.news("u")


@pytest.fixture
def here() -> Here:
    return Here()


def test_that_a_user_held_here_has_left_is_not_told(here: Here) -> None:
    """Nor anything else that lacks what is held here; once it is written, all is told."""
    here.hear(0)
    here.hear(WEB)
    assert not here.told
    here.held_back.written([HoldState("u", IOS)])
    assert not here.told
    here.hear(IOS | WEB)
    assert here.told == ["u"]


def test_who_has_left_meanwhile_is_told_when_that_is_written(here: Here) -> None:
    """The store knew already, so the feed will not tell; and it is told once."""
    here.hear(0)
    here.registry.remove(here.session)
    here.held_back.written([HoldState("other", 0), HoldState("u", 0)])
    here.held_back.written([HoldState("u", 0)])
    assert here.told == ["u"]


def test_with_a_lease_all_is_told(here: Here) -> None:
    here.lost = False
    here.hear(0)
    assert here.told == ["u"]


def test_of_users_elsewhere_all_is_told(here: Here) -> None:
    here.registry.remove(here.session)
    here.hear(0)
    assert here.told == ["u"]
