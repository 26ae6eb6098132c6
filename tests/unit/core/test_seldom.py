"""Lines now and then."""

from adsum.core.seldom import Seldom


def test_the_first_is_told_at_once_and_the_others_are_counted() -> None:
    seldom = Seldom(100)
    assert [seldom.due(now_ms) for now_ms in (5, 6, 104, 105, 106, 1_000)] == [1, 0, 0, 3, 0, 2]
