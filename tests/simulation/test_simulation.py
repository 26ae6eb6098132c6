"""Many gateways, watchers, a store and every fault, by the thousand seeds.

`adsum.testing.audit` says what must hold.
"""

import os
import subprocess
import sys

import pytest

from tests.simulation.runner import NEW_TODAY, new_seeds, run_seed

SEEDS, BLOCK = 2_000, 250
FAILED_ONCE = (7_302_370, 7_303_920, 7_303_957, 7_306_058, 12_002_460)
"""Seeds that found something, each of a kind that the others of `make test` had not met."""
REPLAYED = range(7_000, 7_005)

TRACES = f"""
from tests.simulation.runner import run_seed
for seed in range({REPLAYED.start}, {REPLAYED.stop}):
    print(run_seed(seed).digest)
"""


@pytest.mark.parametrize("start", range(0, SEEDS, BLOCK))
def test_nothing_is_ever_wrong(start: int) -> None:
    """Each seed is a world, its acts and its faults. A failure tells how to replay it."""
    _run(start, BLOCK)


@pytest.mark.parametrize("block", range(NEW_TODAY // BLOCK))
def test_nor_with_seeds_that_are_new_today(block: int) -> None:
    """The same seeds find nothing new."""
    _run(new_seeds().start + block * BLOCK, BLOCK)


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_what_was_found_stays_mended(seed: int) -> None:
    """Each by itself."""
    assert not run_seed(seed).violations


def _run(start: int, count: int) -> None:
    # Where pytest itself runs on all processors, one a block is enough.
    jobs = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count() or 1
    command = [sys.executable, "-m", "tests.simulation", f"--start={start}", f"--seeds={count}", f"--jobs={jobs}"]
    # So many would take too long if they measured coverage too.
    environment = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"


def test_a_seed_replays_exactly() -> None:
    """The same transcript to the byte, twice here and in processes that hash differently."""
    here = [run_seed(seed).digest for seed in REPLAYED]
    assert [run_seed(seed).digest for seed in REPLAYED] == here
    for hash_seed in ("0", "1", "2026"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(
            [sys.executable, "-c", TRACES], env=environment, capture_output=True, text=True, check=True
        )
        assert ran.stdout.split() == here


def test_seeds_differ() -> None:
    """Another seed is another run."""
    assert len({run_seed(seed).digest for seed in REPLAYED}) == len(REPLAYED)
