"""The settings as options of a command, grouped in its help as in the document.

    @cli.command(cls=SettingsCommand)
    @settings_options
    def serve(config: str | None, **flags: object) -> None:
        settings = load(flags, os.environ, config)

Invariant: an option that was not given is None, so that it overrides nothing;
values are passed on as written, so that every source has the same errors.
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any, TypeVar

import click

from adsum.app.config import CONFIG_ENV
from adsum.app.settings import FILED, SPECS, Settings, file_name, flag_name

F = TypeVar("F", bound=Callable[..., Any])


_IN_SECTIONS = {*SPECS, *map(file_name, FILED)}


class SettingsCommand(click.Command):
    """A command whose help lists the settings by section, after its other options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each section under its title."""
        records = {option.name: option.get_help_record(ctx) for option in self.get_params(ctx)}
        others = [record for name, record in records.items() if name not in _IN_SECTIONS and record]
        _write(formatter, "Options", others)
        for section, names in groupby(SPECS, key=lambda name: SPECS[name].section):
            shown = [one for name in names for one in (name, file_name(name))]
            _write(formatter, section, [record for name in shown if (record := records.get(name))])


def _write(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def settings_options(command: F) -> F:
    """Give a command `--config FILE` and an option for every setting."""
    defaults = Settings()
    for name in reversed(SPECS):
        if name in FILED:
            command = _file_option(name)(command)
        command = _option(name, getattr(defaults, name))(command)
    config = click.option(
        "--config", metavar="FILE", help=f"The TOML file with settings (or {CONFIG_ENV} in the environment)."
    )
    return config(command)


def _option(name: str, default: object) -> Callable[[F], F]:
    spec = SPECS[name]
    flag = flag_name(name)
    doc = spec.doc.replace("`", "")
    if isinstance(default, bool):
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=f"{doc}  [default: {_word(default)}]")
    shown = _word(default)
    suffix = f"  [default: {shown}]" if shown else ""
    return click.option(flag, name, type=str, default=None, metavar=spec.kind.metavar, help=f"{doc}{suffix}")


def _file_option(name: str) -> Callable[[F], F]:
    flag = flag_name(file_name(name))
    return click.option(flag, file_name(name), default=None, metavar="FILE", help=f"A file with the value of {name}.")


def _word(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, tuple) else str(default)
