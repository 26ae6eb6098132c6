"""The four multi-login policies, as tables."""

import pytest

from adsum.domain.login import LoginPolicy, kicks
from adsum.domain.platforms import PRESETS, Platform

BY_ID = {platform.id: platform for platform in PRESETS["openim"]}
PCS = {3, 4, 7}
MOBILES = {1, 2, 11}
PADS = {8, 9}


def kicked_by(policy: LoginPolicy, newcomer: Platform) -> set[int]:
    return {other.id for other in BY_ID.values() if kicks(policy, newcomer, other)}


@pytest.mark.parametrize("platform", BY_ID.values(), ids=lambda p: p.name)
def test_policy_0(platform: Platform) -> None:
    """Nobody is kicked."""
    assert kicked_by(LoginPolicy(0), platform) == set()


@pytest.mark.parametrize("platform", BY_ID.values(), ids=lambda p: p.name)
def test_policy_1(platform: Platform) -> None:
    """The same platform is kicked."""
    assert kicked_by(LoginPolicy(1), platform) == {platform.id}


@pytest.mark.parametrize("platform", BY_ID.values(), ids=lambda p: p.name)
def test_policy_4(platform: Platform) -> None:
    """The same class is kicked."""
    expected = next((group for group in (PCS, MOBILES, PADS) if platform.id in group), {platform.id})
    assert kicked_by(LoginPolicy(4), platform) == expected


@pytest.mark.parametrize("platform", BY_ID.values(), ids=lambda p: p.name)
def test_policy_5(platform: Platform) -> None:
    """A PC kicks nobody, any other platform all that are no PCs."""
    assert kicked_by(LoginPolicy(5), platform) == (set() if platform.id in PCS else set(BY_ID) - PCS)


@pytest.mark.parametrize("number", [2, 3, 6, -1])
def test_other_numbers_are_no_policies(number: int) -> None:
    """OpenIM's other numbers need a view of all gateways, which this service does not wait for."""
    with pytest.raises(ValueError, match=str(number)):
        LoginPolicy(number)
