"""What was measured: figures by name, what each stretch of work cost, and what could not be measured.

A figure's name is a path, `part.engine.case.quantity`. A step that fails takes only its own
figures with it; its reason is kept, under the beginning of their names.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import msgspec

ROUGH_CPU_S = 0.25
ROUGH_S = 0.5
"""Shorter stretches give rough figures: the system counts CPU time in steps of 10 ms."""

OWN_FAULTS = (AssertionError, EOFError, OSError, RuntimeError, TimeoutError, ValueError)
"""What a step may fail with without ending the run: what others answered, or did not."""


class Figure(msgspec.Struct, frozen=True):
    """A value. `rough`: measured over too short a time to be compared."""

    value: float
    unit: str
    rough: bool = False


class Phase(msgspec.Struct, frozen=True):
    """A stretch of work, as the load generator saw it. CPU times are user and system, in seconds."""

    units: int
    took_s: float
    service_cpu_s: float
    redis_cpu_s: float
    load_cpu_s: float
    service_rss_bytes: int


class LoadResult(msgspec.Struct, frozen=True):
    """What one run of the load generator printed."""

    command: str
    phases: dict[str, Phase]
    values: dict[str, float]


class Cost(msgspec.Struct, frozen=True):
    """A phase under its name. `load_cores` is how many cores the load generator and Redis had."""

    name: str
    unit: str
    phase: Phase
    load_cores: int

    @property
    def load_share(self) -> float:
        """How much of their cores the load generator and Redis used, 0 to 1."""
        return (self.phase.load_cpu_s + self.phase.redis_cpu_s) / (self.phase.took_s * self.load_cores)


class Part(msgspec.Struct):
    """All of one part.

    `reference_us` is the reference workload's time beside it, `others_share` how much of the machine
    other work used meanwhile, 0 to 1.
    """

    reference_us: float
    took_s: float = 0
    others_share: float = 0
    figures: dict[str, Figure] = msgspec.field(default_factory=dict)
    costs: list[Cost] = msgspec.field(default_factory=list)
    failures: dict[str, str] = msgspec.field(default_factory=dict)


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
        return {cost.name: cost for part in self.parts.values() for cost in part.costs}

    def why_missing(self, name: str) -> str:
        """Why there is no figure of that name."""
        reasons = {step: reason for part in self.parts.values() for step, reason in part.failures.items()}
        steps = [step for step in reasons if name.startswith(f"{step}.") or name == step]
        return reasons[max(steps, key=len)] if steps else "not run"


class Record:
    """A part while it is measured."""

    def __init__(self, part: Part, *, quick: bool) -> None:
        self.part = part
        self.quick = quick

    def seconds(self, full: float, quick: float) -> str:
        """How long a step works, as a flag of the load generator."""
        return f"-for={quick if self.quick else full}s"

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
        """Note one figure."""
        self.part.figures[name] = Figure(value, unit, rough)

    def cost(self, name: str, unit: str, phase: Phase, load_cores: int) -> None:
        """Note what a phase cost, and as figures what it cost a unit and how many there were a second."""
        self.part.costs.append(Cost(name, unit, phase, load_cores))
        self.figure(f"{name}.per_s", phase.units / phase.took_s, "/s", rough=phase.took_s < ROUGH_S)
        for process, cpu_s in (("service", phase.service_cpu_s), ("redis", phase.redis_cpu_s)):
            if cpu_s:
                self.figure(f"{name}.{process}_us", cpu_s / phase.units * 1e6, "µs", rough=cpu_s < ROUGH_CPU_S)

    def values(self, name: str, values: Mapping[str, float]) -> None:
        """Note values of the load generator whose names end in `_ms`."""
        for value_name, value in values.items():
            if value_name.endswith("_ms"):
                self.figure(f"{name}.{value_name}", value, "ms")


def as_json(found: Any) -> bytes:  # noqa: ANN401 - any of the above
    """For people to read and programs to compare."""
    return msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=1) + b"\n"
