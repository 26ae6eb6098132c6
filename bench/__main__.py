"""`python -m bench`: measure, and write the results down or compare them with those that were."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Final

from bench import check, machine, reference, report
from bench.parts import connections, feed, latency, redis, requests, users, watching, workers, writes
from bench.record import Part, Record, Results
from bench.service import BUILT, ROOT, Unable, prepare

PARTS: Final[Mapping[str, Callable[[Record], Awaitable[None]]]] = {
    "latency": latency.measure,
    "watching": watching.measure,
    "connections": connections.measure,
    "requests": requests.measure,
    "writes": writes.measure,
    "users": users.measure,
    "workers": workers.measure,
    "redis": redis.measure,
    "feed": feed.measure,
}

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
    parser.add_argument("--quick", action="store_true", help="shorter, and with fewer sizes")
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
    for name in names:
        start, others_cpu_s = monotonic(), machine.others_cpu_s()
        part = Part(reference.measure())
        asyncio.run(measure(name, Record(part, quick=quick)))
        # The quicker of before and after: what disturbed the one need not have disturbed the part.
        part.reference_us = min(part.reference_us, reference.measure())
        part.took_s = monotonic() - start
        part.others_share = (machine.others_cpu_s() - others_cpu_s) / part.took_s / len(machine.cores())
        if part.others_share > machine.MOST_OTHERS:
            print(f"bench: other work took {part.others_share:.0%} of the machine: doubtful", file=sys.stderr)
        results.parts[name] = part
    return results


async def measure(name: str, record: Record) -> None:
    """Measure one part; what goes wrong before its first step is a failure of all of it."""
    async with record.step(name, PART_LIMIT_S):
        await PARTS[name](record)


if __name__ == "__main__":
    sys.exit(main())
