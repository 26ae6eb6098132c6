"""What counts as slower."""

from pathlib import Path

import pytest

from bench.check import check, compare
from bench.record import Figure, Part, Phase, Record, Results, as_json


def results(reference_us: float = 1, **figures: Figure) -> Results:
    part = Part([reference_us], figures={f"one.{name}": figure for name, figure in figures.items()})
    return Results({"cores": "2"}, "now", 0, quick=True, parts={"one": part})


def slower(before: Results, now: Results) -> list[str]:
    return [one.name for one in compare(before, now, ["one"])]


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        (Figure((10,), "µs"), Figure((12,), "µs"), False),
        (Figure((10,), "µs"), Figure((13,), "µs"), True),
        (Figure((10,), "µs"), Figure((1,), "µs"), False),
        (Figure((1000,), "/s"), Figure((800,), "/s"), False),
        (Figure((1000,), "/s"), Figure((500,), "/s"), True),
        (Figure((1000,), "/s"), Figure((9000,), "/s"), False),
        (Figure((100,), "B"), Figure((130,), "B"), True),
        (Figure((0,), "users"), Figure((1,), "users"), True),
        (Figure((0,), "users"), Figure((0,), "users"), False),
        (Figure((10,), "µs", rough=True), Figure((99,), "µs"), False),
        (Figure((10,), "µs"), Figure((99,), "µs", rough=True), False),
        (Figure((10,), "frames"), Figure((99,), "frames"), False),
    ],
)
def test_a_figure_is_slower_past_the_tolerance_of_its_unit(was: Figure, now: Figure, *, found: bool) -> None:
    assert slower(results(figure=was), results(figure=now)) == (["one.figure"] if found else [])


def test_a_slower_machine_is_no_slower_service() -> None:
    before = results(1, time=Figure((10,), "µs"), rate=Figure((1000,), "/s"), memory=Figure((100,), "B"))
    now = results(2, time=Figure((20,), "µs"), rate=Figure((500,), "/s"), memory=Figure((130,), "B"))
    assert slower(before, now) == ["one.memory"]
    assert slower(now, results(1, time=Figure((20,), "µs"))) == ["one.time"]


def test_a_window_while_the_machine_was_slow_is_no_slower_service() -> None:
    found = []
    for reference_us, cpu_s in ((1, 1), (2, 2), (1, 2)):
        run = results()
        phase = Phase(100_000, cpu_s, cpu_s, 0, 0, 0, reference_us)
        Record(run.parts["one"], quick=True).cost("one.calls", "call", phase, 1)
        found.append(run)
    before, machine, service = found
    assert slower(before, machine) == []
    assert slower(before, service) == ["one.calls.per_s", "one.calls.service_us"]


def test_a_figure_of_one_run_alone_is_not_compared() -> None:
    assert slower(results(old=Figure((1,), "µs")), results(new=Figure((99,), "µs"))) == []


def test_status_1_and_the_name_of_what_is_slower_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = tmp_path / "results.json"
    baseline.write_bytes(as_json(results(steady=Figure((10,), "µs"), worse=Figure((10,), "µs"))))
    runs = [
        results(steady=Figure((99,), "µs"), worse=Figure((99,), "µs")),
        results(steady=Figure((10,), "µs"), worse=Figure((98,), "µs")),
    ]
    assert check(baseline, lambda _: runs.pop(0), []) == 1
    said = capsys.readouterr().out
    assert "one.worse" in said
    assert "one.steady" not in said


def test_status_0_when_nothing_is_slower(tmp_path: Path) -> None:
    baseline = tmp_path / "results.json"
    baseline.write_bytes(as_json(results(steady=Figure((10,), "µs"))))
    assert check(baseline, lambda _: results(steady=Figure((11,), "µs")), ["one"]) == 0


def test_status_1_when_something_cannot_be_measured_any_more(tmp_path: Path) -> None:
    baseline = tmp_path / "results.json"
    baseline.write_bytes(as_json(results(steady=Figure((10,), "µs"))))
    now = results()
    now.parts["one"].failures["one.steady"] = "the service did not start"
    assert check(baseline, lambda _: now, []) == 1


def test_status_2_without_results_to_compare_with(tmp_path: Path) -> None:
    def never(_: list[str]) -> Results:
        raise AssertionError

    assert check(tmp_path / "none.json", never, []) == 2
