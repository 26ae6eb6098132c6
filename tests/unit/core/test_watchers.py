"""Who watches whom."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adsum.core.watchers import UNREAD, Watched, WatchTable
from adsum.wire.protobuf import encode_elem
from tests.support.sessions import make_session
from tests.support.world import IOS, WEB

USERS = st.lists(st.sampled_from("abcdef"), max_size=4)


def test_a_state_replaces_older_ones_only() -> None:
    """In whatever order readings and the feed arrive, the newest version stays."""
    user = Watched("u")
    assert user.version == UNREAD
    assert user.learn(IOS, 5)
    assert not user.learn(0, 4)
    assert not user.learn(WEB, 5)
    assert (user.mask, user.version) == (IOS, 5)
    assert not user.learn(IOS, 9), "newer, but nothing changed"
    assert not user.learn(0, 8), "so it is known until 9"
    assert user.learn(0, 10)


def test_the_first_state_may_be_of_version_0() -> None:
    """A user read from an empty store is known to be offline."""
    user = Watched("u")
    assert not user.learn(0, 0)
    assert user.version == 0


def test_an_entry_is_encoded_once_until_the_platforms_change() -> None:
    """Every watcher gets the same bytes."""
    user = Watched("ü")
    user.learn(IOS | WEB, 1)
    first = user.elem
    assert first == encode_elem("ü", (1, 5))
    user.learn(IOS | WEB, 2)
    assert user.elem is first
    user.learn(0, 3)
    assert user.elem == encode_elem("ü", ())


def test_those_of_whom_nothing_is_known_are_told_apart() -> None:
    """Who begins to watch learns which users must be read first."""
    table = WatchTable()
    assert table.watch(make_session("w"), ["a", "b"]) == ["a", "b"]
    known = table.get("a")
    assert known is not None
    known.learn(0, 0)
    assert table.watch(make_session("x"), ["a", "b", "c"]) == ["b", "c"]


class WatchMachine(RuleBasedStateMachine):
    """Watching, ending and forgetting in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.table = WatchTable()
        self.watchers = [make_session(f"w{i}") for i in range(3)]
        self.pairs: set[tuple[int, str]] = set()

    @rule(index=st.integers(0, 2), users=USERS)
    def watch(self, index: int, users: list[str]) -> None:
        self.table.watch(self.watchers[index], users)
        self.pairs |= {(index, user) for user in users}

    @rule(index=st.integers(0, 2), users=USERS)
    def unwatch(self, index: int, users: list[str]) -> None:
        self.table.unwatch(self.watchers[index], users)
        self.pairs -= {(index, user) for user in users}

    @rule(index=st.integers(0, 2))
    def forget(self, index: int) -> None:
        self.table.forget(self.watchers[index])
        self.pairs = {pair for pair in self.pairs if pair[0] != index}
        assert self.watchers[index].watching is None

    @invariant()
    def both_sides_agree(self) -> None:
        assert self.table.links == len(self.pairs)
        assert set(self.table.users()) == {user for _, user in self.pairs}
        assert len(self.table) == len({user for _, user in self.pairs})
        for index, watcher in enumerate(self.watchers):
            mine = {user for other, user in self.pairs if other == index}
            assert set(watcher.watching or ()) == mine
            for user in "abcdef":
                watched = self.table.get(user)
                assert (watched is not None and watcher in watched.watchers) == (user in mine)


TestWatchTable = WatchMachine.TestCase
TestWatchTable.settings = settings(max_examples=60, stateful_step_count=25)
