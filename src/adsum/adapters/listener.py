"""Listening sockets that stay well when this process has no file descriptor left."""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable
from math import inf
from typing import Any

SPARE_FILES = 64
"""File descriptors that connections leave to the rest of the process: the store, a log. A quarter, if there are few."""

RPC_SHARE_OF_FILES = 4
"""One file descriptor in so many may be a gRPC connection's."""

HTTP_FILES = 32
"""File descriptors for who asks the HTTP port; a sixteenth, if there are few."""

ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What binding says of an address of a family that the system does not have: a host may stand for both."""


def hosts_of(host: str) -> tuple[str, ...]:
    """The hosts to listen on for one: `::` means every address, also of IPv4, as it does to most servers.

    A socket for each family, rather than one for both, has IPv4 clients' addresses as they are.
    """
    return ("::", "0.0.0.0") if host == "::" else (host,)  # noqa: S104 - as asked


async def listening_sockets(host: str, port: int, *, shared: bool) -> "list[ListeningSocket]":
    """A bound socket for each address of a host, all on one port, chosen if 0 was asked.

    `shared`: other processes listen on it too, and the system spreads connections
    over all. Raises `OSError` if an address can't be had.
    """
    loop = asyncio.get_running_loop()
    found = [
        item
        for one in hosts_of(host)
        for item in await loop.getaddrinfo(one, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ]
    sockets: list[ListeningSocket] = []
    missing: OSError | None = None
    try:
        for family, address in dict.fromkeys((item[0], item[4]) for item in found):
            try:
                sockets.append(ListeningSocket(family, (address[0], port, *address[2:]), shared=shared))
            except OSError as error:
                # A name may stand for both families where the system has only one.
                if error.errno not in ABSENT:
                    raise
                missing = error
                continue
            port = sockets[0].getsockname()[1]
    except OSError:
        for one in sockets:
            one.close()
        raise
    if missing is not None and not sockets:
        raise missing
    return sockets


async def serve(
    make: Callable[[], asyncio.Protocol], host: str, port: int, *, shared: bool, backlog: int
) -> tuple[list[asyncio.Server], int]:
    """Servers for each address of a host, and their port; all or none. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    sockets = await listening_sockets(host, port, shared=shared)
    servers: list[asyncio.Server] = []
    try:
        for one in sockets:
            server = await loop.create_server(make, sock=one, backlog=backlog)
            servers.append(server)
    except BaseException:
        for server in servers:
            server.close()
        for one in sockets:
            one.close()
        raise
    chosen: int = sockets[0].getsockname()[1]
    return servers, chosen


def end_sending(transport: asyncio.Transport) -> None:
    """End our side of a connection, once all is sent."""
    try:
        transport.write_eof()
    except OSError:
        # It has gone in the meantime, and asyncio's own loop does not hide it.
        transport.abort()


def files_are_short(transport: asyncio.BaseTransport) -> bool:
    """Whether a connection's descriptor is one of the last, which are not for connections."""
    return descriptor_of(transport) >= first_spare_file()


def first_spare_file() -> float:
    """From which descriptor on they are not for connections."""
    most = most_files()
    return most - _spare(most)


def last_spare_files() -> float:
    """From which descriptor on half of those are taken too, so that there is no more time to tell a client."""
    most = most_files()
    return most - _spare(most) / 2


def rpc_files(connections: int) -> int:
    """How many descriptors gRPC may have, for no more than so many connections."""
    return int(min(connections, most_files() / RPC_SHARE_OF_FILES))


def websocket_files(rpc_connections: int) -> float:
    """How many descriptors WebSockets may have beside at most so many gRPC connections."""
    most = most_files()
    return most - _spare(most) - rpc_files(rpc_connections) - http_files()


def http_files() -> int:
    """How many descriptors the HTTP port may have."""
    return max(1, int(min(HTTP_FILES, most_files() / 16)))


def address_of(transport: asyncio.BaseTransport) -> str:
    """Where a client is; empty if it has gone already."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if name else ""


def descriptor_of(transport: asyncio.BaseTransport) -> int:
    """The number of a connection's file descriptor."""
    number: int = transport.get_extra_info("socket").fileno()
    return number


def _spare(most: float) -> float:
    return min(SPARE_FILES, most / 4)


def most_files() -> float:
    """How many file descriptors this process may have; those in use have numbers below that, the lowest free first."""
    if sys.platform == "win32":
        return inf
    import resource  # noqa: PLC0415 - absent on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft


class ListeningSocket(socket.socket):
    """Turns clients away while this process has no file descriptor left.

    asyncio would log that for every client and then accept nobody for a second.
    So, as libuv does under uvloop (which never calls `accept` here), a descriptor in
    reserve is given up to accept and drop who waits.
    """

    def __init__(self, family: int, address: tuple[Any, ...], *, shared: bool) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._reserve = os.open(os.devnull, os.O_RDONLY)
        try:
            if os.name == "posix":
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.bind(address)
        except OSError:
            self.close()
            raise

    def accept(self) -> tuple[socket.socket, Any]:
        """As any socket's; raises `BlockingIOError` too where a client had to be turned away."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._give_up_reserve()
        with contextlib.suppress(OSError):
            client, _ = super().accept()
            client.close()
        # Another thread may have been quicker: then the next client has to wait.
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY)
        raise BlockingIOError

    def close(self) -> None:
        """As any socket's."""
        self._give_up_reserve()
        super().close()

    def _give_up_reserve(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
        self._reserve = -1
