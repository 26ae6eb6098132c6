"""Fuzzes from the command line.

python -m tests.fuzz --minutes 10
python -m tests.fuzz --start 1000 --seeds 500
python -m tests.fuzz gob --seed 42
"""

import argparse
import sys
import time

from tests.fuzz.runner import failures, input_of, new_seeds
from tests.fuzz.targets import TARGETS

BLOCK = 200


def main() -> int:
    """The exit code: 1 if an input is not taken as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes the decoders.")
    parser.add_argument("targets", nargs="*", metavar="DECODER", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=10, help="how long at most")
    parser.add_argument("--seeds", type=int, default=10**12, help="how many at most")
    parser.add_argument("--start", type=int, default=new_seeds().stop, help="the first seed (default: new each day)")
    parser.add_argument("--seed", type=int, help="run this one alone, and show its input")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if options.seed is None:
        return _many(names, range(options.start, options.start + options.seeds), options.minutes * 60)
    reports = []
    for name in names:
        print(f"{name}: {input_of(name, options.seed).hex()}")
        reports += failures(name, range(options.seed, options.seed + 1))
    print("\n".join(reports) or "nothing is wrong")
    return 1 if reports else 0


def _many(names: list[str], seeds: range, length_s: float) -> int:
    ends_s = time.monotonic() + length_s
    failed, first = 0, seeds.start
    while first < seeds.stop and time.monotonic() < ends_s:
        block = range(first, min(first + BLOCK, seeds.stop))
        for name in names:
            for report in failures(name, block):
                failed += 1
                print(f"{report}\n", flush=True)
        first = block.stop
    print(f"seeds {seeds.start} to {first - 1} of {', '.join(names)}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
