"""A step of the bench that fails takes nothing else with it."""

import asyncio

import pytest

from bench.record import Cost, Part, Phase, Record, Results


def results(part: Part) -> Results:
    return Results({"cores": "2"}, "now", 0, quick=True, parts={"one": part})


def fail(error: Exception) -> None:
    raise error


async def test_a_step_that_fails_leaves_its_reason_and_the_next_goes_on() -> None:
    part = Part([1])
    record = Record(part, quick=True)
    async with record.step("one.broken", 5):
        fail(RuntimeError("first line\nthe service is gone"))
    async with record.step("one.whole", 5):
        record.figure("one.whole.took", 3, "ms")
    found = results(part)
    assert found.why_missing("one.broken.took") == "the service is gone"
    assert found.figures["one.whole.took"].median == 3
    assert found.why_missing("two.took") == "not run"


async def test_a_step_that_takes_too_long_is_ended() -> None:
    part = Part([1])
    async with Record(part, quick=True).step("one.slow", 0.01):
        await asyncio.Event().wait()
    assert "longer" in part.failures["one.slow"]


async def test_a_mistake_of_the_bench_itself_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        async with Record(Part([1]), quick=True).step("one.wrong", 5):
            fail(KeyError("pushes"))


def test_a_round_adds_a_window_to_what_was_measured_before() -> None:
    part = Part([3])
    for round_number, calls in enumerate((300, 100, 200)):
        record = Record(part, quick=False, round_number=round_number)
        record.cost("one.calls", "call", Phase(calls, 1, 0.1, 0, 0.5, 10, reference_us=1 + round_number), 1)
        record.figure("one.calls.took_ms", calls / 100, "ms")
    assert list(part.figures["one.calls.per_s"].windows) == [300, 100, 200]
    assert part.figures["one.calls.per_s"].median == 200
    assert part.figures["one.calls.per_s"].best(least=True) == 300
    assert part.figures["one.calls.took_ms"].best() == 1
    assert part.reference_us("one.calls.per_s") == 2
    assert part.reference_us("one.bytes") == 2.5
    assert len(part.costs["one.calls"].windows) == 3


def test_short_windows_are_no_rough_figure_if_together_they_are_long_enough() -> None:
    short = Phase(1_000, 0.2, 0.1, 0, 0, 10)
    for windows, rough in ((2, True), (3, False)):
        cost = Cost("call", 1, [short] * windows)
        assert cost.per_s.rough is rough
        assert cost.service_us.rough is rough


def test_the_longest_name_gives_the_reason() -> None:
    found = results(Part([1], failures={"one": "all of it", "one.case": "this one", "one.cas": "another"}))
    assert found.why_missing("one.case.took") == "this one"
    assert found.why_missing("one.caseless") == "all of it"


def test_a_phase_becomes_figures_and_a_short_one_rough_figures() -> None:
    part = Part([1])
    record = Record(part, quick=True)
    record.cost("one.long", "call", Phase(1_000, 2, 1, 0.5, 1, 10), 1)
    record.cost("one.short", "call", Phase(1_000, 0.1, 0.05, 0, 0, 10), 1)
    assert part.figures["one.long.per_s"].median == 500
    assert part.figures["one.long.service_us"].median == 1_000
    assert part.figures["one.long.redis_us"].median == 500
    assert not part.figures["one.long.per_s"].rough
    assert part.figures["one.short.per_s"].rough
    assert part.figures["one.short.service_us"].rough
    assert "one.short.redis_us" not in part.figures
    assert part.costs["one.long"].load_share == 0.75
