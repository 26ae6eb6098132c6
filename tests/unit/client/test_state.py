"""What a client knows, and what its program has not read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.client import state
from adsum.client.protocol import Kicked
from adsum.client.state import Inbox, Lost, Restored, Watchlist
from adsum.wire.protobuf import UserStatus

STATUSES = st.builds(UserStatus, st.sampled_from("abc"), st.sampled_from([(), (1,), (1, 5)]))


def drain(inbox: Inbox) -> list[state.Event]:
    return list(iter(inbox.take, None))


@given(st.lists(STATUSES))
def test_a_slow_reader_gets_the_newest_of_each_user(statuses: list[UserStatus]) -> None:
    inbox = Inbox()
    assert all(inbox.put(status) for status in statuses)
    assert {status.user_id: status for status in statuses} == {s.user_id: s for s in drain(inbox)}  # type: ignore[union-attr]


def test_a_restless_user_keeps_its_place() -> None:
    inbox = Inbox()
    for status in (UserStatus("a", (1,)), UserStatus("b", (1,)), UserStatus("a", ())):
        inbox.put(status)
    assert drain(inbox) == [UserStatus("a", ()), UserStatus("b", (1,))]


def test_the_last_word_on_the_connection_is_the_newest_and_comes_last() -> None:
    inbox = Inbox()
    for event in (Lost("x", 1), UserStatus("a", ()), Restored(), UserStatus("b", ()), Kicked()):
        inbox.put(event)
    assert drain(inbox) == [UserStatus("a", ()), UserStatus("b", ()), Kicked()]


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_WAITING", 2)
    inbox = Inbox()
    assert inbox.put(UserStatus("a", ()))
    assert inbox.put(UserStatus("b", ()))
    assert inbox.put(UserStatus("b", (1,)))
    assert not inbox.put(UserStatus("c", ()))


def test_only_what_differs_from_the_last_word_is_news() -> None:
    watchlist = Watchlist()
    alice, bob = UserStatus("alice", (1,)), UserStatus("bob", ())
    assert watchlist.add([alice, bob]) == [alice, bob]
    assert watchlist.news([alice, UserStatus("bob", (5,))]) == [UserStatus("bob", (5,))]
    assert watchlist.add([alice, UserStatus("bob", (5,))]) == []
    assert watchlist.users == ["alice", "bob"]


def test_a_user_not_watched_here_is_news_each_time() -> None:
    watchlist = Watchlist()
    eve = UserStatus("eve", (1,))
    assert watchlist.news([eve]) == watchlist.news([eve]) == [eve]
    watchlist.add([eve])
    watchlist.drop(["eve", "nobody"])
    assert watchlist.users == []
    assert watchlist.news([eve]) == [eve]
