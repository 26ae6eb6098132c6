"""What was measured: figures by name, what each stretch of work cost, and what could not be measured.

A figure's name is a path, `part.engine.case.quantity`. What is measured once a round has a window
a round: rounds lie minutes apart, so that a slow minute of the machine falls on one window of many
figures, and on all of none. A step that fails takes only its own windows with it; its reason is kept,
under the beginning of their figures' names.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from statistics import median
from time import monotonic
from typing import Any

import msgspec

ROUGH_CPU_S = 0.25
ROUGH_S = 0.5
"""Less in all windows together gives rough figures: the system counts CPU time in steps of 10 ms."""

OWN_FAULTS = (AssertionError, EOFError, OSError, RuntimeError, TimeoutError, ValueError)
"""What a step may fail with without ending the run: what others answered, or did not."""


class Figure(msgspec.Struct, frozen=True):
    """A value for each window, as they came. `rough`: measured over too short a time to be compared."""

    windows: tuple[float, ...]
    unit: str
    rough: bool = False

    @property
    def median(self) -> float:
        """What it is as the machine mostly was."""
        return median(self.windows)

    def best(self, *, least: bool = False) -> float:
        """What it is with the machine least disturbed: the lowest, or of what shall be `least` so much the highest."""
        return max(self.windows) if least else min(self.windows)


class Phase(msgspec.Struct, frozen=True):
    """A stretch of work, as the load generator saw it. CPU times are user and system, in seconds.

    `reference_us` is the reference workload's time around it.
    """

    units: int
    took_s: float
    service_cpu_s: float
    redis_cpu_s: float
    load_cpu_s: float
    service_rss_bytes: int
    reference_us: float = 0


class LoadResult(msgspec.Struct, frozen=True):
    """What one run of the load generator printed."""

    command: str
    phases: dict[str, Phase]
    values: dict[str, float]


class Cost(msgspec.Struct, frozen=True):
    """A stretch of work in each window. `load_cores` is how many cores the load generator and Redis had."""

    unit: str
    load_cores: int
    windows: list[Phase] = msgspec.field(default_factory=list)

    @property
    def per_s(self) -> Figure:
        """Units a second."""
        rates = tuple(phase.units / phase.took_s for phase in self.windows)
        return Figure(rates, "/s", rough=sum(phase.took_s for phase in self.windows) < ROUGH_S)

    @property
    def service_us(self) -> Figure:
        """The service's CPU time a unit."""
        return self._cpu_us([phase.service_cpu_s for phase in self.windows])

    @property
    def redis_us(self) -> Figure:
        """Redis's CPU time a unit."""
        return self._cpu_us([phase.redis_cpu_s for phase in self.windows])

    def _cpu_us(self, cpu_s: list[float]) -> Figure:
        each = tuple(used / phase.units * 1e6 for used, phase in zip(cpu_s, self.windows, strict=True))
        return Figure(each, "µs", rough=sum(cpu_s) < ROUGH_CPU_S)

    @property
    def service_bytes(self) -> float:
        """The service's resident memory."""
        return median(phase.service_rss_bytes for phase in self.windows)

    @property
    def service_share(self) -> float:
        """How much of a core the service used, 1 being all of one."""
        return median(phase.service_cpu_s / phase.took_s for phase in self.windows)

    @property
    def load_share(self) -> float:
        """How much of their cores the load generator and Redis used, 0 to 1."""
        return median(
            (phase.load_cpu_s + phase.redis_cpu_s) / (phase.took_s * self.load_cores) for phase in self.windows
        )


class Part(msgspec.Struct):
    """All of one part.

    `references` are the reference workload's times before, between and behind its windows, `others_share`
    how much of the machine other work used meanwhile, 0 to 1, in the round where it was most.
    """

    references: list[float] = msgspec.field(default_factory=list)
    took_s: float = 0
    others_share: float = 0
    figures: dict[str, Figure] = msgspec.field(default_factory=dict)
    costs: dict[str, Cost] = msgspec.field(default_factory=dict)
    failures: dict[str, str] = msgspec.field(default_factory=dict)

    def reference_us(self, figure: str) -> float:
        """How fast the machine mostly was: around a figure's windows, or if those are not known in all of the part."""
        cost = self.costs.get(figure.rpartition(".")[0])
        return median(phase.reference_us for phase in cost.windows) if cost else median(self.references)


class Results(msgspec.Struct):
    """All parts of one run."""

    machine: dict[str, str]
    when: str
    load_average: float
    quick: bool
    parts: dict[str, Part]

    @property
    def others_share(self) -> float:
        """How much of the machine other work used, in the part where it was most."""
        return max((part.others_share for part in self.parts.values()), default=0)

    @property
    def figures(self) -> dict[str, Figure]:
        """Of all parts."""
        return {name: figure for part in self.parts.values() for name, figure in part.figures.items()}

    @property
    def costs(self) -> dict[str, Cost]:
        """Of all parts."""
        return {name: cost for part in self.parts.values() for name, cost in part.costs.items()}

    def why_missing(self, name: str) -> str:
        """Why there is no figure of that name."""
        reasons = {step: reason for part in self.parts.values() for step, reason in part.failures.items()}
        steps = [step for step in reasons if name.startswith(f"{step}.") or name == step]
        return reasons[max(steps, key=len)] if steps else "not run"


class Record:
    """A part while it is measured, for the `round_number`-th time, from 0 on."""

    def __init__(self, part: Part, *, quick: bool, round_number: int = 0) -> None:
        self.part = part
        self.quick = quick
        self.round_number = round_number

    @asynccontextmanager
    async def step(self, name: str, limit_s: float) -> AsyncIterator[None]:
        """Do what is within, for so long at most; if that fails, note why and go on behind it."""
        start = monotonic()
        print(f"bench: {name}", file=sys.stderr, flush=True)
        try:
            async with asyncio.timeout(limit_s):
                yield
        except OWN_FAULTS as error:
            slow = isinstance(error, TimeoutError) and not str(error)
            reason = f"took longer than {limit_s:.0f} s" if slow else str(error).strip() or type(error).__name__
            self.part.failures[name] = reason.splitlines()[-1][:300]
            print(f"bench: {name} failed after {monotonic() - start:.0f} s: {reason}", file=sys.stderr, flush=True)

    def figure(self, name: str, value: float, unit: str, *, rough: bool = False) -> None:
        """Note a figure's value in this window."""
        earlier = self.part.figures.get(name)
        self.part.figures[name] = Figure((*earlier.windows, value) if earlier else (value,), unit, rough)

    def cost(self, name: str, unit: str, phase: Phase, load_cores: int) -> None:
        """Note what a phase cost in this window, and as figures what it cost a unit and how many came a second."""
        cost = self.part.costs.setdefault(name, Cost(unit, load_cores))
        cost.windows.append(phase)
        self.part.references.append(phase.reference_us)
        self.part.figures[f"{name}.per_s"] = cost.per_s
        for quantity, figure in (("service_us", cost.service_us), ("redis_us", cost.redis_us)):
            if any(figure.windows):
                self.part.figures[f"{name}.{quantity}"] = figure

    def values(self, name: str, values: Mapping[str, float]) -> None:
        """Note values of the load generator whose names end in `_ms`."""
        for value_name, value in values.items():
            if value_name.endswith("_ms"):
                self.figure(f"{name}.{value_name}", value, "ms")


def as_json(found: Any) -> bytes:  # noqa: ANN401 - any of the above
    """For people to read and programs to compare."""
    return msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=1) + b"\n"
