"""What is known of a partition that is being consumed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.core.consuming import Course, excess, fair_share
from adsum.domain.presence import FeedEntry


def entry(before: int, version: int) -> FeedEntry:
    return FeedEntry(0, before, version, "op", ())


@pytest.mark.parametrize(
    ("partitions", "contenders", "share"), [(64, 1, 64), (64, 3, 22), (2, 4, 1), (64, 64, 1), (64, 0, 64)]
)
def test_shares_are_fair(partitions: int, contenders: int, share: int) -> None:
    assert fair_share(partitions, contenders) == share


@given(st.integers(1, 4_096), st.integers(1, 300))
def test_shares_leave_nothing_unowned(partitions: int, contenders: int) -> None:
    """And no smaller ones would."""
    share = fair_share(partitions, contenders)
    assert (share - 1) * contenders < partitions <= share * contenders


def test_what_leaves_is_beyond_the_share_no_more() -> None:
    """A partition being handed over counts no longer."""
    courses = [Course(partition, 0, 0) for partition in range(4)]
    courses[0].leaves_s = 1.0
    assert excess(courses, 3) == []
    assert excess(courses, 2) == [courses[3]]


def test_the_next_entry_follows() -> None:
    course = Course(0, 5, 5)
    assert course.follows(entry(5, 7))
    course.hand(7)
    assert not course.behind
    assert not course.follows(entry(5, 7)), "known"
    assert course.follows(entry(7, 8))


def test_a_hole_has_to_be_fetched() -> None:
    course = Course(0, 5, 5)
    assert not course.follows(entry(7, 8))
    assert course.behind
    assert not course.caught_up
    course.hand(7)
    assert not course.caught_up
    course.hand(8)
    assert course.caught_up


def test_one_that_begins_in_the_past_is_behind() -> None:
    assert Course(0, 3, 5).behind
    assert not Course(0, 5, 5).behind


def test_a_version_seen_twice_that_never_arrived_was_lost() -> None:
    """Seen once it may be on its way."""
    course = Course(0, 5, 5)
    assert not course.look(8)
    assert course.look(8)
    course.hand(8)
    assert course.caught_up


def test_another_past_is_noticed() -> None:
    """The store's version stays below what was read."""
    course = Course(0, 5, 5)
    course.hand(9)
    assert not course.look(7)
    assert course.look(7)


def test_passing_over_waits_for_what_is_under_way() -> None:
    """What was handed over before the gap is done first."""
    course = Course(0, 0, 0)
    course.hand(1)
    course.skip(9)
    assert (course.position, course.done) == (9, 0)
    course.finish(1)
    assert (course.done, course.clear) == (9, True)


@given(st.integers(1, 30).flatmap(lambda n: st.permutations(range(1, n + 1))))
def test_done_is_what_all_before_is_done(order: list[int]) -> None:
    """In whatever order entries are finished."""
    course = Course(0, 0, 0)
    for version in range(1, len(order) + 1):
        course.hand(version)
    finished = set()
    for version in order:
        course.finish(version)
        finished.add(version)
        assert all(earlier in finished for earlier in range(1, course.done + 1))
        assert course.done + 1 not in finished
    assert course.clear
