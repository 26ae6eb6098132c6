"""A plain TCP balancer, as they stand before services: it polls `/readyz` and knows no more than that."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from itertools import count
from typing import Any

from tests.support.client import http_get
from tests.support.service import RunningService

POLL_S = 0.1


class Balancer:
    """Leads each new connection to the next service that was ready when last asked."""

    def __init__(self, services: Sequence[RunningService]) -> None:
        self._services = services
        self._ready: Sequence[RunningService] = services
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def start(self) -> asyncio.Server:
        """Listen on a free port, and ask the services from now on."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.address = "{}:{}".format(*server.sockets[0].getsockname())
        self._spawn(self._poll())
        return server

    async def stop(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            answers = await asyncio.gather(*map(_is_ready, self._services))
            self._ready = [service for service, ready in zip(self._services, answers, strict=True) if ready]
            await asyncio.sleep(POLL_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._ready[next(self._numbers) % len(self._ready)].ws.rpartition(":")
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._spawn(_pass_on(reader, up_writer))
        self._spawn(_pass_on(up_reader, writer))


async def _is_ready(service: RunningService) -> bool:
    try:
        return (await http_get(service, "/readyz"))[0] == 200
    except OSError:
        return False


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
    finally:
        sink.close()


@contextlib.asynccontextmanager
async def balancer(*services: RunningService) -> AsyncIterator[str]:
    """The address of a balancer before these services."""
    one = Balancer(services)
    server = await one.start()
    try:
        yield one.address
    finally:
        server.close()
        await one.stop()
