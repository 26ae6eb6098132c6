"""A run of failures in the log: its first, its end and their number, however many there are."""

import asyncio
import logging

from adsum.domain.errors import AdsumError, Fault

SETTLED_S = 2.0
"""Without a failure for this long, a success ends a run: where some calls fail and some don't, it goes on."""


class Calm:
    """Logs what becomes of `what`, which is tried again and again."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._failures = 0
        self._failed_s = 0.0

    def failed(self, error: Exception) -> None:
        """Note a failure. One of the world is a line; a defect of ours comes with its trace."""
        self._failures += 1
        self._failed_s = asyncio.get_running_loop().time()
        if self._failures > 1:
            return
        if isinstance(error, TimeoutError):
            self._log.warning("%s took too long; trying again", self._what)
        elif isinstance(error, AdsumError) and error.fault is Fault.WORLD:
            self._log.warning("%s: %s; trying again", self._what, error)
        else:
            self._log.error("%s failed; trying again", self._what, exc_info=error)

    def passed(self) -> None:
        """Note a success."""
        if self._failures and asyncio.get_running_loop().time() - self._failed_s >= SETTLED_S:
            self._log.info("%s: well again after %d failures", self._what, self._failures)
            self._failures = 0
