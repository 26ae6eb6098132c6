"""What a run of all tests covered of each package, and whether that is less than it has to be.

python scripts/covered.py                 say it; 1 if a package is below its floor
python scripts/covered.py --raise         as well, write floors that were exceeded
python scripts/covered.py --missing core  say which lines and branches of a package were not covered

The floors, in percent of the lines and of the branches, are in tests/floors.json. They are never lowered here.
`make test` leaves what it measured in build/coverage (the Makefile says of which tests), also in processes that tests
start. All of it is interpreted: compiled modules can't be measured.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import Coverage

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "adsum"
DATA = ROOT / "build" / "coverage"
FLOORS = ROOT / "tests" / "floors.json"

Floor = tuple[float, float]


@dataclass
class Count:
    """How many there are of something, and how many of them were covered."""

    covered: int = 0
    total: int = 0

    @property
    def percent(self) -> float:
        """Of all, rounded down to a tenth, so that 100 means all."""
        return self.covered * 1000 // self.total / 10 if self.total else 100.0

    @property
    def sure(self) -> float:
        """The percent that a run may be held to which differs by what chance and timing decide: all, or some less."""
        chance = 0 if self.covered == self.total else max(2, self.total // 200)
        return Count(self.covered - chance, self.total).percent

    def __str__(self) -> str:
        return f"{self.percent:5.1f} % of {self.total:5}"


class Covered:
    """What was covered of one package."""

    def __init__(self) -> None:
        self.lines = Count()
        self.branches = Count()
        self.missing: list[str] = []

    def add(self, path: Path, report: dict[str, Any]) -> None:
        """Count a module, by coverage.py's JSON report of it."""
        summary = report["summary"]
        self.lines.covered += summary["covered_lines"]
        self.lines.total += summary["num_statements"]
        self.branches.covered += summary["covered_branches"]
        self.branches.total += summary["num_branches"]
        name = path.relative_to(ROOT)
        self.missing += [f"{name}:{line}" for line in report["missing_lines"]]
        self.missing += [f"{name}:{here} -> {there}" for here, there in report["missing_branches"]]

    @property
    def percents(self) -> Floor:
        """Of the lines, and of the branches."""
        return self.lines.percent, self.branches.percent


def package_of(path: Path) -> str:
    """The package a module is counted in: each adapter that has a folder is one of its own."""
    folders = path.relative_to(PACKAGE).parent.parts
    return ".".join(folders[:2]) or "adsum"


def measured() -> dict[str, Covered]:
    """What the last run of all tests covered, by package."""
    coverage = Coverage(data_file=str(DATA / "one"), config_file=str(ROOT / "pyproject.toml"))
    coverage.combine(strict=True, keep=True)
    report = DATA / "report.json"
    coverage.json_report(outfile=str(report))
    packages: dict[str, Covered] = {}
    for name, module in json.loads(report.read_bytes())["files"].items():
        path = ROOT / name
        packages.setdefault(package_of(path), Covered()).add(path, module)
    return {name: covered for name, covered in sorted(packages.items()) if covered.lines.total}


def raised(floor: Floor, covered: Covered) -> Floor:
    """The floor after such a run."""
    return max(floor[0], covered.lines.sure), max(floor[1], covered.branches.sure)


def below(floor: Floor, percents: Floor) -> bool:
    """Whether less was covered."""
    return any(now < least for now, least in zip(percents, floor, strict=True))


def write_floors(floors: dict[str, Floor]) -> None:
    """A package a line."""
    lines = [f'  "{name}": {list(floor)}' for name, floor in sorted(floors.items())]
    FLOORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def say(packages: dict[str, Covered], floors: dict[str, Floor]) -> None:
    """A line for each package."""
    for name, covered in packages.items():
        least = " and ".join(f"{percent:.1f}" for percent in floors[name])
        print(f"coverage: {name:17} lines {covered.lines}, branches {covered.branches} (at least {least})")


def main(arguments: Iterable[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="covered", description="What a run of all tests covered.")
    parser.add_argument("--raise", dest="higher", action="store_true", help="write floors that were exceeded")
    parser.add_argument("--missing", metavar="PACKAGE", help="lines and branches of it that were not covered")
    options = parser.parse_args(list(arguments))
    packages = measured()
    if options.missing:
        print("\n".join(packages[options.missing].missing))
        return 0
    known: dict[str, Floor] = json.loads(FLOORS.read_bytes()) if FLOORS.exists() else {}
    floors = {name: known.get(name, (0.0, 0.0)) for name in packages}
    if options.higher:
        floors = {name: raised(floor, packages[name]) for name, floor in floors.items()}
        write_floors(floors)
    say(packages, floors)
    fell = [name for name, covered in packages.items() if below(floors[name], covered.percents)]
    if fell:
        print(f"coverage: less than there was of {', '.join(fell)}: test what is new", file=sys.stderr)
    return 1 if fell else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
