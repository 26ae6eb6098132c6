"""The group of commands, and what becomes of errors.

Invariant: whatever fails, the person reads one line for each reason on stderr and
no traceback, unless `--debug` asks for it.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from adsum.app.config import ConfigError
from adsum.build import described
from adsum.cli.ask import online, status
from adsum.cli.config import config
from adsum.cli.demo import demo
from adsum.cli.health import health
from adsum.cli.live import connect
from adsum.cli.options import examples
from adsum.cli.serve import serve
from adsum.cli.takeover import import_
from adsum.cli.token import token
from adsum.cli.watch import watch
from adsum.cli.worker import worker
from adsum.client.errors import ClientError
from adsum.domain.errors import AdsumError

FAILED = 1
MISUSED = 2
INTERRUPTED = 130
"""As shells count a command that SIGINT ended: 128 + 2."""


class Commands(click.Group):
    """A group that turns errors into lines and exit codes."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command named."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _leave_stdout()
            ctx.exit(FAILED)
        except Exception as error:
            if ctx.params["debug"]:
                raise
            ctx.exit(_explain(error))


@click.group(
    cls=Commands,
    epilog=examples("adsum serve", "adsum watch alice bob", "adsum connect alice --platform ios"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(described(), message="adsum %(version)s")
@click.option("--debug", is_flag=True, help="Show where in the code an error came from.")
def commands(*, debug: bool) -> None:  # the group reads it
    """Adsum: who is online, and on which platforms."""


for _command in (serve, worker, demo, token, connect, watch, status, online, health, config, import_):
    commands.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default this process's; its exit code."""
    try:
        code: int | None = commands.main(arguments, prog_name="adsum", standalone_mode=False)
    except click.ClickException as error:
        return _explain(error)
    except click.Abort:
        return INTERRUPTED
    return code or 0


def main() -> NoReturn:
    """Run this process's command line and exit."""
    # A terminal that lacks a character gets its number instead of an error.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run())


def _explain(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, NoArgsIsHelpError):
        error.show()
        return MISUSED
    lines, code = _lines(error)
    for line in lines:
        click.echo(f"adsum: {line}", err=True)
    return code


def _lines(error: Exception) -> tuple[list[str], int]:
    match error:
        case ConfigError():
            return list(error.problems), MISUSED
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "adsum"
            return [f"{error.format_message()} (see {command} --help)"], MISUSED
        case click.ClickException():
            return [error.format_message()], error.exit_code
        case ClientError() | OSError():
            return [str(error)], FAILED
        case AdsumError():
            return [error.detail or error.name], FAILED
        case _:
            return [f"{type(error).__name__}: {error} (adsum --debug … shows where)"], FAILED


def _leave_stdout() -> None:
    """Nobody reads our output any more: have the flush at exit go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
