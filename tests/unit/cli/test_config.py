"""`adsum config`: what the service would make of the settings."""

import json
from pathlib import Path

import pytest

from adsum.app.settings import SPECS
from tests.unit.cli.conftest import Adsum

SECRET = "hunter2 hunter2 hunter2 hunter2 hunter2"


def test_each_value_is_shown_with_its_source(adsum: Adsum, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And neither a secret nor a password."""
    file = tmp_path / "adsum.toml"
    file.write_text('store = "redis://:hunter2@10.0.0.1/0"\norigins = ["https://a.example"]')
    own = tmp_path / "secret"
    own.write_text(SECRET)
    monkeypatch.setenv("ADSUM_PAGE_SIZE", "7")
    monkeypatch.setenv("ADSUM_SECRET_FILE", str(own))
    arguments = ("config", "show", "--config", str(file), "--ws", "0.0.0.0:1")
    outcome = adsum(*arguments, "--json")
    assert outcome.code == 0
    shown = json.loads(outcome.out)
    assert shown.keys() == SPECS.keys()
    assert shown["store"] == {"value": "redis://***@10.0.0.1/0", "source": f"file {file}"}
    assert shown["origins"] == {"value": ["https://a.example"], "source": f"file {file}"}
    assert shown["page_size"] == {"value": 7, "source": "environment variable ADSUM_PAGE_SIZE"}
    assert shown["secret"] == {
        "value": "***",
        "source": f"file {own}, by environment variable ADSUM_SECRET_FILE",
    }
    assert shown["ws"] == {"value": "0.0.0.0:1", "source": "flag --ws"}
    assert shown["grpc"] == {"value": "127.0.0.1:10110", "source": "default"}
    text = adsum(*arguments).out
    assert "hunter2" not in outcome.out + text
    assert 'ws = "0.0.0.0:1"' in text
    assert len(text.splitlines()) == len(SPECS)


def test_good_settings_and_what_is_unwise(adsum: Adsum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADSUM_COMPILE", "1")
    outcome = adsum("config", "check", "--secret", "short")
    assert (outcome.code, outcome.out) == (0, "the settings are good\n")
    assert "ADSUM_COMPILE is no setting" in outcome.err
    assert "shorter than 32 bytes" in outcome.err


def test_bad_settings_are_told_as_the_service_tells_them(adsum: Adsum) -> None:
    outcome = adsum("config", "check", "--ws", "0.0.0.0:1", "--page-size", "0")
    assert outcome.code == 2
    assert outcome.err == adsum("serve", "--ws", "0.0.0.0:1", "--page-size", "0").err
    assert not outcome.out
