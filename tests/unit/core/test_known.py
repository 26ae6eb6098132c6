"""Users known here: who is watched by whom, who was asked for lately, and what may be answered of them."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from adsum.core.feed import FeedCursor
from adsum.core.known import MAX_CHANCES, UNREAD, Known, KnownTable, entries_of
from adsum.domain.presence import FeedEntry, Reading
from adsum.proto import user_pb2 as pb
from adsum.wire.protobuf import encode_elem
from tests.support.sessions import make_session
from tests.support.world import IOS, WEB

USERS = st.lists(st.sampled_from("abcdef"), max_size=4)
ANY = FeedCursor([0])
"""A feed that is sound, at version 0."""


def teach(table: KnownTable, *user_ids: str) -> None:
    """Give those users room who are not there, and have something known of each."""
    for user_id in user_ids:
        user = table.find(user_id) or table.enter(user_id)
        user.learn(IOS, 1)


def hot(table: KnownTable) -> list[str]:
    return [user.user_id for user in table.hot()]


# A user


def test_a_state_replaces_older_ones_only() -> None:
    """In whatever order readings and the feed arrive, the newest version stays."""
    user = Known("u", 0)
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
    user = Known("u", 0)
    assert not user.learn(0, 0)
    assert user.version == 0


def test_an_entry_is_encoded_once_until_the_platforms_change() -> None:
    """Every watcher gets the same bytes, and every caller."""
    user = Known("ü", 0)
    user.learn(IOS | WEB, 1)
    elem = user.elem
    assert elem == encode_elem("ü", (1, 5))
    assert entries_of([user, user]) == answer("ü", 1, (1, 5)) * 2
    entry = user.entry
    user.learn(IOS | WEB, 2)
    assert user.elem is elem
    assert user.entry is entry
    user.learn(0, 3)
    assert user.elem == encode_elem("ü", ())
    assert entries_of([user]) == answer("ü", 0, ())


def answer(user_id: str, status: int, platform_ids: tuple[int, ...]) -> bytes:
    entry = pb.onlineStatus(userID=user_id, status=status, platformIDs=platform_ids)
    return pb.getUserStatusResp(statusList=[entry]).SerializeToString()


def test_nothing_is_answered_of_one_of_whom_nothing_is_known() -> None:
    """What the feed or a reading tells first is an answer."""
    user = Known("u", 0)
    assert not user.answers(ANY)
    user.learn(0, 0)
    assert user.answers(ANY)


def test_nothing_is_answered_where_the_feed_is_behind() -> None:
    """A partition that catches up is in doubt, another is not."""
    cursor = FeedCursor([0, 0])
    cursor.admit(FeedEntry(0, 7, 8, "op", ()))
    users = [Known("u", 0), Known("v", 1)]
    for user in users:
        user.learn(IOS, 0)
    assert [user.answers(cursor) for user in users] == [False, True]
    cursor.advance(0, 8)
    assert users[0].answers(cursor)


def test_a_reading_teaches_only_one_of_whom_nothing_is_known() -> None:
    """Others hear from the feed; until it is as far as the reading, they are not answered for."""
    cursor = FeedCursor([3])
    user = Known("u", 0)
    user.fetched(Reading(IOS, 5), newest=True)
    assert (user.mask, user.version, user.answers(cursor)) == (IOS, 5, True)
    user.fetched(Reading(WEB, 6), newest=True)
    assert (user.mask, user.version, user.answers(cursor)) == (IOS, 5, False)
    cursor.advance(0, 6)
    assert user.answers(cursor)


def test_an_earlier_reading_that_was_told_is_not_taken_back() -> None:
    """Two readings are under way, and the first is answered first: its caller knows more than the feed has brought."""
    cursor = FeedCursor([3])
    user = Known("u", 0)
    user.learn(IOS, 3)
    user.fetched(Reading(WEB, 5), newest=False)
    assert not user.answers(cursor)
    user.fetched(Reading(IOS, 4), newest=True)
    cursor.advance(0, 4)
    assert not user.answers(cursor), "the first reading has told of version 5"
    cursor.advance(0, 5)
    assert user.answers(cursor)


def test_one_who_was_written_is_read_again() -> None:
    """A reading that began before says nothing about it, nor does the feed; one that begins after does."""
    cursor = FeedCursor([3])
    user = Known("u", 0)
    user.learn(IOS, 3)
    user.distrust()
    user.fetched(Reading(IOS, 3), newest=False)
    user.learn(WEB, 4)
    assert not user.answers(cursor)
    user.fetched(Reading(WEB, 4), newest=True)
    assert user.answers(cursor)


# The table


def test_those_of_whom_nothing_is_known_are_told_apart() -> None:
    """Who begins to watch learns which users must be read first."""
    table = KnownTable(1, 0)
    assert table.watch(make_session("w"), ["a", "b"]) == ["a", "b"]
    known = table.find("a")
    assert known is not None
    known.learn(0, 0)
    assert table.watch(make_session("x"), ["a", "b", "c"]) == ["b", "c"]


def test_a_table_without_room_keeps_only_the_watched() -> None:
    """Hot users can be turned off."""
    table = KnownTable(1, 0)
    watcher = make_session("w")
    table.watch(watcher, ["a"])
    teach(table, "a")
    assert not table.room
    assert table.note(["b"]) == table.note(["b"]) == set()
    table.forget(watcher)
    assert (table.watched_users, table.hot_users) == (0, 0)


def test_more_users_than_there_is_room_for() -> None:
    """However many get room, the bound holds, and the last stay."""
    table = KnownTable(4, 100)
    for i in range(10_000):
        table.enter(f"u{i}")
        assert table.hot_users <= 100
    assert hot(table) == [f"u{i}" for i in range(9_900, 10_000)]


def test_who_was_asked_for_stays_before_who_was_not() -> None:
    """Asking in either way keeps a user; a second time, it must be asked for again."""
    table = KnownTable(1, 3)
    teach(table, "a", "b", "c")
    table.ask(["a", "b"], ANY)
    table.enter("d")
    assert hot(table) == ["a", "b", "d"]
    table.enter("e")
    assert hot(table) == ["b", "d", "e"]


def test_where_everyone_was_asked_for_somebody_goes_all_the_same() -> None:
    """Nobody is looked at twice, and not everyone at once."""
    table = KnownTable(1, MAX_CHANCES + 2)
    users = [f"u{i}" for i in range(MAX_CHANCES + 2)]
    teach(table, *users)
    table.ask(users, ANY)
    table.enter("new")
    assert table.find(users[MAX_CHANCES]) is None
    assert hot(table) == [users[-1], *users[:MAX_CHANCES], "new"]
    small = KnownTable(1, 2)
    teach(small, "a", "b")
    small.ask(["a", "b"], ANY)
    small.enter("c")
    assert hot(small) == ["b", "c"]


def test_the_watched_are_never_pushed_out() -> None:
    """They take no room of the others', and are the last to go when watching ends."""
    table = KnownTable(1, 2)
    watcher = make_session("w")
    teach(table, "a")
    table.watch(watcher, ["a", "x"])
    teach(table, "b", "c", "d", "x")
    assert (table.watched_users, hot(table)) == (2, ["c", "d"])
    table.unwatch(watcher, ["a"])
    assert hot(table) == ["d", "a"]
    assert table.get("x") is not None


