"""Runs seeds, and tells of one that fails what is needed to understand it."""

import gc
from dataclasses import replace
from datetime import UTC, datetime

from adsum.testing.plan import Plan, make_plan
from adsum.testing.world import Outcome, run
from tests.simulation.leaks import leaks

LINES_BEFORE, LINES_AFTER = 30, 3
DULL = (" versions: ", " sweep: ", " renew ", " claim ")
"""Of no interest in a report; a transcript has them."""

COLLECT_EVERY = 10

NEW_TODAY = 500


def new_seeds() -> range:
    """Seeds that no other day has (in UTC)."""
    first = datetime.now(UTC).date().toordinal() * 1_000
    return range(first, first + NEW_TODAY)


def run_seed(seed: int) -> Outcome:
    """One run, by its seed."""
    return run(make_plan(seed), leaks)


def failures(seeds: range) -> list[str]:
    """Reports of the seeds that fail. The garbage of a whole run goes at once, which is quicker than piecemeal."""
    found = []
    gc.disable()
    for index, seed in enumerate(seeds):
        if run_seed(seed).violations:
            found.append(report(seed))
        if index % COLLECT_EVERY == 0:
            gc.collect()
    gc.enable()
    return found


def shrunk(plan: Plan) -> Plan:
    """The plan with as few of its faults as still lead to a failure."""
    for fault in plan.faults:
        fewer = replace(plan, faults=[other for other in plan.faults if other is not fault])
        if run(fewer, leaks).violations:
            plan = fewer
    return plan


def report(seed: int) -> str:
    """What failed, how to replay it, which faults it takes, and what happened just before."""
    plan = shrunk(make_plan(seed))
    outcome = run(plan, leaks)
    lines = [line for line in outcome.lines if not any(dull in line for dull in DULL)]
    first = next((i for i, line in enumerate(lines) if " AUDIT " in line), len(lines))
    return "\n".join(
        [
            f"seed {seed}: {outcome.violations[0]}",
            f"replay: python -m tests.simulation --seed {seed} --trace",
            "the faults it takes:",
            *(f"    {fault}" for fault in plan.faults),
            "with these alone:",
            *(f"    {line[:240]}" for line in lines[max(first - LINES_BEFORE, 0) : first + LINES_AFTER]),
        ]
    )
