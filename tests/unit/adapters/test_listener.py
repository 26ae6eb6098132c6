"""Listening sockets."""

import errno
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from adsum.adapters.listener import listening_sockets, most_files
from tests.support.network import without_ipv6


async def test_every_address_of_a_host_has_the_same_port() -> None:
    sockets = await listening_sockets("localhost", 0, shared=False)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    addresses = {item[4][0] for item in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    assert {one.getsockname()[0] for one in sockets} == addresses
    for one in sockets:
        one.close()


def families(sockets: Sequence[socket.socket]) -> list[socket.AddressFamily]:
    return [one.family for one in sockets]


async def test_every_address_of_ipv6_means_those_of_ipv4_too() -> None:
    sockets = await listening_sockets("::", 0, shared=False)
    assert families(sockets) == [socket.AF_INET6, socket.AF_INET]
    for one in sockets:
        one.listen()
    port = sockets[0].getsockname()[1]
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, port)) as client:
            assert client.getpeername()[0] == address
    for one in sockets:
        one.close()


async def test_where_there_is_no_ipv6_those_of_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch)
    sockets = await listening_sockets("::", 0, shared=False)
    assert families(sockets) == [socket.AF_INET]
    for one in sockets:
        one.close()
    with pytest.raises(OSError, match=r".") as caught:
        await listening_sockets("::1", 0, shared=False)
    assert caught.value.errno == errno.EAFNOSUPPORT


async def test_a_taken_port_is_an_error_and_leaves_no_socket_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        before = open_files()
        with pytest.raises(OSError, match=r".") as caught:
            await listening_sockets("127.0.0.1", other.getsockname()[1], shared=False)
        assert caught.value.errno == errno.EADDRINUSE
        assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_several_may_share_a_port() -> None:
    [one] = await listening_sockets("127.0.0.1", 0, shared=True)
    [two] = await listening_sockets("127.0.0.1", one.getsockname()[1], shared=True)
    assert one.getsockname() == two.getsockname()
    one.close()
    two.close()


def test_descriptors_are_numbered_below_the_limit() -> None:
    with socket.socket() as one:
        assert one.fileno() < most_files()
