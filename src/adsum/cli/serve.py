"""`adsum serve`: the service itself."""

import logging
import os
from collections.abc import Coroutine
from typing import Any

import click

from adsum.adapters import secret as secret_file
from adsum.app.config import load
from adsum.app.options import SettingsCommand, settings_options
from adsum.app.settings import Settings
from adsum.cli import logs
from adsum.cli.options import examples

log = logging.getLogger(__name__)


@click.command(
    cls=SettingsCommand,
    epilog=examples(
        "adsum serve",
        "adsum serve --ws 0.0.0.0:10001 --config adsum.toml",
        "ADSUM_SECRET=… adsum serve --ws 0.0.0.0:10001 --login-policy 5",
    ),
)
@settings_options
def serve(config: str | None, **flags: object) -> None:
    """Run the service until Ctrl-C or SIGTERM."""
    settings = load(flags, os.environ, config)
    logs.configure(settings)
    for warning in settings.warnings():
        log.warning("%s", warning)
    secret, origin = signing_secret(settings)
    log.info("the secret is %s", origin)

    from adsum.app import run  # noqa: PLC0415 -- the whole service, which other commands need not load

    run_service(run.serve(settings, secret))


def signing_secret(settings: Settings) -> tuple[str, str]:
    """The configured secret, or the development one of this machine, made if there is none; and where it is from."""
    if settings.secret:
        return settings.secret, "the one configured"
    path = secret_file.default_path(os.environ)
    try:
        secret, created = secret_file.load_or_create(path)
    except OSError as error:
        raise click.ClickException(f"no secret is set, and {path} cannot be used: {error.strerror or error}") from None
    return secret, f"{'a new random one' if created else 'the random one'} in {path}"


def run_service(service: Coroutine[Any, Any, None]) -> None:
    """Run until it ends; a port that can't be had becomes an error that says what to do."""
    from adsum.app import run  # noqa: PLC0415 -- as above

    try:
        run.run(service)
    except OSError as error:
        port, _, wanted = str(error).partition(" = ")
        cause = error.__cause__
        if port not in {"ws", "grpc", "http"} or not isinstance(cause, OSError):
            raise
        reason = os.strerror(cause.errno) if cause.errno else "in use, or no address of this machine"
        where = f"{port} = {wanted.partition(' ')[0]}"
        raise click.ClickException(f"{where}: {reason}; choose another with --{port} HOST:PORT") from None