def test_one_of_whom_nothing_is_known_does_not_stay() -> None:
    """When watching ends before the user was read, there is nothing to keep."""
    table = KnownTable(1, 2)
    watcher = make_session("w")
    table.watch(watcher, ["a"])
    table.forget(watcher)
    assert table.find("a") is None


def test_who_is_asked_for_again_is_told_from_who_is_not() -> None:
    """Of those asked for before no more are remembered than there is room for: the last."""
    table = KnownTable(1, 3)
    assert table.note(["a", "b"]) == set()
    assert table.note(["b", "c"]) == {"b"}
    assert table.note(["a", "d"]) == {"a"}
    assert table.note(["b", "c"]) == set(), "too many: from here on they are noted anew"
    assert table.note([f"u{i}" for i in range(100)]) == set()
    assert table.note([f"u{i}" for i in range(100)]) == {"u97", "u98", "u99"}


def test_all_or_nobody_is_answered() -> None:
    """Repeated users are answered as often as they were asked for."""
    table = KnownTable(1, 5)
    teach(table, "a", "b")
    table.watch(make_session("w"), ["c"])
    found = table.ask(["b", "a", "b"], ANY)
    assert found is not None
    assert [user.user_id for user in found] == ["b", "a", "b"]
    assert table.ask(["a", "c"], ANY) is None
    assert table.ask(["a", "z"], ANY) is None
    recalled = table.recall(["a", "a"])
    assert recalled is not None
    assert len(recalled) == 2
    assert table.recall(["a", "c"]) is None


