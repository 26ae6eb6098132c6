"""The values of presence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.presence import OFFLINE, ONLINE, Cause, Census, HoldBatch, HoldState, Reading, TimedEdit


def test_online_is_1() -> None:
    """As in OpenIM's messages."""
    assert (OFFLINE, ONLINE) == (0, 1)


def test_a_cause_is_optional() -> None:
    """Holds and edits that nothing in particular caused have an empty cause."""
    assert HoldState("u", 2).cause == TimedEdit("u", 2, 0).cause == Cause("", background=False)


def test_values_do_not_change() -> None:
    """What was given to a store stays what it was."""
    batch = HoldBatch("g", 0, 1, "op", ())
    with pytest.raises(AttributeError):
        batch.seq = 2  # type: ignore[misc]


def test_values_equal_by_content() -> None:
    """Two readings or counts of the same are the same."""
    assert Reading(2, 7) == (2, 7)
    assert Census(1, {1: 1}) == Census(1, {1: 1})


MASKS = st.integers(0, 0b1111).map(lambda mask: mask << 1)


@given(MASKS, MASKS, MASKS, MASKS, MASKS)
def test_one_edit_does_what_two_do(held: int, on: int, off: int, on_later: int, off_later: int) -> None:
    """Whatever is held before: what ends up held, what got a new deadline, and the later cause."""
    first, later = TimedEdit("u", on, off), TimedEdit("u", on_later, off_later, Cause("c"))
    both = first.then(later)
    assert held & ~both.offline | both.online == (held & ~off | on) & ~off_later | on_later
    assert both.online == on & ~off_later | on_later
    assert both.cause == Cause("c")
