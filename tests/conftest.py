"""How tests run here.

Hypothesis runs never against the clock, and on a build server with the same examples every
time; commands that tests start can be interrupted. A run says at its start which seeds of the
simulation and of fuzzing are new today, so that it can be repeated on another day.
"""

import os
import signal

from hypothesis import HealthCheck, settings

from tests.fuzz import runner as fuzz
from tests.simulation import runner as simulation

settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell has what it starts in the background ignore Ctrl-C, and whatever that starts inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    """Lines at the start of a run."""
    return [
        f"{module}: seeds {new.start} to {new.stop - 1} are new today; again on another day: "
        f"python -m tests.{module} --start {new.start} --seeds {len(new)}"
        for module, new in (("simulation", simulation.new_seeds()), ("fuzz", fuzz.new_seeds()))
    ]
