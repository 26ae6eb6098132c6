"""The servers of a store, and which one has which partition: one server, Sentinel's master, or a cluster."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from adsum.adapters.redis.link import Link, open_link
from adsum.adapters.redis.scripts import slot_of
from adsum.adapters.redis.server import Address, Door, LinkOptions, Server
from adsum.adapters.redis.url import StoreUrl
from adsum.domain.errors import StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")

REFRESH_S = 0.1
"""The least time between two looks at a cluster, however many callers find a partition elsewhere."""


class Servers(Protocol):
    """The servers of one store."""

    @property
    def link(self) -> Link | None:
        """The connection to the server that has all partitions; None if no server has, or none is connected."""
        ...

    async def of(self, partitions: Iterable[int]) -> Mapping[int, Server]:
        """The server of each partition; raises `StoreError`."""
        ...

    async def all(self) -> Sequence[Server]:
        """Every server; raises `StoreError`."""
        ...

    async def refresh(self) -> None:
        """Find out anew who has what; raises `StoreError`."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


def servers_of(url: StoreUrl, options: LinkOptions, slot: Callable[[int], int] = slot_of) -> Servers:
    """The servers that a URL names. On a cluster, `slot` tells the slot of a partition."""
    if url.cluster:
        return ClusterServers(url, options, slot)
    return SentinelServers(url, options) if url.service else SingleServer(url, options)


class SingleServer:
    """One server that stays where it is."""

    def __init__(self, url: StoreUrl, options: LinkOptions) -> None:
        (address,) = url.hosts
        self._server = Server(_name(address), Door(url), options, partial(_here, address))

    @property
    def link(self) -> Link | None:
        """The connection, if there is one now."""
        return self._server.alive

    async def of(self, partitions: Iterable[int]) -> Mapping[int, Server]:
        """The same server for all."""
        return dict.fromkeys(partitions, self._server)

    async def all(self) -> Sequence[Server]:
        """The one."""
        return (self._server,)

    async def refresh(self) -> None:
        """Nothing to find out."""

    async def close(self) -> None:
        """Close the connection."""
        await self._server.close()


class SentinelServers:
    """The master that Sentinel names, looked up for each new connection. The URL's login is the master's."""

    def __init__(self, url: StoreUrl, options: LinkOptions) -> None:
        self._url = url
        self._options = options
        self._door = Door(url)
        self._server = Server(f"{url.service} (by Sentinel)", self._door, options, self._find, _must_be_master)

    @property
    def link(self) -> Link | None:
        """The connection, if there is one now."""
        return self._server.alive

    async def of(self, partitions: Iterable[int]) -> Mapping[int, Server]:
        """The same server for all."""
        return dict.fromkeys(partitions, self._server)

    async def all(self) -> Sequence[Server]:
        """The one."""
        return (self._server,)

    async def refresh(self) -> None:
        """Look up the master for the next call."""
        self._server.drop("the master is looked up anew")

    async def close(self) -> None:
        """Close the connection."""
        await self._server.close()

    async def _find(self) -> Address:
        return await first_good([self._ask(sentinel) for sentinel in self._url.hosts])

    async def _ask(self, sentinel: Address) -> Address:
        link = await open_link(sentinel, self._door.tls, self._options.limit_s, (("PING",),))
        try:
            (found,) = await link.must(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service))
        finally:
            link.close()
        if not found:
            raise StoreError(f"the Sentinel {_name(sentinel)} knows no service {self._url.service}")
        return found[0].decode(), int(found[1])


class ClusterServers:
    """The masters of a cluster."""

    def __init__(self, url: StoreUrl, options: LinkOptions, slot: Callable[[int], int] = slot_of) -> None:
        self._url = url
        self._options = options
        self._slot_of = slot
        self._door = Door(url)
        self._servers: dict[Address, Server] = {}
        self._known: set[Address] = set(url.hosts)
        self._slots: list[tuple[int, int, Address]] = []
        self._places: dict[int, Server] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed = float("-inf")

    @property
    def link(self) -> None:
        """None: no master has all partitions."""

    async def of(self, partitions: Iterable[int]) -> Mapping[int, Server]:
        """The master that has each partition's slot."""
        if not self._slots:
            await self.refresh()
        return {partition: self._places.get(partition) or self._place(partition) for partition in partitions}

    async def all(self) -> Sequence[Server]:
        """Every master that has slots."""
        if not self._slots:
            await self.refresh()
        return tuple(self._servers.values())

    async def refresh(self) -> None:
        """Ask all nodes known; the first whose view of the cluster is whole is believed."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(), name="asking the cluster")
            self._refreshing.add_done_callback(self._refresh_ended)
        await asyncio.shield(self._refreshing)

    async def close(self) -> None:
        """Close every connection."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        for server in self._servers.values():
            await server.close()

    def _refresh_ended(self, task: "asyncio.Task[None]") -> None:
        self._refreshing = None
        self._refreshed = asyncio.get_running_loop().time()
        if not task.cancelled():
            task.exception()  # told to whoever waited

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._refreshed + REFRESH_S - loop.time()))
        # Those configured too: by their names the cluster is found again should all have moved.
        slots, nodes = await first_good([self._ask(address) for address in {*self._known, *self._url.hosts}])
        masters = {address for _, _, address in slots}
        if masters != self._servers.keys():
            log.info("the masters of the cluster are %s", ", ".join(sorted(map(_name, masters))))
        self._known, self._slots, self._places = nodes, slots, {}
        gone = [self._servers.pop(address) for address in self._servers.keys() - masters]
        for address in masters - self._servers.keys():
            self._servers[address] = Server(_name(address), self._door, self._options, partial(_here, address))
        for server in gone:
            await server.close()

    async def _ask(self, address: Address) -> tuple[list[tuple[int, int, Address]], set[Address]]:
        """Ranges of slots with their masters, and all nodes, as this node sees them."""
        link = await open_link(address, self._door.tls, self._options.limit_s, self._door.greeting)
        try:
            info, ranges = await link.must(("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
        finally:
            link.close()
        # One that is cut off from the others would tell how things were before.
        if b"cluster_state:ok" not in info:
            raise StoreError(f"{link.name}: the cluster is down")
        slots = [(start, end, _address(master, address)) for start, end, master, *_ in ranges]
        return slots, {_address(node, address) for _, _, *nodes in ranges for node in nodes}

    def _place(self, partition: int) -> Server:
        slot = self._slot_of(partition)
        for start, end, address in self._slots:
            if start <= slot <= end:
                server = self._places[partition] = self._servers[address]
                return server
        raise StoreError(f"no master of the cluster has partition {partition}")


async def first_good(asks: Sequence[Coroutine[Any, Any, T]]) -> T:
    """The first answer that is no `StoreError`; raises one of these if all are."""
    tasks = [asyncio.create_task(coroutine) for coroutine in asks]
    failures: list[str] = []
    try:
        for answer in asyncio.as_completed(tasks):
            try:
                return await answer
            except StoreError as error:
                failures.append(error.detail)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    raise StoreError("; ".join(sorted(set(failures))))


async def _here(address: Address) -> Address:
    return address


async def _must_be_master(link: Link) -> None:
    ((role, *_),) = await link.must(("ROLE",))
    if role != b"master":
        raise StoreError(f"{link.name} is no longer the master")


def _address(node: Sequence[Any], asked: Address) -> Address:
    """Where a node is; one that does not know its own host is the one that was asked."""
    host, port = node[0], node[1]
    return (host.decode() if host else asked[0]), int(port)


def _name(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
