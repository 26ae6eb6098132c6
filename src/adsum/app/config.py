"""Reads the settings from where they are written, and documents them.

Sources, weakest first: defaults, systemd's credentials, the TOML file, environment
variables, flags. What is secret can be in a file of its own.

Invariant: `find` returns settings that are all valid, or raises one
`ConfigError` that names every problem and shows no secret. The only I/O is
reading files. `python -m adsum.app.config` prints `docs/configuration.md`.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from adsum.adapters import reserve
from adsum.app import values
from adsum.app.settings import ENV_PREFIX, FILED, SPECS, Settings, env_name, file_name, flag_name

__all__ = ["CONFIG_ENV", "ConfigError", "Found", "Settings", "document", "find", "load", "table"]

CONFIG_ENV = "ADSUM_CONFIG"
"""The variable that names the file; the one variable of ours that is no setting."""

CREDENTIALS_ENV = "CREDENTIALS_DIRECTORY"
"""systemd's, for a unit with `LoadCredential=adsum_secret:PATH`: a folder with a file for each credential."""

MAX_FILE_BYTES = 65_536
"""Of a file with one secret."""

_FILED_BY = {file_name(name): name for name in FILED}

# Kubernetes sets these in every pod for a service that is called adsum or adsum-ANYTHING.
_KUBERNETES = re.compile(
    r"ADSUM_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


class ConfigError(Exception):
    """The settings cannot be used; `problems` has a sentence for each reason. The command exits with 2."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Found:
    """Settings; where each that was given comes from, in words; and notes on what was passed over, a sentence each."""

    settings: Settings
    sources: Mapping[str, str]
    notes: tuple[str, ...]


def load(flags: Mapping[str, object], env: Mapping[str, str], config_path: str | None) -> Settings:
    """The settings from all sources, as `find` has them."""
    return find(flags, env, config_path).settings


def find(
    flags: Mapping[str, object], env: Mapping[str, str], config_path: str | None, *, serving: bool = True
) -> Found:
    """The settings from all sources.

    `flags` holds values by setting name; one that is None was not given.
    `env` is the whole environment. `config_path` is the file the command line
    names, if any; otherwise `ADSUM_CONFIG` may. `serving` is whether they are for the
    service itself: who only asks it something need not know its secret. Raises `ConfigError`.
    """
    path = config_path or env.get(CONFIG_ENV)
    reading = _Reading()
    if path:
        try:
            reading.take(_from_file(path))
        except ConfigError as error:
            # What the file would have said is not known, so nothing can be said of contradictions.
            reading.take(_from_env(env), strict=False)
            reading.take(_from_flags(flags))
            raise ConfigError([*error.problems, *reading.problems]) from error
    reading.take(_from_env(env), strict=False)
    reading.take(_from_flags(flags))
    reading.take_files(env.get(CREDENTIALS_ENV))
    return Found(reading.settings(serving=serving), reading.sources, tuple(reading.notes))


_Source = Iterator[tuple[str, str, object]]
"""Name, the source as a person knows it, and what is written there."""


def _from_file(path: str) -> _Source:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"config file {path} cannot be read: {error.strerror}"]) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError([f"config file {path} is not TOML: {error}"]) from error
    for name, raw in content.items():
        yield name, f"file {path}", raw


def _from_env(env: Mapping[str, str]) -> _Source:
    for variable, raw in sorted(env.items()):
        # One that is empty was not set: that is how a unit file or a compose file unsets one.
        if raw and variable.startswith(ENV_PREFIX) and variable != CONFIG_ENV and not _is_kubernetes(variable, raw):
            name = variable.removeprefix(ENV_PREFIX).lower()
            yield name if variable == env_name(name) else variable, f"environment variable {variable}", raw


def _is_kubernetes(variable: str, raw: str) -> bool:
    return bool(_KUBERNETES.fullmatch(variable)) or (variable.endswith("_PORT") and "://" in raw)


def _from_flags(flags: Mapping[str, object]) -> _Source:
    for name, raw in flags.items():
        if raw is not None:
            yield name, f"flag {flag_name(name)}", raw


@dataclass(slots=True)
class _Reading:
    """The values taken so far, a later one over an earlier, and what was wrong."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of a setting, the file that is to hold its value, and the source that says so."""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wrong: set[str] = field(default_factory=set)
    """The settings that had a bad value: what they contradict is not worth telling."""

    def take(self, source: _Source, *, strict: bool = True) -> None:
        """Take what a source says. Where it is not `strict`, an unknown name may be meant for somebody else."""
        for name, label, raw in source:
            if name in SPECS:
                self._take(name, label, raw)
            elif name in _FILED_BY:
                self._take_file(name, label, raw)
            elif strict:
                self.problems.append(f"{name} ({label}) is no setting{_suggestion(name, raw)}")
            else:
                self.notes.append(f"{label} is no setting and is passed over{_suggestion(name, raw)}")

    def _take(self, name: str, label: str, raw: object) -> None:
        spec = SPECS[name]
        self.sources[name] = label
        try:
            self.values[name] = spec.kind.read(raw)
        except ValueError as error:
            written = "" if spec.secret else f" = {values.shown(raw, private=spec.kind.private)}"
            self.problems.append(f"{name}{written} ({label}) {error}")
            self.wrong.add(name)

    def _take_file(self, name: str, label: str, raw: object) -> None:
        if isinstance(raw, str) and raw:
            self.files[_FILED_BY[name]] = raw, label
        else:
            self.problems.append(f"{name} ({label}) must be the path of a file")

    def take_files(self, credentials: str | None) -> None:
        """Take what is in files of its own; in the folder `credentials` is what no source gives."""
        for name in FILED:
            path, label = self.files.get(name, ("", ""))
            if path and name in self.sources:
                self.problems.append(
                    f"{name} ({self.sources[name]}) and {file_name(name)} ({label}) are both set: leave one out"
                )
            elif path:
                self._take_content(name, Path(path), f"file {path}, by {label}")
            elif credentials and name not in self.sources:
                credential = Path(credentials, f"adsum_{name}")
                if credential.exists():
                    self._take_content(name, credential, f"credential {credential}")

    def _take_content(self, name: str, path: Path, label: str) -> None:
        try:
            text = _content(path)
        except ValueError as error:
            self.problems.append(f"{name} ({label}) {error}")
            self.wrong.add(name)
        else:
            self._take(name, label, text)

    def settings(self, *, serving: bool) -> Settings:
        settings = Settings(**cast("dict[str, Any]", self.values))
        self.problems += _misorders(settings, self.wrong)
        self.problems += _bad_listeners(settings, self.wrong | (set() if serving else {"secret"}))
        self.problems += _bad_workers(settings, self.wrong)
        if self.problems:
            raise ConfigError(self.problems)
        return settings


def _content(path: Path) -> str:
    """What a file of one secret holds; raises `ValueError` with the reason why not."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1).decode()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is not text in UTF-8") from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"is longer than {MAX_FILE_BYTES} bytes")
    # An editor, or echo, ends a file with a line break, which is no part of a secret.
    return content.removesuffix("\n").removesuffix("\r")


def _suggestion(name: str, raw: object) -> str:
    if isinstance(raw, dict):
        return ": settings have no sections, write them all at the top of the file"
    close = get_close_matches(name.lower().removeprefix(ENV_PREFIX.lower()).replace("-", "_"), SPECS, n=1)
    return f": did you mean {close[0]}?" if close else ""


_ORDERED = (
    ("retry_min_ms", "retry_max_ms"),
    ("webhook_retry_min_ms", "webhook_retry_max_ms"),
    ("max_connections_per_user", "max_connections"),
    ("sweep_interval_ms", "lease_ttl_ms"),
    ("web_ping_interval_ms", "heartbeat_timeout_ms"),
)


def _misorders(settings: Settings, wrong: set[str]) -> Iterator[str]:
    for low, high in _ORDERED:
        least, most = getattr(settings, low), getattr(settings, high)
        if least > most and not wrong & {low, high}:
            yield f"{low} = {least} must not be greater than {high} = {most}"


def _bad_listeners(settings: Settings, wrong: set[str]) -> Iterator[str]:
    taken: dict[values.Address, str] = {}
    for name in ("ws", "grpc", "http"):
        listen: values.Address = getattr(settings, name)
        if name in wrong:
            continue
        if not (settings.secret or "secret" in wrong or listen.loopback):
            yield f"{name} = {listen} can be reached from other machines: set secret, or listen on 127.0.0.1"
        if listen in taken:
            yield f"{name} = {listen} is taken by {taken[listen]}: give each its own port"
        if listen.port:
            taken[listen] = name


def _bad_workers(settings: Settings, wrong: set[str]) -> Iterator[str]:
    if settings.workers == 1:
        return
    if settings.store == "memory:" and "store" not in wrong:
        yield (
            f"workers = {settings.workers} cannot share store = memory:, which is in one process: "
            "set store to a Redis URL, or workers to 1"
        )
    if not reserve.SUPPORTED:
        yield f"workers = {settings.workers} cannot share ports on this system: set workers to 1"


_INTRODUCTION = """\
# Configuration

<!-- Written by `python -m adsum.app.config`; a test compares. -->

A setting can come from four places. A later one beats an earlier one:

1. its default,
2. a TOML file: `adsum serve --config FILE`, or the environment variable `ADSUM_CONFIG`,
3. an environment variable,
4. a flag of `adsum serve`.

The name is the same everywhere. In the file all settings are at the top level:

```toml
ws = "0.0.0.0:10001"
secret = "at least 32 bytes that nobody can guess"
platforms = ["openim", "20:Watch:Wearable"]
retry_min_ms = 50
```

In an environment variable or a flag, a list is written with commas (`openim,20:Watch:Wearable`) and true or false as
`true`, `false`, `1`, `0`, `yes`, `no`, `on` or `off`; a flag that is true or false is `--NAME` or `--no-NAME`.
A name ends in its unit: `_ms` for milliseconds, `_bytes` for bytes; others are counts.

A port listens on `HOST:PORT`: `127.0.0.1:10001` on this machine alone, `0.0.0.0:10001` on every address of IPv4,
`[::]:10001` on every address of IPv6 and of IPv4, as far as the system has both.

A name that is no setting, in the file or as a flag, and a bad value are errors, all told at once; the command then
exits with 2. An environment variable that is empty is not set; an unknown one that begins with `ADSUM_` is a warning,
since it may be meant for somebody else. The variables that Kubernetes sets for a service called `adsum`
(`ADSUM_SERVICE_HOST`, `ADSUM_PORT` and the like) are passed over in silence.

With no `secret`, all three ports must be on loopback.

What is secret, or a URL that may hold a password, can be in a file of its own: `secret_file`, `store_file`,
`webhook_url_file` and `projection_url_file` name it, in all the ways a setting can be given
(`ADSUM_SECRET_FILE=/run/secrets/adsum`). One line break at the file's end is left out. To set both, `secret` and
`secret_file`, is an error. Under systemd a credential called `adsum_secret`
(`LoadCredential=adsum_secret:/etc/adsum/secret`), and so on, is read if nothing else gives the setting.
A secret on the command line shows in the list of processes: prefer a file.

`adsum config check` says whether the settings are good, and `adsum config show` where each comes from.
"""


def table() -> str:
    """A Markdown table of the settings for each section."""
    defaults = Settings()
    parts = []
    for section, names in groupby(SPECS, key=lambda name: SPECS[name].section):
        rows = [f"| {' | '.join(_row(name, getattr(defaults, name)))} |" for name in names]
        head = "| setting | flag | environment | default | values | meaning |\n|---|---|---|---|---|---|"
        parts.append("\n".join([f"## {section}", "", head, *rows, ""]))
    return "\n".join(parts)


def _row(name: str, default: object) -> tuple[str, ...]:
    spec = SPECS[name]
    flag = flag_name(name)
    if isinstance(default, bool):
        flag = f"{flag}`, `--no-{flag[2:]}"
    return f"`{name}`", f"`{flag}`", f"`{env_name(name)}`", _default(default), spec.kind.hint, spec.doc


def _default(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int):
        return f"{default:_}"
    text = ",".join(default) if isinstance(default, tuple) else str(default)
    return f"`{text}`" if text else "empty"


def document() -> str:
    """The whole of `docs/configuration.md`."""
    return f"{_INTRODUCTION}\n{table()}"


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201 -- this is the document's source
