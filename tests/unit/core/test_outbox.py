"""What watchers are owed, and the frames that pay it."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.core.known import KnownTable
from adsum.core.outbox import MAX_PUSH_BYTES, Press, owe
from adsum.core.session import Session
from adsum.wire.frames import CODECS, Codec
from tests.support.sessions import LIMIT, make_session, tips
from tests.support.world import IOS, WEB


def table_of(users: Iterable[str], mask: int = IOS) -> KnownTable:
    """A table in which somebody watches these users, who are on the platforms of the mask."""
    table = KnownTable(1, 0)
    table.watch(make_session("watcher"), users)
    for user_id in users:
        user = table.find(user_id)
        assert user is not None
        user.learn(mask, 1)
    return table


def owing(users: Iterable[str], codec: Codec = CODECS[0]) -> Session:
    session = make_session("s", codec=codec)
    for user_id in users:
        owe(session, user_id)
    return session


def told(session: Session, frames: Iterable[bytes]) -> list[dict[str, tuple[int, ...]]]:
    return [tips(session.codec.decode_response(frame, LIMIT).data) for frame in frames]


def test_a_user_is_owed_once() -> None:
    """Owing a user again says so and adds nothing: a slow watcher is owed no queue."""
    session = make_session("s")
    assert [owe(session, user_id) for user_id in "aab"] == [False, True, False]
    assert list(session.owed or ()) == ["a", "b"]


def test_all_that_is_owed_goes_in_one_frame() -> None:
    """Several changes for one watcher are one frame, and then nothing is owed."""
    session = owing("abc")
    assert told(session, Press(table_of("abc")).frames(session)) == [{"a": (1,), "b": (1,), "c": (1,)}]
    assert session.owed is None


def test_a_frame_says_what_is_true_when_it_is_made() -> None:
    """The state goes in with the frame, not with the debt."""
    table = table_of("a", IOS)
    session = owing("a")
    user = table.find("a")
    assert user is not None
    user.learn(WEB, 2)
    user.learn(0, 3)
    assert told(session, Press(table).frames(session)) == [{"a": ()}]


@pytest.mark.parametrize("codec", CODECS)
def test_a_frame_is_made_once_for_a_codec_and_set_of_users(codec: Codec) -> None:
    """A thousand connections that are owed the same get the very same bytes."""
    press = Press(table_of("abc"))
    first, *others = [frame for _ in range(1_000) for frame in press.frames(owing("abc", codec))]
    assert all(frame is first for frame in others)
    assert len(others) == 999
    assert len(press._frames) == 1


def test_codecs_and_sets_do_not_mix() -> None:
    """Each codec has its frame, and each set of users."""
    press = Press(table_of("abc"))
    sessions = [owing(users, codec) for codec in CODECS for users in ("abc", "ab")]
    for session in sessions:
        owed = dict.fromkeys(session.owed or (), (1,))
        assert told(session, press.frames(session)) == [owed]
    assert len(press._frames) == 8


def test_nobody_owed_is_no_frame() -> None:
    """A connection that is owed nothing gets nothing."""
    assert list(Press(table_of("a")).frames(make_session("s"))) == []


def test_a_user_nobody_watches_any_more_is_not_told_of() -> None:
    """A debt about a user who left the table is void; a frame of such users only is not sent."""
    session = owing(["gone", "a"])
    assert told(session, Press(table_of("a")).frames(session)) == [{"a": (1,)}]
    session = owing(["gone", "left"])
    assert list(Press(table_of("a")).frames(session)) == []
    assert session.owed is None


def test_ten_thousand_changes_are_split() -> None:
    """A push stays under its bound, and all frames together name everyone once."""
    users = [f"user-{i:05}" for i in range(10_000)]
    session = owing(users)
    frames = list(Press(table_of(users)).frames(session))
    parts = told(session, frames)
    assert 1 < len(parts) < 10
    assert sum(map(len, parts)) == 10_000
    assert {user for part in parts for user in part} == set(users)
    assert all(len(session.codec.decode_response(frame, LIMIT).data) <= MAX_PUSH_BYTES for frame in frames)


def test_a_connection_that_stalls_keeps_the_rest_of_its_debt() -> None:
    """Frames not asked for are not paid."""
    users = [f"user-{i:05}" for i in range(10_000)]
    session = owing(users)
    frame = next(Press(table_of(users)).frames(session))
    (part,) = told(session, [frame])
    assert set(session.owed or ()) == set(users) - set(part)


def test_the_last_frame_leaves_no_debt_behind() -> None:
    """Taking the last frame pays all, even if no further one is asked for."""
    session = owing("a")
    next(Press(table_of("a")).frames(session))
    assert session.owed is None


def test_one_huge_user_id_still_goes() -> None:
    """An entry over the bound goes alone rather than never."""
    users = ["x" * (MAX_PUSH_BYTES + 1), "y"]
    session = owing(users)
    assert told(session, Press(table_of(users)).frames(session)) == [{users[0]: (1,)}, {"y": (1,)}]


def test_a_debt_that_ends_while_it_is_paid() -> None:
    """A connection that ends within a send gets no further frame."""
    users = [f"user-{i:05}" for i in range(10_000)]
    session = owing(users)
    frames = Press(table_of(users)).frames(session)
    next(frames)
    session.owed = None
    assert list(frames) == []


@given(st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=6), st.sampled_from(CODECS))
def test_every_debt_is_paid_in_full(debts: list[set[str]], codec: Codec) -> None:
    """Whatever sets of users connections are owed, each is told exactly of its own."""
    table = table_of("abcdef")
    press = Press(table)
    for debt in debts:
        session = owing(sorted(debt), codec)
        words = [user for part in told(session, press.frames(session)) for user in part]
        assert sorted(words) == sorted(debt & set("abcdef"))
