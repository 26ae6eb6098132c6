"""One server of the store, and the connections to it.

Invariant: however many callers there are, a server is connected to once at a time;
while it is known to be dead one caller in a while tries, and the others fail at once.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from adsum.adapters.redis.link import Command, Link, open_link
from adsum.adapters.redis.url import StoreUrl
from adsum.core.circuit import Circuit
from adsum.domain.errors import StoreError

log = logging.getLogger(__name__)

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """`limit_ms` bounds each wait for a server; a dead one is tried again after `retry_min_ms`, then ever later."""

    limit_ms: int = 1_000
    retry_min_ms: int = 50
    retry_max_ms: int = 5_000

    @property
    def limit_s(self) -> float:
        """The limit in seconds."""
        return self.limit_ms / 1000


class Door:
    """How to get in: TLS, and the commands that begin each connection."""

    def __init__(self, url: StoreUrl) -> None:
        self.tls = _tls_context(url) if url.tls else None
        login: tuple[Command, ...] = ()
        if url.password is not None:
            login = (("AUTH", url.username, url.password) if url.username else ("AUTH", url.password),)
        # A server that accepts connections may still be loading, or hang: it must answer something.
        self.greeting: tuple[Command, ...] = (*login, ("SELECT", url.db) if url.db else ("PING",))


class Server:
    """A server. `find` tells where it is now; `check` raises `StoreError` if the one found there will not do."""

    def __init__(
        self,
        name: str,
        door: Door,
        options: LinkOptions,
        find: Callable[[], Awaitable[Address]],
        check: Callable[[Link], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self._door = door
        self._options = options
        self._find = find
        self._check = check
        self._link: Link | None = None
        self._listening: set[Link] = set()
        self._connecting: asyncio.Task[Link] | None = None
        self._circuit = Circuit(options.retry_min_ms, options.retry_max_ms)
        self._failure = ""
        self._closed = False

    @property
    def alive(self) -> Link | None:
        """The connection that all calls share, if there is one now."""
        return self._link if self._link is not None and self._link.alive else None

    async def link(self) -> Link:
        """The same; raises `StoreError` if there is none to be had."""
        if (link := self.alive) is not None:
            return link
        if self._closed:
            raise StoreError("the store is closed")
        if self._connecting is None or self._circuit.failures:
            if not self._circuit.admits(_now_ms()):
                raise StoreError(self._failure)
            self._connecting = asyncio.create_task(self._connect(), name=f"connecting to {self.name}")
            self._connecting.add_done_callback(_seen)
        # One caller's giving up is no reason for the others to fail, nor is the server's end one to cancel them.
        connecting = self._connecting
        await asyncio.wait((connecting,))
        if connecting.cancelled():
            raise StoreError(f"{self.name}: no longer a server of the store")
        return connecting.result()

    async def listen(self, heard: Callable[[list[Any]], None]) -> Link:
        """A further connection, for subscribing; the caller closes it.

        It is tried whatever is known of the server: so whoever listens finds out for
        everybody when a dead server is back.
        """
        try:
            link = await self._open(heard)
        except StoreError as error:
            self._failed(error)
            raise
        self._listening.add(link)
        link.lost.add_done_callback(lambda _: self._listening.discard(link))
        self._succeeded()
        return link

    def drop(self, reason: str) -> None:
        """Give up the connection: the server is to be found anew."""
        if self._link is not None:
            self._link.close(reason)

    async def close(self) -> None:
        """Close for good."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._link is not None:
            self._link.close()
            await self._link.lost

    async def _connect(self) -> Link:
        try:
            link = await self._open(None)
        except StoreError as error:
            self._failed(error)
            raise
        except BaseException:
            self._circuit.given_up()
            raise
        finally:
            self._connecting = None
        self._link = link
        link.lost.add_done_callback(lambda _: self._lost(link))
        self._succeeded()
        return link

    async def _open(self, heard: Callable[[list[Any]], None] | None) -> Link:
        address = await self._find()
        link = await open_link(address, self._door.tls, self._options.limit_s, self._door.greeting, heard)
        if self._check is not None:
            try:
                await self._check(link)
            except BaseException:
                link.close()
                raise
        return link

    def _lost(self, link: Link) -> None:
        # One that hangs would hang the next connection too. One that was cut is tried again at once.
        if link.overdue:
            self._failed(StoreError(link.ended))
            for listening in tuple(self._listening):
                listening.close("the server does not answer")

    def _failed(self, error: StoreError) -> None:
        self._failure = error.detail
        if self._circuit.failed(_now_ms(), random.random()):
            log.warning("a Redis server fails: %s", error)

    def _succeeded(self) -> None:
        if self._circuit.succeeded():
            log.info("the Redis server %s answers again; %d calls failed meanwhile", self.name, self._circuit.refused)


def _tls_context(url: StoreUrl) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=url.ca_file or None)
    except OSError as error:
        raise StoreError(f"the certificates in {url.ca_file} cannot be read: {error.strerror or error}") from None


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)


def _seen(task: "asyncio.Task[Link]") -> None:
    """Its failure is told to whoever waited; if nobody did, it needs no word."""
    if not task.cancelled():
        task.exception()
