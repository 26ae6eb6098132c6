"""A system that lacks something."""

import errno
import socket

import pytest


def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system refuse sockets of IPv6, as one that was built or started without it."""
    make = socket.socket.__init__

    def refuse(self: socket.socket, family: int = -1, *more: int, **named: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        make(self, family, *more, **named)

    monkeypatch.setattr(socket.socket, "__init__", refuse)