def test_one_partition_is_forgotten() -> None:
    """The watched stay, and so do the other partitions."""
    table = KnownTable(2, 10)
    table.watch(make_session("w"), ["a", "b"])
    teach(table, "a", "b", "c", "d", "e", "f")
    table.cool({0})
    assert table.watched_users == 2
    assert table.hot()
    assert all(user.partition == 1 for user in table.hot())
    table.cool()
    assert (table.watched_users, table.hot_users) == (2, 0)


class TableMachine(RuleBasedStateMachine):
    """Watching, asking, learning and forgetting in any order, against a list kept by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.table = KnownTable(2, 0)
        self.room = 0
        self.watchers = [make_session(f"w{i}") for i in range(3)]
        self.pairs: set[tuple[int, str]] = set()
        self.hot: list[str] = []
        self.asked: set[str] = set()
        self.taught: set[str] = set()

    @initialize(room=st.sampled_from((0, 1, 2, 10)))
    def make(self, room: int) -> None:
        self.table, self.room = KnownTable(2, room), room

    def watched(self) -> set[str]:
        return {user for _, user in self.pairs}

    def heat(self, user: str) -> None:
        """One who is not hot gets room: the first goes who was not asked for since it got room, or was passed over."""
        if len(self.hot) >= self.room:
            while (first := self.hot.pop(0)) in self.asked:
                self.asked.remove(first)
                self.hot.append(first)
            self.taught.discard(first)
        self.asked.discard(user)
        self.hot.append(user)

    def unwatched(self, user: str) -> None:
        if user not in self.watched():
            if self.room and user in self.taught:
                self.heat(user)
            else:
                self.taught.discard(user)

    @rule(index=st.integers(0, 2), users=USERS)
    def watch(self, index: int, users: list[str]) -> None:
        unread = self.table.watch(self.watchers[index], users)
        assert unread == [user for user in users if user not in self.taught]
        self.pairs |= {(index, user) for user in users}
        self.hot = [user for user in self.hot if user not in users]

    @rule(index=st.integers(0, 2), users=USERS)
    def unwatch(self, index: int, users: list[str]) -> None:
        self.table.unwatch(self.watchers[index], users)
        for user in users:
            if (index, user) in self.pairs:
                self.pairs.remove((index, user))
                self.unwatched(user)

    @rule(index=st.integers(0, 2))
    def forget(self, index: int) -> None:
        order = list(self.watchers[index].watching or ())
        self.table.forget(self.watchers[index])
        assert self.watchers[index].watching is None
        for user in order:
            self.pairs.remove((index, user))
            self.unwatched(user)

    @rule(user=st.sampled_from("abcdef"))
    def enter(self, user: str) -> None:
        if self.table.room and self.table.find(user) is None:
            self.heat(user)
            self.table.enter(user).learn(IOS, 1)
            self.taught.add(user)

    @rule(user=st.sampled_from("abcdef"))
    def learn(self, user: str) -> None:
        known = self.table.find(user)
        if known is not None:
            known.learn(IOS, 1)
            self.taught.add(user)

    @rule(users=USERS)
    def ask(self, users: list[str]) -> None:
        found = self.table.ask(users, ANY)
        assert (found is not None) == (set(users) <= self.taught)
        for user in users:
            if user not in self.taught:
                break
            self.asked.add(user)

    @rule()
    def cool(self) -> None:
        self.table.cool()
        self.taught -= set(self.hot)
        self.hot = []

    @invariant()
    def both_sides_agree(self) -> None:
        watched = self.watched()
        assert self.table.links == len(self.pairs)
        assert {user.user_id for user in self.table.watched()} == watched
        assert (self.table.watched_users, self.table.hot_users) == (len(watched), len(self.hot))
        assert hot(self.table) == self.hot
        for user in "abcdef":
            assert (self.table.get(user) is not None) == (user in self.taught)
        for index, watcher in enumerate(self.watchers):
            mine = {user for other, user in self.pairs if other == index}
            assert set(watcher.watching or ()) == mine
            for user in "abcdef":
                known = self.table.find(user)
                assert (known is not None and watcher in (known.watchers or ())) == (user in mine)


TestKnownTable = TableMachine.TestCase
TestKnownTable.settings = settings(max_examples=80, stateful_step_count=30)
