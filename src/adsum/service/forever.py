"""Background work that must not end before it is told to: how all services run it, and end it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from adsum.service.calm import Calm

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""After a failure, before the next try."""


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until each has ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def forever(what: str, step: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S) -> None:
    """Run `step` again and again until cancelled.

    No failure ends the loop, because a service whose lease is no longer renewed or
    whose writes have stopped is worse than one that logs.
    """
    calm = Calm(log, what)
    while True:
        failure: Exception | None = None
        try:
            await step()
        except asyncio.CancelledError:
            if _is_told_to_end():
                raise
            failure = RuntimeError("what it waited for was cancelled")
        except Exception as error:  # noqa: BLE001 - logged
            failure = error
        if failure is None:
            calm.passed()
        else:
            calm.failed(failure)
            await asyncio.sleep(pause_s)


def _is_told_to_end() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
