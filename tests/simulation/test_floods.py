"""The simulated world while some clients send all they can: whatever must hold without them holds."""

from dataclasses import replace

import pytest

from adsum.testing.loop import VirtualLoop
from adsum.testing.plan import make_plan
from adsum.testing.world import World, run
from tests.simulation.leaks import leaks

SEEDS = range(40)
FLOODERS = 4


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_wrong_for_others(seed: int) -> None:
    """All that the audit says, and that no turn of a loop is longer than it may be."""
    outcome = run(replace(make_plan(seed), flooders=FLOODERS), leaks)
    assert not outcome.violations, outcome.violations


def test_floods_are_told_to_go() -> None:
    loop = VirtualLoop()
    world = World(loop, replace(make_plan(1), operations=(), faults=(), quiet_s=20, flooders=FLOODERS))
    loop.run_until_complete(world.live(leaks))
    loop.close()
    assert not world.audit.violations
    assert world.crowd.told_to_go >= FLOODERS
