"""What becomes of errors, help and versions."""

import platform
import sys

import pytest

from adsum import __version__, cli
from adsum.cli import ask
from adsum.cli.command import commands
from adsum.client.errors import ServerError
from adsum.wire import websocket
from tests.unit.cli.conftest import Adsum


def test_the_version(adsum: Adsum) -> None:
    """With what a bug report needs besides."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    how = "compiled" if websocket.__file__.endswith((".so", ".pyd")) else "not compiled"
    assert adsum("--version").out == f"adsum {__version__} ({how}, {python})\n"


@pytest.mark.parametrize("arguments", [(), ("serve",), ("status",), ("config",), ("config", "show")])
def test_the_short_help_is_the_long_one(adsum: Adsum, arguments: tuple[str, ...]) -> None:
    short = adsum(*arguments, "-h")
    assert short.code == 0
    assert short == adsum(*arguments, "--help")


@pytest.mark.parametrize("name", sorted(name for name, command in commands.commands.items() if not command.hidden))
def test_every_help_has_examples(adsum: Adsum, name: str) -> None:
    outcome = adsum(name, "--help")
    assert outcome.code == 0
    assert f"Examples:\n    adsum {name}" in outcome.out


def test_without_a_command_it_shows_the_help(adsum: Adsum) -> None:
    outcome = adsum()
    assert outcome.code == 2
    assert "Commands:" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("frob",), "adsum: No such command 'frob'. (see adsum --help)"),
        (("--frob",), "adsum: No such option '--frob'. (see adsum --help)"),
        (("status",), "adsum: Missing argument 'USER...'. (see adsum status --help)"),
        (("status", ""), "adsum: Invalid value for 'USER...': a user ID must not be empty (see adsum status --help)"),
        (("watch", "\udcff"), "adsum: Invalid value for 'USER...': a user ID must be text in UTF-8 (see"),
        (("token", "alice"), "adsum: Missing option '--platform'. (see adsum token --help)"),
        (("token", "alice", "--platform", "tv"), "adsum: Invalid value for --platform: unknown platform 'tv': known"),
        (("token", "alice", "--platform", "1", "--expires", "0d"), "adsum: Invalid value for '--expires': '0d' is no"),
        (("status", "alice", "--grpc", "here"), "adsum: Invalid value for --grpc: must be HOST:PORT"),
        (
            ("connect", "a", "--platform", "1", "--token", "x", "--ws", "http://a"),
            "adsum: Invalid value for --ws: must",
        ),
    ],
)
def test_misuse_is_one_line_and_code_2(adsum: Adsum, arguments: tuple[str, ...], line: str) -> None:
    outcome = adsum(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(line)
    assert outcome.err.count("\n") == 1
    assert not outcome.out


def test_each_bad_setting_has_its_line(adsum: Adsum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADSUM_LOGIN_POLICY", "3")
    outcome = adsum("serve", "--ws", "nowhere", "--http", "0.0.0.0:80")
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("adsum: ") for line in lines)
    assert "login_policy" in lines[0]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ServerError(1002, "NoPermissionError", "not you"), "adsum: not you (NoPermissionError 1002)"),
        (OSError(2, "No such file or directory", "x"), "adsum: [Errno 2] No such file or directory: 'x'"),
        (ZeroDivisionError("a defect"), "adsum: ZeroDivisionError: a defect (adsum --debug … shows where)"),
    ],
)
def test_failures_are_one_line_and_code_1(
    adsum: Adsum, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(ask, "client_settings", fail)
    outcome = adsum("online")
    assert (outcome.code, outcome.err) == (1, f"{line}\n")
    with pytest.raises(type(error)):
        adsum("--debug", "online")


def test_an_interrupt_is_quiet(adsum: Adsum, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ask, "client_settings", interrupt)
    outcome = adsum("online")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "")


def test_an_interrupt_while_it_loads_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupt:
        def find_spec(self, name: str, *_arguments: object) -> None:
            if name == "adsum.cli.command":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "adsum.cli.command")
    monkeypatch.delattr(cli, "command")
    monkeypatch.setattr(sys, "meta_path", [Interrupt(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_nobody_there_says_where(adsum: Adsum) -> None:
    outcome = adsum("status", "alice", "--grpc", "127.0.0.1:1")
    assert (outcome.code, outcome.err) == (1, "adsum: 127.0.0.1:1 cannot be reached: Connection refused\n")
