"""Background work that must not end: the one loop all services use."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from adsum.domain.errors import AdsumError, Fault

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""After a failure, before the next try."""


async def forever(what: str, step: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S) -> None:
    """Run `step` again and again until cancelled.

    A failure of the world is logged as a warning, a defect of ours with its trace;
    neither ends the loop, because a service whose lease is no longer renewed or
    whose writes have stopped is worse than one that logs.
    """
    while True:
        try:
            await step()
        except Exception as error:
            if isinstance(error, AdsumError) and error.fault is Fault.WORLD:
                log.warning("%s: %s; trying again", what, error)
            else:
                log.exception("%s failed; trying again", what)
            await asyncio.sleep(pause_s)
