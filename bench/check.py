"""Whether anything got slower: a quick run beside the committed results, in units of the reference workload.

Medians are compared, of what was measured and of the reference workload around its windows.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.machine import MOST_OTHERS
from bench.record import Figure, Part, Results

TOLERANCE: Final = {"µs": 0.25, "ms": 0.5, "/s": 0.4, "B": 0.15, "users": 0.0}
"""By how much a figure may be worse, by its unit; figures in other units are not compared.

CPU time and memory are steady; times and rates feel everything else that goes on, the more so on few cores.
"""

SAME_FACTS: Final = ("cores", "Python", "compiled")
"""Facts about the machine; where they differ, so do figures."""

RATES: Final = ("/s",)
TIMES: Final = ("µs", "ms")
UNJUDGED: Final = ("_p99_ms", ".original.", "bare.")
"""Parts of names: a few slow answers make a p99, and what others take, or nothing but the system, is not ours."""


@dataclass(frozen=True)
class Slower:
    """A figure that is worse by more than is tolerated; `times` as bad as it was, corrected for the machine."""

    name: str
    before: Figure
    now: Figure
    times: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.before.median:.4g} -> {self.now.median:.4g} {self.now.unit}, "
            f"{self.times:.2f} times as bad ({1 + TOLERANCE[self.now.unit]:.2f} tolerated)"
        )


def check(baseline: Path, run: Callable[[list[str]], Results], names: list[str]) -> int:
    """Measure quickly, say what got slower; 1 if anything did, 2 if there is nothing to compare with.

    Parts with something slower are measured once more: what is slower only once is no finding.
    """
    try:
        before = msgspec.json.decode(baseline.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        print(f"bench: no results to compare with ({error}): make bench", file=sys.stderr)
        return 2
    parts = names or list(before.parts)
    now = run(parts)
    for fact in SAME_FACTS:
        was, here = (found.machine.get(fact, "?") for found in (before, now))
        if was != here:
            print(f"bench: {fact} of the results to compare with: {was}, here: {here}", file=sys.stderr)
    slow = list(compare(before, now, parts))
    failed = {step: reason for part in now.parts.values() for step, reason in part.failures.items()}
    doubted = sorted({one.name.split(".")[0] for one in slow})
    if doubted:
        print(f"bench: slower at first sight, once more: {', '.join(doubted)}", file=sys.stderr)
        again = {one.name for one in compare(before, run(doubted), doubted)}
        slow = [one for one in slow if one.name in again]
    for step, reason in failed.items():
        print(f"not measured: {step}: {reason}")
    for one in slow:
        print(f"slower: {one}")
    compared = sum(1 for part in parts for _ in _pairs(before.parts.get(part), now.parts[part]))
    doubtful = "; other work disturbed it: run it again on an idle machine" if now.others_share > MOST_OTHERS else ""
    print(f"bench: {compared} figures compared, {len(slow)} slower, {len(failed)} steps failed{doubtful}")
    return 1 if slow or failed else 0


def compare(before: Results, now: Results, parts: list[str]) -> Iterator[Slower]:
    """The figures that got worse by more than their tolerance."""
    for part in parts:
        old, new = before.parts.get(part), now.parts[part]
        for name, was, found in _pairs(old, new):
            assert old is not None
            times = _times_as_bad(was, found, new.reference_us(name) / old.reference_us(name))
            if times > 1 + TOLERANCE[found.unit]:
                yield Slower(name, was, found, times)


def _pairs(old: Part | None, new: Part) -> Iterator[tuple[str, Figure, Figure]]:
    """The figures of both that can be compared."""
    for name, found in new.figures.items():
        was = old.figures.get(name) if old else None
        if was is None or was.rough or found.rough or found.unit not in TOLERANCE:
            continue
        if not any(part in name for part in UNJUDGED):
            yield name, was, found


def _times_as_bad(was: Figure, now: Figure, slowness: float) -> float:
    """How many times as bad, on a machine that is so many times as slow as it was."""
    before, after = was.median, now.median
    if now.unit in RATES:
        return before / (after * slowness)
    if now.unit in TIMES:
        return after / (before * slowness)
    if not before:
        return 1 + after
    return after / before
