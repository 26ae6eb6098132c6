"""The connections of a gateway, under every login policy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adsum.core.registry import Registry
from adsum.core.session import Session
from adsum.domain.errors import TooManyConnections
from adsum.domain.login import LoginPolicy, kicks
from tests.support.sessions import PLATFORMS, make_session
from tests.support.world import ANDROID, IOS, WEB, WINDOWS

IOS_ID, ANDROID_ID, WINDOWS_ID, OSX_ID, WEB_ID, MINI_ID, LINUX_ID = range(1, 8)


def make(policy: LoginPolicy = LoginPolicy.KICK_NOBODY, most: int = 100, per_user: int = 100) -> Registry:
    return Registry(policy, most, per_user)


def platforms_left(policy: LoginPolicy, *logins: int) -> list[int]:
    """The platforms connected after logins of one user in this order, each with a token of its own."""
    registry = make(policy)
    for platform_id in logins:
        registry.add(make_session("u", platform_id))
    return [session.platform.id for session in registry.sessions("u")]


def test_policy_0_kicks_nobody() -> None:
    """All logins stay."""
    assert platforms_left(LoginPolicy.KICK_NOBODY, IOS_ID, IOS_ID, WEB_ID) == [IOS_ID, IOS_ID, WEB_ID]


def test_policy_1_kicks_the_same_platform() -> None:
    """A login ends the user's others of its platform only."""
    assert platforms_left(LoginPolicy.KICK_SAME_PLATFORM, IOS_ID, ANDROID_ID, IOS_ID) == [ANDROID_ID, IOS_ID]


def test_policy_4_kicks_the_same_class() -> None:
    """A login ends the user's others of its class: a phone the other phone, a PC the other PC."""
    left = platforms_left(LoginPolicy.KICK_SAME_CLASS, IOS_ID, WINDOWS_ID, WEB_ID, MINI_ID, LINUX_ID, ANDROID_ID)
    assert left == [WEB_ID, MINI_ID, LINUX_ID, ANDROID_ID]


def test_policy_5_lets_pcs_be() -> None:
    """A PC login kicks nobody; any other login ends everything that is no PC."""
    policy = LoginPolicy.PC_AND_ONE_OTHER
    assert platforms_left(policy, IOS_ID, WINDOWS_ID, OSX_ID) == [IOS_ID, WINDOWS_ID, OSX_ID]
    assert platforms_left(policy, WINDOWS_ID, IOS_ID, WEB_ID) == [WINDOWS_ID, WEB_ID]
    assert platforms_left(policy, WINDOWS_ID, WINDOWS_ID, IOS_ID, IOS_ID) == [WINDOWS_ID, WINDOWS_ID, IOS_ID]


@pytest.mark.parametrize("policy", LoginPolicy)
def test_a_reconnect_with_the_same_token_kicks_nothing(policy: LoginPolicy) -> None:
    """A client whose old connection is still here does not end itself."""
    registry = make(policy)
    old, new = make_session("u", IOS_ID, "token"), make_session("u", IOS_ID, "token")
    registry.add(old)
    assert registry.add(new) == []
    assert list(registry.sessions("u")) == [old, new]


@pytest.mark.parametrize("policy", LoginPolicy)
def test_a_login_kicks_no_other_user(policy: LoginPolicy) -> None:
    """Policies are about one user's connections."""
    registry = make(policy)
    registry.add(make_session("a"))
    assert registry.add(make_session("b")) == []
    assert len(registry) == 2


def test_the_kicked_are_gone_at_once() -> None:
    """What add returns is registered no longer, and removing it again says so."""
    registry = make(LoginPolicy.KICK_SAME_PLATFORM)
    old = make_session("u", IOS_ID)
    registry.add(old)
    assert registry.add(make_session("u", IOS_ID)) == [old]
    assert not registry.remove(old)
    assert len(registry) == 1


def test_the_mask_follows_the_connections() -> None:
    """A platform shows while one connection of it is left, and a user with none is not here."""
    registry = make()
    first, second, web = make_session("u", IOS_ID), make_session("u", IOS_ID), make_session("u", WEB_ID)
    for session in (first, second, web):
        registry.add(session)
    assert registry.mask("u") == IOS | WEB
    assert registry.remove(first)
    assert registry.mask("u") == IOS | WEB
    assert registry.remove(second)
    assert registry.mask("u") == WEB
    assert registry.remove(web)
    assert not registry.remove(web)
    assert (registry.mask("u"), registry.users(), len(registry)) == (0, [], 0)
    assert not registry._users


def test_a_full_gateway_refuses() -> None:
    """The limit of all connections holds for anyone new."""
    registry = make(most=2)
    registry.add(make_session("a"))
    registry.add(make_session("b"))
    with pytest.raises(TooManyConnections):
        registry.check_room(make_session("c"))


def test_a_user_with_enough_connections_is_refused() -> None:
    """The limit of one user's connections holds for that user alone."""
    registry = make(per_user=2)
    registry.add(make_session("a"))
    registry.add(make_session("a"))
    with pytest.raises(TooManyConnections):
        registry.check_room(make_session("a"))
    registry.check_room(make_session("b"))


def test_whoever_a_login_kicks_makes_room() -> None:
    """At both limits, a login that ends another connection may come; one that ends none may not."""
    registry = make(LoginPolicy.KICK_SAME_PLATFORM, most=2, per_user=1)
    registry.add(make_session("a", IOS_ID, "t1"))
    registry.add(make_session("b", IOS_ID))
    registry.check_room(make_session("a", IOS_ID, "t2"))
    with pytest.raises(TooManyConnections):
        registry.check_room(make_session("a", IOS_ID, "t1"))
    with pytest.raises(TooManyConnections):
        registry.check_room(make_session("a", WEB_ID))


@given(
    st.sampled_from(LoginPolicy),
    st.lists(
        st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(1, 11), st.sampled_from(["t1", "t2", "t3"])),
        max_size=40,
    ),
)
@settings(max_examples=150)
def test_the_registry_is_the_list_of_connections(policy: LoginPolicy, moves: list[tuple[bool, str, int, str]]) -> None:
    """Counts, masks and users are always those of the connections that came and did not go."""
    registry = make(policy)
    here: list[Session] = []
    for comes, user_id, platform_id, token in moves:
        if comes:
            session = make_session(user_id, platform_id, token)
            kicked = [
                other
                for other in here
                if other.user_id == user_id
                and other.identity.digest != session.identity.digest
                and kicks(policy, session.platform, other.platform)
            ]
            assert registry.add(session) == kicked
            here = [other for other in here if other not in kicked] + [session]
        elif here:
            assert registry.remove(here.pop(0))
        assert len(registry) == len(here)
        assert set(registry.users()) == {session.user_id for session in here}
        assert set(registry.all_sessions()) == set(here)
        for user in "abc":
            platforms = {session.platform.id for session in here if session.user_id == user}
            assert registry.mask(user) == sum(1 << i for i in platforms)


def test_masks_are_of_platform_ids() -> None:
    """The mask's bits are the platforms' IDs."""
    registry = make()
    for platform in (IOS_ID, ANDROID_ID, WINDOWS_ID, WEB_ID):
        registry.add(make_session("u", platform))
    assert registry.mask("u") == IOS | ANDROID | WINDOWS | WEB == PLATFORMS.check([1, 2, 3, 5])
