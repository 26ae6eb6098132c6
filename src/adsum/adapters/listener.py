"""Listening sockets that stay well when this process has no file descriptor left."""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from math import inf
from typing import Any


async def listening_sockets(host: str, port: int, *, shared: bool) -> "list[ListeningSocket]":
    """A bound socket for each address of a host, all on one port, chosen if 0 was asked.

    `shared`: other processes listen on it too, and the system spreads connections
    over all. Raises `OSError` if an address can't be had.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[ListeningSocket] = []
    try:
        for family, address in dict.fromkeys((item[0], item[4]) for item in found):
            sockets.append(ListeningSocket(family, (address[0], port, *address[2:]), shared=shared))
            port = sockets[0].getsockname()[1]
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


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
