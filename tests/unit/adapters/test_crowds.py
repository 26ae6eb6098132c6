"""Who has to give a place away."""

from adsum.adapters.crowds import Crowds


def test_the_largest_come_first_and_none_that_is_smaller_than_ones_own() -> None:
    crowds: Crowds[str] = Crowds()
    for name in ("a1", "b1", "b2", "c1", "b3", "c2"):
        crowds.join(name, name[0])
    assert [list(crowd) for crowd in crowds.as_large_as_of("c2")] == [["b1", "b2", "b3"], ["c1", "c2"]]
    crowds.leave("b1")
    assert [list(crowd) for crowd in crowds.as_large_as_of("c2")] == [["b2", "b3"], ["c1", "c2"]]
    assert [len(crowd) for crowd in crowds.as_large_as_of("a1")] == [2, 2, 1]


def test_who_has_left_leaves_nothing_behind() -> None:
    crowds: Crowds[str] = Crowds()
    crowds.join("a", "here")
    crowds.leave("a")
    crowds.leave("a")
    assert len(crowds) == 0
    assert not crowds._crowds
