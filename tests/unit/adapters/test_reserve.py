"""Reserved ports, over real sockets."""

import errno
import socket

import pytest

from adsum.adapters.reserve import SUPPORTED, Reservation
from tests.support.network import without_ipv6

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="the system has no SO_REUSEPORT")

HOST = "127.0.0.1"


def listener(port: int, *, shared: bool) -> socket.socket:
    """A socket that listens, as servers make it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    try:
        sock.bind((HOST, port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def taken(port: int) -> bool:
    """Whether the port can't be reserved."""
    try:
        Reservation(HOST, port).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def test_processes_of_ours_share_a_reserved_port_and_others_do_not() -> None:
    ours = Reservation(HOST, 0)
    assert ours.port
    assert taken(ours.port), "another supervisor at the same moment"
    with pytest.raises(OSError, match="in use"):
        listener(ours.port, shared=False)
    with listener(ours.port, shared=True), listener(ours.port, shared=True):
        assert taken(ours.port)
        with pytest.raises(OSError, match="in use"):
            listener(ours.port, shared=False)
    ours.close()
    assert not taken(ours.port)


def test_no_client_is_led_to_a_reservation() -> None:
    ours = Reservation(HOST, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, ours.port))
    ours.close()


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_somebody_listens_on_is_not_ours(shared: bool) -> None:  # noqa: FBT001 - a parameter of the test
    with listener(0, shared=shared) as theirs:
        assert taken(theirs.getsockname()[1])


def test_connections_of_a_service_that_has_ended_are_no_hindrance() -> None:
    """The system remembers them for a minute."""
    with listener(0, shared=False) as theirs:
        port = theirs.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            theirs.accept()[0].close()
            assert not client.recv(1)
    assert not taken(port)


def test_a_name_with_several_addresses_gets_one_port() -> None:
    addresses = {row[4][0] for row in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    ours = Reservation("localhost", 0)
    for address in addresses:
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        with socket.socket(family) as sock, pytest.raises(OSError, match="in use"):
            sock.bind((address, ours.port))
    ours.close()


def test_every_address_of_ipv6_means_those_of_ipv4_too() -> None:
    ours = Reservation("::", 0)
    for family, address in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
        with socket.socket(family) as sock, pytest.raises(OSError, match="in use"):
            sock.bind((address, ours.port))
    ours.close()


def test_where_there_is_no_ipv6_those_of_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch)
    ours = Reservation("::", 0)
    with socket.socket() as sock, pytest.raises(OSError, match="in use"):
        sock.bind((HOST, ours.port))
    ours.close()
    with pytest.raises(OSError, match=r"Address family"):
        Reservation("::1", 0)
