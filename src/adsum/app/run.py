"""A running service: starts the parts in order, and stops them in the reverse, with a goodbye to every client."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from adsum.app.settings import RELOADED, Settings, changed
from adsum.app.values import Address
from adsum.app.wiring import Parts, build

log = logging.getLogger(__name__)

SETTLE_MS = 2_000
"""At the end, the longest wait for calls under way."""


Reload = Callable[[], tuple[Settings, str] | None]
"""Reads the settings and the secret again; None, the reason logged, if they cannot be used."""

FILES_BESIDES = 100
"""Open files of a service besides its connections."""


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
        self._ends = AsyncExitStack()
        self.parts: Parts = build(settings, secret)

    async def start(self) -> Listening:
        """Start everything; where it listens.

        Raises `OSError` if a port can't be had, `StoreError` if the store can't be
        reached, `ArgumentError` if it was made with other settings; what was started is
        stopped then.
        """
        allow_files(self._settings.max_connections)
        try:
            return await self._start()
        except BaseException:
            await self._ends.aclose()
            raise

    async def _start(self) -> Listening:
        """Start one part after the other, and note how each ends: in the reverse order."""
        parts, settings, ends = self.parts, self._settings, self._ends
        ends.push_async_callback(parts.node.stop)
        await parts.node.start()
        parts.lag.start()
        ends.callback(parts.lag.stop)
        http, shared = settings.http, self._shared
        if not shared:
            http = await bound("http", http, parts.http.start(http.host, http.port))
            ends.push_async_callback(parts.http.stop)
        grpc = await bound("grpc", settings.grpc, parts.rpc.start(str(settings.grpc), shared=shared))
        ends.push_async_callback(parts.rpc.stop, SETTLE_MS / 1000)
        ws = await bound("ws", settings.ws, parts.ws.start(settings.ws.host, settings.ws.port, shared=shared))
        ends.callback(parts.ws.stop_accepting)
        parts.rpc.set_serving(serving=True)
        return Listening(ws, grpc, http)

    def use(self, secret: str) -> None:
        """Judge tokens by this secret from now on; connections stay."""
        self.parts.authenticator.use(secret)

    def leave(self) -> None:
        """Say that this service is about to stop, and go on serving, so that balancers can hear of it first."""
        self.parts.node.leaving = True
        self.parts.rpc.set_serving(serving=False)

    async def stop(self, drain_ms: int | None = None) -> None:
        """Accept no more, say goodbye to all, write and tell the last changes, give up the lease, end.

        The goodbyes are spread over `drain_ms`, by default as configured.
        """
        parts = self.parts
        self.leave()
        parts.ws.stop_accepting()
        await parts.node.drain(self._settings.drain_ms if drain_ms is None else drain_ms)
        await self._ends.aclose()


async def serve(
    settings: Settings,
    secret: str,
    ready: Callable[[Service, Listening], None] = lambda _service, _listening: None,
    reload: Reload | None = None,
) -> None:
    """Run a service until SIGINT or SIGTERM; `ready` is called once it listens, `reload` on SIGHUP."""
    service = Service(settings, secret)

    def again() -> None:
        found = reload() if reload else None
        if found is None:
            return
        new, new_secret = found
        service.use(new_secret)
        for name in changed(settings, new):
            if name not in RELOADED:
                log.warning("%s has changed, which takes a restart: it stays as it is", name)
        log.info("the settings are read again")

    with stop_signals(settings.shutdown_delay_ms) as ending, hangup_signal(again if reload else None):
        listening = await service.start()
        spare_collector()
        log.info(
            "node %s (store %s) is ready: ws=%s grpc=%s http=%s",
            service.parts.node.name,
            settings.store.partition(":")[0],
            listening.ws,
            listening.grpc,
            listening.http,
        )
        ready(service, listening)
        await ending.asked.wait()
        service.leave()
        if ending.delay_ms:
            log.info("about to stop: not ready any more, and open for another %d ms", ending.delay_ms)
            await asyncio.sleep(ending.delay_ms / 1000)
        log.info("stopping: saying goodbye to %d connections", len(service.parts.node.registry))
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


def allow_files(connections: int) -> None:
    """Let this process have as many open files as the system allows: each connection is one.

    The usual soft limit of 1,024 is for programs that can't go beyond it.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - absent on Windows

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < connections + FILES_BESIDES:
        # No warning: the default of max_connections is more than most machines are set for.
        log.info(
            "this process may have %d open files: too few for max_connections = %d; raise the limit (ulimit -n)",
            most,
            connections,
        )


def spare_collector() -> None:
    """What lives from here on mostly lives long: spare the collector looking at it again and again.

    Connections come and go without leaving cycles behind, so little is ever found.
    At Python's thresholds the collector took 9 µs of each connect, and 45 ms at a
    time at 15,000 connections; at these 3 µs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


async def bound(name: str, wanted: Address, listening: Awaitable[int]) -> Address:
    """Where the port of this name really listens; an `OSError` tells which setting to change."""
    try:
        return Address(wanted.host, await listening)
    except OSError as error:
        raise OSError(f"{name} = {wanted} cannot be listened on: {error}") from error


@contextmanager
def hangup_signal(call: Callable[[], None] | None) -> Iterator[None]:
    """Have SIGHUP call this; None leaves the signal as the system has it."""
    if call is None or sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, call)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


class Ending:
    """Whether this process was asked to end, and for how long it is to stay open after that."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.delay_ms = 0

    def ask(self, delay_ms: int) -> None:
        """Ask; what is asked later changes nothing."""
        if not self.asked.is_set():
            self.delay_ms = delay_ms
            self.asked.set()


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def delay_for(number: signal.Signals, delay_ms: int) -> int:
    """How long to stay open after a signal: a person's Ctrl-C (SIGINT) waits for no balancer."""
    return 0 if number == signal.SIGINT else delay_ms


@contextmanager
def stop_signals(delay_ms: int) -> Iterator[Ending]:
    """What SIGINT and SIGTERM ask for; a second signal ends the process at once."""
    ending = Ending()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        ending.ask(delay_for(number, delay_ms))
        for one in STOP_SIGNALS:
            loop.remove_signal_handler(one)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, asked, number)
    try:
        yield ending
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
