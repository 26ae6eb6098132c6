"""Background work that must not end: the one loop all services use."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from adsum.service.calm import Calm

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""After a failure, before the next try."""


async def forever(what: str, step: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S) -> None:
    """Run `step` again and again until cancelled.

    No failure ends the loop, because a service whose lease is no longer renewed or
    whose writes have stopped is worse than one that logs.
    """
    calm = Calm(log, what)
    while True:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - logged
            calm.failed(error)
            await asyncio.sleep(pause_s)
        else:
            calm.passed()
