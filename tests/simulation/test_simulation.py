"""Many gateways, watchers, a store and every fault, by the thousand seeds.

`adsum.testing.audit` says what must hold.
"""

import os
import subprocess
import sys

import pytest

from tests.simulation.runner import run_seed

SEEDS, BLOCK = 2_000, 250
REPLAYED = range(7_000, 7_005)

TRACES = f"""
from tests.simulation.runner import run_seed
for seed in range({REPLAYED.start}, {REPLAYED.stop}):
    print(run_seed(seed).digest)
"""


@pytest.mark.parametrize("start", range(0, SEEDS, BLOCK))
def test_nothing_is_ever_wrong(start: int) -> None:
    """Each seed is a world, its acts and its faults. A failure tells how to replay it."""
    # Where pytest itself runs on all processors, one a block is enough.
    jobs = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count() or 1
    command = [sys.executable, "-m", "tests.simulation", f"--start={start}", f"--seeds={BLOCK}", f"--jobs={jobs}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
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
