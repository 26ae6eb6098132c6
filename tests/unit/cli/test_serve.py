"""What `adsum serve` says when it cannot have what it needs."""

import errno
import socket

import click
import pytest

from adsum.cli.serve import run_service
from adsum.domain.errors import StoreError


async def refused_port(cause: OSError) -> None:
    raise OSError(f"http = here:80 cannot be listened on: {cause}") from cause


async def refused_store() -> None:
    raise StoreError("the store did not answer within 1 s")


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (OSError(errno.EADDRINUSE, "address already in use"), "already in use, perhaps by another adsum"),
        (OSError(errno.EACCES, "permission denied"), "Permission denied"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("no number"), "in use, or no address of this machine"),
    ],
)
def test_a_port_that_cannot_be_had_says_why_and_what_to_do(cause: OSError, reason: str) -> None:
    with pytest.raises(click.ClickException) as failed:
        run_service(refused_port(cause))
    instead = "choose another with --http HOST:PORT or ADSUM_HTTP=HOST:PORT"
    assert failed.value.message == f"http = here:80: {reason}; {instead}"


def test_another_failure_of_the_system_is_passed_on() -> None:
    async def fail() -> None:
        raise OSError("disk = full")

    with pytest.raises(OSError, match="disk = full"):
        run_service(fail())


def test_a_store_that_cannot_be_had_names_its_setting() -> None:
    with pytest.raises(click.ClickException) as failed:
        run_service(refused_store())
    assert failed.value.message == "the store did not answer within 1 s; the store is set with --store or ADSUM_STORE"
