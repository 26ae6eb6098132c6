"""The page that metrics are read from.

What is known at any moment (queues, the census of the store) is asked for when the
page is read, and costs nothing between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from adsum.adapters.metrics.meter import PrometheusMeter
from adsum.domain.errors import StoreError
from adsum.domain.platforms import PlatformRegistry
from adsum.domain.presence import Census
from adsum.ports import PageFormat, PortLoad, Snapshot

CENSUS_TIMEOUT_S: Final = 2
"""Metrics matter most while the store is in trouble, so reading them does not wait for it for long."""


class MetricsPage:
    """The page of metrics; awaiting a call gives it.

    `census` is the store's, `snapshot` the services', `loads` the ports'; `checks` are those of readiness, and
    whether each is well.
    """

    def __init__(
        self,
        meter: PrometheusMeter,
        platforms: PlatformRegistry,
        census: Callable[[], Awaitable[Census]],
        snapshot: Callable[[], Snapshot],
        checks: Callable[[], Mapping[str, bool]],
        loads: Callable[[], Mapping[str, PortLoad]],
    ) -> None:
        self._meter = meter
        self._platforms = platforms
        self._census = census
        self._snapshot = snapshot
        self._checks = checks
        self._loads = loads

    async def __call__(self, form: PageFormat = "text") -> bytes:
        """The page; the store's part is missing if it does not answer within 2 s."""
        census: Census | None = None
        try:
            async with asyncio.timeout(CENSUS_TIMEOUT_S):
                census = await self._census()
        except (StoreError, TimeoutError):
            pass
        return self._meter.page(self._snapshot(), self._checks(), census, self._platforms, form, self._loads())


class LoopLag:
    """Samples how late the running loop is: one timer every `interval_ms`."""

    def __init__(self, observe: Callable[[float], None], interval_ms: int = 1_000) -> None:
        self._observe = observe
        self._interval_s = interval_ms / 1000
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._interval_s
        self._timer = loop.call_at(due_s, self._sample, due_s)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self, due_s: float) -> None:
        self._observe(max(0.0, asyncio.get_running_loop().time() - due_s))
        self.start()
