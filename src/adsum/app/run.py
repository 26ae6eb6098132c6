"""A running service: starts the parts in order, and stops them in the reverse, with a goodbye to every client."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from adsum.app.settings import Settings
from adsum.app.values import Address
from adsum.app.wiring import Parts, build

log = logging.getLogger(__name__)

SETTLE_MS = 2_000
"""At the end, the longest wait for the last writes, calls and webhooks each."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a running service can be reached, with the ports it really got."""

    ws: Address
    grpc: Address
    http: Address


class Service:
    """One service in this process; used once: `start`, then `stop`."""

    def __init__(self, settings: Settings, secret: str, *, shared: bool = False) -> None:
        """`shared`: one of several on the same ports, whose HTTP port is their supervisor's."""
        self._settings = settings
        self._shared = shared
        self.parts: Parts = build(settings, secret)

    async def start(self) -> Listening:
        """Start everything; where it listens.

        Raises `OSError` if a port can't be had (what was started is stopped), `StoreError`
        if the store can't be reached.
        """
        parts = self.parts
        try:
            return await self._start()
        except BaseException:
            await parts.rpc.stop(0)
            await parts.http.stop()
            parts.ws.stop_accepting()
            raise

    async def _start(self) -> Listening:
        parts, settings = self.parts, self._settings
        await parts.store.open()
        await parts.relay.start()
        await parts.keeper.start()
        parts.flusher.start()
        if parts.webhooks:
            parts.webhooks.start()
        parts.gateway.start()
        parts.lag.start()
        http, shared = settings.http, self._shared
        if not shared:
            http = await bound("http", http, parts.http.start(http.host, http.port))
        grpc = await bound("grpc", settings.grpc, parts.rpc.start(str(settings.grpc), shared=shared))
        ws = await bound("ws", settings.ws, parts.ws.start(settings.ws.host, settings.ws.port, shared=shared))
        parts.rpc.set_serving(serving=True)
        return Listening(ws, grpc, http)

    async def stop(self, drain_ms: int | None = None) -> None:
        """Accept no more, say goodbye to all, write and tell the last changes, give up the lease, end.

        The goodbyes are spread over `drain_ms`, by default as configured.
        """
        parts = self.parts
        parts.ws.stop_accepting()
        parts.rpc.set_serving(serving=False)
        await parts.gateway.drain(self._settings.drain_ms if drain_ms is None else drain_ms)
        if not await parts.flusher.settle(SETTLE_MS):
            log.warning("not all changes could be written; the others end with the lease")
        await parts.rpc.stop(SETTLE_MS / 1000)
        await parts.gateway.stop()
        await parts.flusher.stop()
        await parts.keeper.stop()
        await parts.relay.stop()
        if parts.webhooks:
            await parts.webhooks.stop(SETTLE_MS)
        await parts.http.stop()
        parts.lag.stop()
        await parts.store.close()


async def serve(
    settings: Settings, secret: str, ready: Callable[[Service, Listening], None] = lambda _service, _listening: None
) -> None:
    """Run a service until SIGINT or SIGTERM; `ready` is called once it listens."""
    with stop_signals() as stop:
        service = Service(settings, secret)
        listening = await service.start()
        spare_collector()
        log.info(
            "node %s is ready: ws=%s grpc=%s http=%s",
            service.parts.node,
            listening.ws,
            listening.grpc,
            listening.http,
        )
        ready(service, listening)
        await stop.wait()
        log.info("stopping: saying goodbye to %d connections", len(service.parts.registry))
        await service.stop()
        log.info("stopped")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the fastest loop there is: uvloop, or asyncio's own where it is absent (Windows)."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if sys.platform != "win32":
        import uvloop  # noqa: PLC0415 - absent on Windows

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def spare_collector() -> None:
    """What lives from here on mostly lives long: spare the collector looking at it again and again."""
    gc.collect()
    gc.freeze()


async def bound(name: str, wanted: Address, listening: Awaitable[int]) -> Address:
    """Where the port of this name really listens; an `OSError` tells which setting to change."""
    try:
        return Address(wanted.host, await listening)
    except OSError as error:
        raise OSError(f"{name} = {wanted} cannot be listened on: {error}") from error


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
