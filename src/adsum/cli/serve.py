"""`adsum serve`: the service itself, in this process or in several."""

import errno
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import click

from adsum.adapters import secret as secret_file
from adsum.adapters.tokens import JwtAuthenticator
from adsum.app.config import ConfigError, find
from adsum.app.options import SettingsCommand, settings_options
from adsum.app.settings import Settings
from adsum.cli import logs
from adsum.cli.options import examples
from adsum.domain.errors import AdsumError, StoreError

log = logging.getLogger(__name__)


@click.command(
    cls=SettingsCommand,
    epilog=examples(
        "adsum serve",
        "adsum serve --ws 0.0.0.0:10001 --config adsum.toml",
        "ADSUM_SECRET=… adsum serve --ws 0.0.0.0:10001 --login-policy 5",
        "adsum serve --store redis://localhost --workers 4",
    ),
)
@settings_options
def serve(config: str | None, **flags: object) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    SIGHUP reads the settings again: secret and log are taken over at once. With --workers the rest is too, by new
    processes in place of the old, one after another; otherwise it takes a restart.
    """

    def read() -> tuple[Settings, str]:
        found = find(flags, os.environ, config)
        secret, origin = signing_secret(found.settings)
        # The last thing: whatever is wrong, the log stays as it was.
        logs.configure(found.settings)
        for warning in (*found.notes, *found.settings.warnings()):
            log.warning("%s", warning)
        log.info("the secret is %s", origin)
        return found.settings, secret

    def reload() -> tuple[Settings, str] | None:
        try:
            return read()
        except (ConfigError, AdsumError, click.ClickException, OSError) as error:
            log.error("the settings cannot be used, all stays as it is: %s", error)  # noqa: TRY400 - no defect of ours
            return None

    settings, secret = read()
    if settings.workers > 1:
        _supervise(settings, secret, reload)
        return

    from adsum.app import run  # noqa: PLC0415 -- the whole service, which other commands need not load

    run_service(run.serve(settings, secret, reload=reload))


def _supervise(settings: Settings, secret: str, reload: Callable[[], tuple[Settings, str] | None]) -> None:
    from adsum.app.supervisor import GaveUp, Supervisor  # noqa: PLC0415 -- as above

    try:
        run_service(Supervisor(settings, secret, reload).run())
    except GaveUp as error:
        raise click.ClickException(str(error)) from None


def signing_secret(settings: Settings) -> tuple[str, str]:
    """The configured secret, or the development one of this machine, made if there is none; and where it is from.

    Raises `ArgumentError` for one that cannot sign.
    """
    if settings.secret:
        JwtAuthenticator(settings.secret)
        return settings.secret, "the one configured"
    path = secret_file.default_path(os.environ)
    try:
        secret, created = secret_file.load_or_create(path)
    except OSError as error:
        raise click.ClickException(f"no secret is set, and {path} cannot be used: {error.strerror or error}") from None
    return secret, f"{'a new random one' if created else 'the random one'} in {path}"


def run_service(service: Coroutine[Any, Any, None]) -> None:
    """Run until it ends; a port that can't be had, or a store, becomes an error that says what to do."""
    from adsum.app import run  # noqa: PLC0415 -- as above

    try:
        run.run(service)
    except OSError as error:
        port, _, wanted = str(error).partition(" = ")
        cause = error.__cause__
        if port not in {"ws", "grpc", "http"} or not isinstance(cause, OSError):
            raise
        where = f"{port} = {wanted.partition(' ')[0]}"
        instead = f"choose another with --{port} HOST:PORT or ADSUM_{port.upper()}=HOST:PORT"
        raise click.ClickException(f"{where}: {_why_not(cause)}; {instead}") from None
    except StoreError as error:
        raise click.ClickException(
            f"{error.detail or error.name}; the store is set with --store or ADSUM_STORE"
        ) from None


def _why_not(error: OSError) -> str:
    """Why a port can't be had."""
    if isinstance(error, socket.gaierror):
        return error.strerror or "no such host"
    if error.errno == errno.EADDRINUSE:
        return "already in use, perhaps by another adsum"
    return os.strerror(error.errno) if error.errno else "in use, or no address of this machine"
