"""A command line run in this process, away from the settings of whoever runs the tests."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adsum.cli.command import run


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Adsum = Callable[..., Outcome]


@pytest.fixture
def adsum(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Adsum:
    """Runs `adsum` with these arguments; its secret would be in `tmp_path`."""
    for name in [name for name in os.environ if name.startswith("ADSUM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def adsum(*arguments: str) -> Outcome:
        code = run(arguments)
        return Outcome(code, *capsys.readouterr())

    return adsum
