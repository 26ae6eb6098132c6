"""The page of the results."""

from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec

from bench import growth, report
from bench.parts.compiled import CASES
from bench.parts.unpinned import CASES as SEEN
from bench.record import Figure, Part, Results
from bench.table import ROWS, Met

FAILED = "told of 256 of 10000 users"


def results() -> Results:
    """Every figure of the table just within its aim, but those of one part, which failed."""
    parts: dict[str, Part] = {}
    for row in ROWS:
        for aim in row.aims:
            part = parts.setdefault(aim.figure.split(".")[0], Part([1]))
            part.figures[aim.figure] = Figure((aim.bound / aim.scale,), aim.unit)
    parts["watching"] = Part([1], failures={"watching.redis": FAILED})
    return Results({"cores": "2 (some)"}, "now", 3, quick=False, parts=parts)


def test_what_was_not_measured_says_why_and_is_not_met() -> None:
    page = report.page(results())
    rows = [line for line in page.splitlines() if line.startswith("| ") and FAILED in line]
    assert len(rows) == 2
    assert all(line.endswith("**no** |") for line in rows)
    missed = page.partition("## Aims not met, and where the time goes\n\n")[2].partition("\n\n")[0]
    assert missed.splitlines() == [f"- {row.work}" for row in ROWS if row.aims[0].figure.startswith("watching.")]


def test_an_aim_that_only_the_best_window_is_within_is_met_at_best() -> None:
    found = results()
    row = next(row for row in ROWS if row.aims[0].figure.startswith("requests."))
    figures = found.parts["requests"].figures
    assert row.met(found) is Met.YES
    for aim in row.aims:
        figures[aim.figure] = Figure((aim.bound * 3, aim.bound * 0.9, aim.bound * 2), "µs")
    assert row.met(found) is Met.AT_BEST
    page = report.page(found)
    assert any(line.startswith(f"| {row.work}") and line.endswith("| at best |") for line in page.splitlines())
    assert f"- {row.work}\n  ({row.profile})" in page
    figures[row.aims[0].figure] = Figure((row.aims[0].bound * 2,), "µs")
    assert row.met(found) is Met.NO


def test_what_compiling_gives_is_told_only_where_it_was_measured() -> None:
    found = results()
    assert "interpreted" not in report.page(found)
    part = found.parts["compiled"] = Part([1])
    for build, value in (("interpreted", 40.0), ("compiled", 20.0)):
        part.figures[f"compiled.{build}.one.per_s"] = Figure((1e6 / value,), "/s")
        part.figures[f"compiled.{build}.one.service_us"] = Figure((value,), "µs")
    (line,) = (line for line in report.page(found).splitlines() if line.startswith(f"| {CASES['one'].work} |"))
    assert line.split(" | ")[1:] == ["25,000 /s", "50,000 /s", "2", "40", "20", "2 |"]


def test_what_the_system_takes_alone_stands_beside_what_we_take() -> None:
    found = results()
    assert "limit\n" not in report.page(found)
    found.parts["bare"] = Part([1], figures={"bare.push_us": Figure((2.0,), "µs")})
    found.parts["latency"].figures["latency.redis.1000.push.service_us"] = Figure((5.0,), "µs")
    (line,) = (line for line in report.page(found).splitlines() if line.startswith("| a push: "))
    assert line.split(" | ")[1:] == ["2", "5", "2.5 |"]


def test_a_busy_machine_is_told() -> None:
    found = results()
    assert "doubtful" not in report.page(found)
    found.parts["users"].others_share = 0.4
    assert "doubtful" in report.page(found)


def test_the_written_data_are_those_that_are_read(tmp_path: Path) -> None:
    written = results()
    report.write(written, tmp_path)
    assert msgspec.json.decode((tmp_path / report.RESULTS_JSON).read_bytes(), type=Results) == written
    assert {path.stem for path in (tmp_path / "raw").iterdir()} == set(written.parts)
    ET.fromstring((tmp_path / report.GROWTH_SVG).read_text(encoding="utf-8"))


def test_growth_is_in_the_order_of_numbers() -> None:
    found = results()
    for size, value in ((1_000_000, 3.0), (10_000, 1.0), (100_000, 2.0)):
        found.parts["users"].figures[f"users.redis.{size}.bytes"] = Figure((value,), "B")
    curve = next(curve for curve in growth.CURVES if curve.figure == "users.{engine}.{size}.bytes")
    assert growth.points(found, curve, "redis") == [(10_000, 1.0), (100_000, 2.0), (1_000_000, 3.0)]


def test_what_a_user_sees_has_a_section_where_it_was_measured() -> None:
    found = results()
    assert "As a user sees it" not in report.page(found)
    part = found.parts["unpinned"] = Part([1])
    part.figures["unpinned.interpreted.set.call_median_ms"] = Figure((0.25,), "ms")
    assert f"| {SEEN['set'].work} | OpenIM 231 | ≤ 220 |  | 250 |  |" in report.page(found)
