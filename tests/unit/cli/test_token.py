"""`adsum token`, and where the commands take settings and secret from."""

from pathlib import Path

import pytest

from adsum.adapters import secret as secret_file
from adsum.adapters.tokens import JwtAuthenticator
from adsum.cli.options import client_settings, grpc_target, ws_url
from tests.unit.cli.conftest import Adsum

SECRET = "a secret of 32 bytes at the least"


@pytest.mark.parametrize("platform", ["5", "web", "WEB"])
def test_a_token_proves_user_and_platform(adsum: Adsum, platform: str) -> None:
    outcome = adsum("token", "alice", "--platform", platform, "--secret", SECRET)
    identity = JwtAuthenticator(SECRET).verify(outcome.out.strip())
    assert (identity.user_id, identity.platform_id, outcome.err) == ("alice", 5, "")


def test_a_token_lasts_as_long_as_asked(adsum: Adsum) -> None:
    def expires_ms(*arguments: str) -> int:
        token = adsum("token", "alice", "--platform", "1", "--secret", SECRET, *arguments).out.strip()
        return JwtAuthenticator(SECRET).verify(token).expires_ms

    assert expires_ms("--expires", "8d") - expires_ms() == pytest.approx(86_400_000, abs=60_000)


def test_the_secret_comes_from_flag_environment_file_or_the_development_file(
    adsum: Adsum, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def signs_with(secret: str, *arguments: str) -> bool:
        token = adsum("token", "alice", "--platform", "1", *arguments).out.strip()
        return JwtAuthenticator(secret).verify(token).user_id == "alice"

    development, _ = secret_file.load_or_create(tmp_path / "adsum" / "dev-secret")
    assert signs_with(development)
    config = tmp_path / "adsum.toml"
    config.write_text(f'secret = "{SECRET} of the file"\nws = "0.0.0.0:1"')
    assert signs_with(f"{SECRET} of the file", "--config", str(config))
    monkeypatch.setenv("ADSUM_SECRET", f"{SECRET} of the environment")
    assert signs_with(f"{SECRET} of the environment", "--config", str(config))
    assert signs_with(SECRET, "--secret", SECRET)


def test_without_any_secret_it_says_what_to_do(adsum: Adsum, tmp_path: Path) -> None:
    outcome = adsum("token", "alice", "--platform", "1")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("adsum: no secret to sign a token with: give --secret, ADSUM_SECRET or --config")
    assert str(tmp_path) in outcome.err


def test_a_remote_service_can_be_asked_without_its_secret(adsum: Adsum, monkeypatch: pytest.MonkeyPatch) -> None:
    assert adsum("--version").code == 0
    monkeypatch.setenv("ADSUM_GRPC", "presence.example:10110")
    monkeypatch.setenv("ADSUM_WS", "0.0.0.0:10001")
    settings = client_settings(None)
    assert settings.secret == ""
    assert grpc_target(settings, None) == "presence.example:10110"
    assert grpc_target(settings, "[::]:1") == "127.0.0.1:1"
    assert ws_url(settings, None) == "ws://127.0.0.1:10001/"
    assert ws_url(settings, "wss://chat.example/presence") == "wss://chat.example/presence"
