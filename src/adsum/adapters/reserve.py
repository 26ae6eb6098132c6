"""Ports that several processes of ours are to share, kept from everybody else.

Invariant: while a `Reservation` is held, its port is ours though nobody may listen
on it yet; the system lets only sockets of the same user with SO_REUSEPORT join.
"""

import errno
import socket
from contextlib import ExitStack
from typing import Final

from adsum.adapters.listener import ABSENT, hosts_of

SUPPORTED: Final = hasattr(socket, "SO_REUSEPORT")
"""Not on Windows."""


class Reservation:
    """A port of a host (all its addresses), bound and not listened on: no client is ever led here."""

    def __init__(self, host: str, port: int) -> None:
        """Reserve; port 0 chooses a free one. Raises `OSError` if anybody listens there or has it reserved."""
        found = [
            item
            for one in hosts_of(host)
            for item in socket.getaddrinfo(one, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ]
        self.port = port
        missing: OSError | None = None
        bound = False
        with ExitStack() as stack:
            for family, _, _, _, address in dict.fromkeys(found):
                # The port chosen for the first address is asked for on the others.
                try:
                    sock = stack.enter_context(_bind(family, (address[0], self.port, *address[2:])))
                except OSError as error:
                    if error.errno not in ABSENT:
                        raise
                    missing = error
                    continue
                self.port = sock.getsockname()[1]
                bound = True
            if missing is not None and not bound:
                raise missing
            self._sockets = stack.pop_all()

    def close(self) -> None:
        """Give the port back; those who listen on it go on."""
        self._sockets.close()


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    """A bound socket that others may join from now on, after a bind that nobody could have shared with us.

    Bound with SO_REUSEPORT it would join a stranger's port without an error. So that
    is set after the bind. SO_REUSEADDR is only for a port on which connections of a
    service that has ended are still remembered: without it, not even another
    supervisor that starts at the same moment gets through.
    """
    try:
        return _bind_alone(family, address, reuse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return _bind_alone(family, address, reuse=True)


def _bind_alone(family: int, address: tuple[object, ...], *, reuse: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        if family == socket.AF_INET6:
            # As asyncio does: an IPv6 address is that alone.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        sock.close()
        raise
    return sock
