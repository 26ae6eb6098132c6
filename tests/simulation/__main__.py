"""Runs the simulation from the command line.

python -m tests.simulation --seeds 100000 --start 0 --jobs 2
python -m tests.simulation --seed 42 --trace
"""

import argparse
import multiprocessing
import sys
import time

from tests.simulation.runner import failures, run_seed

BLOCK = 25


def main() -> int:
    """The exit code: 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Runs the simulation.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many to run")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with its transcript")
    options = parser.parse_args()
    if options.seed is not None:
        return _one(options.seed, trace=options.trace)
    return _many(options.start, options.seeds, options.jobs)


def _one(seed: int, *, trace: bool) -> int:
    outcome = run_seed(seed)
    if trace:
        print("\n".join(outcome.lines))
    verdict = "; ".join(outcome.violations) or "nothing is wrong"
    print(f"seed {seed}, trace {outcome.digest}, {outcome.simulated_s:.1f} s simulated: {verdict}")
    return 1 if outcome.violations else 0


def _many(start: int, count: int, jobs: int) -> int:
    ends = start + count
    blocks = [range(first, min(first + BLOCK, ends)) for first in range(start, ends, BLOCK)]
    began_s = time.monotonic()
    failed = 0
    # A pool that forks would inherit whatever is running here.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for reports in pool.imap_unordered(failures, blocks):
            failed += len(reports)
            for text in reports:
                print(f"{text}\n", flush=True)
    took_s = time.monotonic() - began_s
    print(f"{count} seeds from {start}: {failed} failed, in {took_s:.0f} s ({count / took_s:.0f} a second)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
