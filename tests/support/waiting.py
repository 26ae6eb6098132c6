"""Waiting for a condition, with no word about how long it may take but that it does not take for ever."""

import asyncio
from collections.abc import Callable

TRIES = 5_000


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds."""
    for _ in range(TRIES):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the condition never came true")


async def turns(count: int = 20) -> None:
    """Let everything that is ready have its turn."""
    for _ in range(count):
        await asyncio.sleep(0)
