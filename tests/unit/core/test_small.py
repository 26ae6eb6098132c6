"""The small machines: backoff, operation IDs, ended tokens, the timer wheel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.core.backoff import backoff_ms
from adsum.core.opids import OpIds
from adsum.core.pace import BUSY_WRITES, CALM_WRITES, WINDOW_MS, Pace
from adsum.core.revoked import Revoked
from adsum.core.wheel import Wheel


@pytest.mark.parametrize(("attempt", "least", "most"), [(1, 50, 100), (2, 100, 200), (3, 200, 400), (7, 2_500, 5_000)])
def test_a_wait_doubles_up_to_its_bound_and_is_spread_over_its_upper_half(attempt: int, least: int, most: int) -> None:
    """Retry n waits between half and the whole of 100 ms doubled n - 1 times, at most 5 s."""
    assert backoff_ms(attempt, 100, 5_000, 0.0) == least
    assert least < backoff_ms(attempt, 100, 5_000, 0.9999) <= most


@given(st.integers(1, 10**9), st.integers(1, 10_000), st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_too_long(attempt: int, least_ms: int, most_ms: int, jitter: float) -> None:
    """Whatever the attempt, the wait is bounded and not negative."""
    assert 0 <= backoff_ms(attempt, least_ms, most_ms, jitter) <= most_ms


def test_operation_ids_are_a_prefix_and_a_counter() -> None:
    """No ID comes twice from one process."""
    next_id = OpIds("node-1a2b")
    assert [next_id() for _ in range(3)] == ["node-1a2b-1", "node-1a2b-2", "node-1a2b-3"]


def test_ended_tokens_are_remembered_up_to_a_bound() -> None:
    """The newest are kept; the oldest gives way."""
    revoked = Revoked(most=3)
    for digest in (b"a", b"b", b"c", b"c", b"d"):
        revoked.add(digest)
    assert b"a" not in revoked
    assert all(digest in revoked for digest in (b"b", b"c", b"d"))


def test_the_wheel_gives_each_item_once_when_it_is_due() -> None:
    """An item comes up at its time or up to a tick later, and then no more."""
    wheel: Wheel[str] = Wheel(1_000, 0)
    wheel.put("a", 2_500)
    wheel.put("b", 1_000)
    assert wheel.turn(999) == []
    assert wheel.turn(1_000) == ["b"]
    assert wheel.turn(2_999) == []
    assert wheel.turn(3_000) == ["a"]
    assert wheel.turn(100_000) == []


def test_an_item_due_already_comes_with_the_next_tick() -> None:
    """Nothing put into the wheel is ever missed, however late it is put."""
    wheel: Wheel[str] = Wheel(1_000, 50_000)
    wheel.put("late", 0)
    assert wheel.turn(50_999) == []
    assert wheel.turn(51_000) == ["late"]


def test_an_item_can_be_taken_out() -> None:
    """What was removed does not come up; removing what came up already is nothing."""
    wheel: Wheel[str] = Wheel(1_000, 0)
    slot = wheel.put("a", 2_000)
    assert wheel
    wheel.remove("a", slot)
    assert not wheel
    wheel.remove("a", slot)
    assert wheel.turn(10_000) == []
    slot = wheel.put("b", 11_000)
    assert wheel.turn(11_000) == ["b"]
    wheel.remove("b", slot)
    assert not wheel._slots


@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.booleans()), max_size=40),
    st.lists(st.integers(0, 3_000), max_size=40),
)
def test_the_wheel_is_never_early_and_never_a_tick_late(puts: list[tuple[int, bool]], moves: list[int]) -> None:
    """Turned at any times, each item not taken out comes up at the first turn a tick past its time, or before."""
    wheel: Wheel[int] = Wheel(1_000, 0)
    due: dict[int, int] = {}
    for item, (due_ms, stays) in enumerate(puts):
        slot = wheel.put(item, due_ms)
        if stays:
            due[item] = due_ms
        else:
            wheel.remove(item, slot)
    now_ms = 0
    for move in [*moves, 30_000]:
        now_ms += move
        for item in wheel.turn(now_ms):
            assert due.pop(item) <= now_ms
        assert all(due_ms + 1_000 > now_ms for due_ms in due.values())
    assert not due
    assert not wheel._slots


LANES = 3


def writes(pace: Pace, count: int, window: int) -> list[bool]:
    """What is said of so many writes, spread over a window."""
    return [pace.under_load((window * count + number) * WINDOW_MS // count) for number in range(count)]


def test_load_begins_with_many_writes_in_a_window_and_lasts_while_there_are_some() -> None:
    """A burst is load from its last write on; what rests then make keeps it up; a calm window ends it."""
    pace, busy, calm = Pace(LANES), BUSY_WRITES * LANES, CALM_WRITES * LANES
    assert not any(writes(pace, busy - 1, 10))
    assert writes(pace, busy, 11) == [False] * (busy - 1) + [True]
    assert all(writes(pace, calm, 12))
    assert all(writes(pace, calm - 1, 13))
    assert not any(writes(pace, calm, 14))


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_lanes_that_rest_keep_load_up_and_do_not_begin_it(lanes: int) -> None:
    """However many there are, each makes ten writes in a window."""
    pace = Pace(lanes)
    assert not any(writes(pace, 10 * lanes, 10))
    assert writes(pace, BUSY_WRITES * lanes, 11)[-1]
    assert all(all(writes(pace, 10 * lanes, window)) for window in range(12, 20))


def test_load_long_past_is_none() -> None:
    pace = Pace(1)
    assert writes(pace, BUSY_WRITES, 10)[-1]
    assert not any(writes(pace, CALM_WRITES, 20))
