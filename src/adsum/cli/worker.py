"""`adsum worker`: one of the processes of `adsum serve --workers`, which starts it. Nobody else does."""

import socket

import click

from adsum.app.settings import Settings
from adsum.cli import logs
from adsum.cli.serve import run_service


@click.command(hidden=True)
@click.argument("descriptor", type=int)
def worker(descriptor: int) -> None:
    """Be a worker; the socket of this DESCRIPTOR leads to the supervisor."""
    try:
        channel = socket.socket(fileno=descriptor)
    except OSError:
        raise click.UsageError("workers are started by `adsum serve --workers`, not by hand") from None

    from adsum.app.worker import work  # noqa: PLC0415 -- the whole service, which other commands need not load

    def prepare(settings: Settings, number: int) -> None:
        logs.configure(settings, worker=number)

    run_service(work(channel, prepare))
