"""`python -m bench`: measure, and write the results down or compare them with those that were."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from bench import check, machine, reference, report
from bench.parts import (
    bare,
    compiled,
    connections,
    feed,
    latency,
    redis,
    requests,
    unpinned,
    users,
    watching,
    workers,
    writes,
)
from bench.record import Part, Record, Results
from bench.service import BUILT, ROOT, Unable, prepare

PARTS: Final[Mapping[str, Callable[[Record], Awaitable[None]]]] = {
    "latency": latency.measure,
    "watching": watching.measure,
    "connections": connections.measure,
    "requests": requests.measure,
    "writes": writes.measure,
    "users": users.measure,
    "compiled": compiled.measure,
    "unpinned": unpinned.measure,
    "workers": workers.measure,
    "redis": redis.measure,
    "feed": feed.measure,
    "bare": bare.measure,
}

ROUNDS: Final = 3
REPEATED: Final = frozenset({"latency", "connections", "requests", "writes", "users", "compiled", "unpinned", "bare"})
"""Parts measured in each round: those whose rates, times and CPU time are judged. The others lie between them, once."""

PART_LIMIT_S = 500
"""Their steps have limits of their own, which come first unless something is very wrong."""


def main() -> int:
    """Measure as the command line asks; the exit status."""
    options = arguments()
    # As Ctrl-C does it, with everything ended that was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return perform(options, prepare())
    except Unable as error:
        print(f"bench: cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped; nothing was written", file=sys.stderr)
        return 130


def perform(options: argparse.Namespace, go: str) -> int:
    """Measure, then write or compare; the exit status."""
    if options.check:
        return check.check(ROOT / report.RESULTS_JSON, lambda names: run(names, go, quick=True), options.parts)
    results = run(options.parts or list(PARTS), go, quick=options.quick)
    whole = not options.quick and not options.parts
    folder = options.out or (ROOT if whole else BUILT / "results")
    report.write(results, folder)
    print((folder / report.RESULTS_MD).read_text(encoding="utf-8"))
    print(f"bench: written to {folder}", file=sys.stderr)
    return 0


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one round, and with fewer sizes")
    parser.add_argument("--check", action="store_true", help="quickly, then compare with bench/results.json")
    parser.add_argument("--out", type=Path, help="folder for the results; bench/ if it is a full run of all parts")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def run(names: list[str], go: str, *, quick: bool) -> Results:
    """Measure these parts, one after another."""
    machine.allow_open_files()
    results = Results(machine.facts(go), report.now(), machine.load_average(), quick, {})
    if machine.is_busy():
        print(f"bench: the machine is busy (load average {results.load_average:.1f})", file=sys.stderr)
    for name, round_number in visits(names, 1 if quick else ROUNDS):
        part = results.parts.setdefault(name, Part())
        visit(name, Record(part, quick=quick, round_number=round_number))
    return results


def visits(names: Sequence[str], rounds: int) -> Iterator[tuple[str, int]]:
    """Which part is measured when, and in which round."""
    once = [name for name in names if name not in REPEATED]
    for round_number in range(rounds):
        for name in [*(name for name in names if name in REPEATED), *once[round_number::rounds]]:
            yield name, round_number


def visit(name: str, record: Record) -> None:
    """Measure one part in one round, and what disturbed it."""
    part = record.part
    start, others_cpu_s = monotonic(), machine.others_cpu_s()
    part.references.append(reference.measure())
    asyncio.run(measure(name, record))
    part.references.append(reference.measure())
    took_s = monotonic() - start
    others_share = (machine.others_cpu_s() - others_cpu_s) / took_s / len(machine.cores())
    if others_share > machine.MOST_OTHERS:
        print(f"bench: other work took {others_share:.0%} of the machine: doubtful", file=sys.stderr)
    part.took_s += took_s
    part.others_share = max(part.others_share, others_share)


async def measure(name: str, record: Record) -> None:
    """Measure one part; what goes wrong before its first step is a failure of all of it."""
    async with record.step(name, PART_LIMIT_S):
        await PARTS[name](record)


if __name__ == "__main__":
    sys.exit(main())
