"""The cursor of a follower: what it makes of entries in any order."""

from hypothesis import given
from hypothesis import strategies as st

from adsum.core.feed import FeedCursor, Findings, Verdict
from adsum.domain.presence import FeedEntry


def entry(version: int, partition: int = 0) -> FeedEntry:
    return FeedEntry(partition, version - 1, version, "op", ())


def test_the_next_entry_is_applied_and_an_old_one_ignored() -> None:
    """Versions follow each other; what comes twice counts once."""
    cursor = FeedCursor([5])
    assert cursor.admit(entry(6)) is Verdict.NEXT
    assert cursor.admit(entry(6)) is Verdict.KNOWN
    assert cursor.admit(entry(2)) is Verdict.KNOWN
    assert cursor.version(0) == 6


def test_a_hole_starts_one_catch_up() -> None:
    """Only the first entry after a hole says so; until the catch-up is done the others are held."""
    cursor = FeedCursor([0, 0])
    assert cursor.admit(entry(3)) is Verdict.HOLE
    assert cursor.admit(entry(4)) is Verdict.HELD
    assert cursor.admit(entry(1)) is Verdict.HELD
    assert cursor.behind == 1
    assert cursor.advance(0, 4)
    assert cursor.behind == 0
    assert cursor.admit(entry(5)) is Verdict.NEXT


def test_a_catch_up_that_brought_too_little_goes_on() -> None:
    """While an entry is known of that the catch-up did not bring, it is not done."""
    cursor = FeedCursor([0])
    cursor.admit(entry(3))
    cursor.admit(entry(7))
    assert not cursor.advance(0, 5)
    assert cursor.admit(entry(6)) is Verdict.HELD
    assert cursor.advance(0, 9)
    assert cursor.admit(entry(9)) is Verdict.KNOWN


def test_partitions_catch_up_apart() -> None:
    """A hole in one partition holds no other back."""
    cursor = FeedCursor([0, 0])
    cursor.admit(entry(9, partition=0))
    assert cursor.admit(entry(1, partition=1)) is Verdict.NEXT


@given(st.lists(st.integers(1, 30), max_size=60), st.lists(st.booleans(), min_size=60, max_size=60))
def test_whatever_arrives_each_entry_is_applied_once_and_in_order(arrivals: list[int], fetches: list[bool]) -> None:
    """Lost, late, doubled: a follower that applies NEXT and what it fetches has 1, 2, 3 … and no version twice."""
    cursor = FeedCursor([0])
    applied: list[int] = []
    written = 0

    def fetch() -> None:
        applied.extend(range(cursor.version(0) + 1, written + 1))
        assert cursor.advance(0, written)

    for version, fetch_now in zip(arrivals, fetches, strict=False):
        written = max(written, version)
        if cursor.admit(entry(version)) is Verdict.NEXT:
            applied.append(version)
        if cursor.behind and fetch_now:
            fetch()
    if cursor.behind:
        fetch()
    assert applied == list(range(1, written + 1))


def test_a_version_that_does_not_arrive_is_a_hole_at_the_second_look() -> None:
    """The first look may be ahead of an entry on its way; the second shows that it was lost."""
    cursor = FeedCursor([3, 3])
    assert cursor.look(cursor.versions(), [3, 4]) == Findings((), ())
    assert cursor.look(cursor.versions(), [3, 4]) == Findings((1,), ())
    assert cursor.behind == 1
    assert cursor.admit(entry(5, 1)) is Verdict.HELD
    assert not cursor.advance(1, 4)
    assert cursor.advance(1, 5)
    assert cursor.look(cursor.versions(), [3, 5]) == Findings((), ())


def test_a_version_below_what_was_seen_is_another_past() -> None:
    """A store that came back empty or older is caught up with from where it is."""
    cursor = FeedCursor([9])
    assert cursor.look(cursor.versions(), [2]) == Findings((), (0,))
    assert cursor.advance(0, 2)
    assert cursor.admit(entry(3)) is Verdict.NEXT


def test_entries_that_arrive_while_the_store_is_asked_are_no_other_past() -> None:
    """The store's answer may be older than what arrived meanwhile."""
    cursor = FeedCursor([1])
    seen = cursor.versions()
    assert cursor.admit(entry(2)) is Verdict.NEXT
    assert cursor.look(seen, [1]) == Findings((), ())


def test_a_partition_is_doubtful_while_it_catches_up() -> None:
    """From the hole on until all that is known of has been brought."""
    cursor = FeedCursor([0, 0])
    cursor.admit(entry(3))
    assert cursor.doubtful == {0}
    cursor.admit(entry(5))
    cursor.advance(0, 4)
    assert cursor.doubtful == {0}
    cursor.advance(0, 5)
    assert cursor.doubtful == set()


def test_a_partition_is_doubtful_while_the_store_is_seen_to_be_ahead() -> None:
    """An entry that a look found in the store, and that has not arrived, may be on its way or lost."""
    cursor = FeedCursor([0, 7])
    cursor.look([0, 7], [2, 7])
    assert cursor.doubtful == {0}
    cursor.admit(entry(1))
    assert cursor.doubtful == {0}
    cursor.admit(entry(2))
    assert cursor.doubtful == set()


def test_an_entry_that_arrives_before_the_look_is_answered_leaves_no_doubt() -> None:
    """What the store had at the look is here already."""
    cursor = FeedCursor([0])
    seen = cursor.versions()
    cursor.admit(entry(1))
    cursor.look(seen, [1])
    assert cursor.doubtful == set()


def test_a_partition_with_another_past_is_doubtful() -> None:
    """Until it has been read anew, and if its versions are lower than those seen."""
    cursor = FeedCursor([9])
    assert cursor.look([9], [4]) == Findings((), (0,))
    assert cursor.doubtful == {0}
    assert cursor.advance(0, 4)
    assert cursor.doubtful == set()
