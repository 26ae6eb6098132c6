"""Runs a decoder on the inputs of seeds, and counts what each costs.

The cost is the lines of `adsum` that it executes: no clock is in it. Compiled modules execute none.
"""

import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from types import FrameType
from typing import Any, Final

import adsum
from tests.fuzz.targets import TARGETS, Target

FIXED: Final = range(1_500)
"""Seeds that `make test` always runs, of each decoder."""

NEW_TODAY: Final = 500

_SOURCE: Final = adsum.__path__[0]


class TooDear(BaseException):
    """More lines were executed than an input of this size may cost. No `except Exception` holds it up."""


def new_seeds() -> range:
    """Seeds that no other day has (in UTC)."""
    first = datetime.now(UTC).date().toordinal() * 100_000
    return range(first, first + NEW_TODAY)


def input_of(name: str, seed: int) -> bytes:
    """The input that a seed stands for."""
    return TARGETS[name].make(Random(f"{name} {seed}"))


def lines_of(work: Callable[[], object], most: int) -> int:
    """How many lines of `adsum` it executes; raises `TooDear` past the most."""
    count = 0

    def enter(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        return step if frame.f_code.co_filename.startswith(_SOURCE) else None

    def step(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal count
        if event == "line":
            count += 1
            if count > most:
                raise TooDear
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def wrong(target: Target, data: bytes) -> str:
    """What is wrong with how an input is taken; nothing if it is right."""
    most = target.lines + target.lines_a_byte * len(data)
    try:
        lines_of(lambda: target.run(data), most)
    except target.errors:
        return ""
    except TooDear:
        return f"costs more than {most} lines"
    except Exception:  # noqa: BLE001 - any other is what is looked for
        return traceback.format_exc()
    return ""


def failures(name: str, seeds: range) -> list[str]:
    """Reports of the inputs that are not taken as they should be, each with how to run it again."""
    reports = []
    for seed in seeds:
        data = input_of(name, seed)
        found = wrong(TARGETS[name], data)
        if found:
            again = f"python -m tests.fuzz {name} --seed {seed}"
            reports.append(f"{again}: {len(data)} bytes, {data[:200]!r}: {found}")
    return reports
