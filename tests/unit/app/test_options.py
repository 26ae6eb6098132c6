"""The settings as options of a command."""

import click
from click.testing import CliRunner

from adsum.app.config import Settings, load
from adsum.app.options import SettingsCommand, settings_options
from adsum.app.settings import FILED, SPECS, file_name, flag_name


def run(*arguments: str) -> tuple[str | None, dict[str, object]]:
    """What a command with the settings' options is called with."""
    seen: list[tuple[str | None, dict[str, object]]] = []

    @click.command(cls=SettingsCommand)
    @settings_options
    def serve(config: str | None, **flags: object) -> None:
        seen.append((config, flags))

    result = CliRunner().invoke(serve, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen[0] if seen else (result.output, {})


def test_without_flags_nothing_is_overridden() -> None:
    config, flags = run()
    assert config is None
    assert flags.keys() == {*SPECS, *map(file_name, FILED)}
    assert load(flags, {}, None) == Settings()


def test_flags_are_passed_on_by_setting_name() -> None:
    config, flags = run("--config", "a.toml", "--page-size", "7", "--no-webhook-kick", "--grpc-require-admin")
    settings = load(flags, {}, None)
    assert config == "a.toml"
    assert (settings.page_size, settings.webhook_kick, settings.grpc_require_admin) == (7, False, True)


def test_help_lists_every_flag_under_its_section_with_its_default() -> None:
    text, _ = run("--help")
    assert text is not None
    lines = [line.strip() for line in text.splitlines()]
    for name, spec in SPECS.items():
        assert f"{spec.section}:" in lines
        assert any(line.startswith(flag_name(name)) for line in lines), name
    assert text.index("\nOptions:") < text.index("\nPorts:") < text.index("\nLog:")
    assert "[default: 127.0.0.1:10001]" in " ".join(text.split())
