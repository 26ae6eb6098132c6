"""`adsum config`: whether the settings are good, and where each comes from."""

import json
import os

import click

from adsum.app.config import find
from adsum.app.options import SettingsCommand, settings_options
from adsum.app.settings import SPECS
from adsum.app.values import Address, redacted
from adsum.cli.options import examples, json_option
from adsum.cli.output import note, say, say_json

HIDDEN = "***"
DEFAULT = "default"


@click.group(
    epilog=examples("adsum config check --config adsum.toml", "adsum config show", "adsum config show --json | jq .ws")
)
def config() -> None:
    """Check the settings, or show where each comes from."""


@config.command(cls=SettingsCommand, epilog=examples("adsum config check --config adsum.toml"))
@settings_options
def check(config: str | None, **flags: object) -> None:
    """Say whether `adsum serve` could use these settings.

    What is unwise is told on stderr; what is wrong too, and then the exit code is 2.
    """
    found = find(flags, os.environ, config)
    for warning in (*found.notes, *found.settings.warnings()):
        note(warning)
    say("the settings are good")


@config.command(cls=SettingsCommand, epilog=examples("adsum config show", "adsum config show --json"))
@json_option
@settings_options
def show(config: str | None, *, as_json: bool, **flags: object) -> None:
    """Print each setting with its value, as in the file, and its source.

    Secrets are not shown, nor what may be a password in a URL.
    """
    found = find(flags, os.environ, config)
    for warning in found.notes:
        note(warning)
    values = {name: _shown(name, getattr(found.settings, name)) for name in SPECS}
    sources = {name: found.sources.get(name, DEFAULT) for name in SPECS}
    if as_json:
        say_json(**{name: {"value": value, "source": sources[name]} for name, value in values.items()})
        return
    lines = {name: f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()}
    columns = min(60, max(map(len, lines.values())))
    for name, line in lines.items():
        say(f"{line:<{columns}}  # {sources[name]}")


def _shown(name: str, value: object) -> object:
    """A setting's value as TOML and JSON have it."""
    spec = SPECS[name]
    if spec.secret:
        return HIDDEN if value else ""
    if spec.kind.private:
        return redacted(str(value))
    return str(value) if isinstance(value, Address) else list(value) if isinstance(value, tuple) else value
