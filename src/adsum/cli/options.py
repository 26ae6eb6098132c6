"""Options that several commands share, and what they come to."""

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from adsum.adapters import secret as secret_file
from adsum.adapters.tokens import JwtAuthenticator
from adsum.app import config, values
from adsum.app.settings import Settings
from adsum.app.values import Address
from adsum.client.rpc import RpcClient
from adsum.domain.errors import ArgumentError
from adsum.domain.platforms import Platform, PlatformRegistry, parse_platforms

F = TypeVar("F", bound=Callable[..., Any])

OWN_TOKEN_TTL_MS = 30 * 86_400_000
"""Of a token a command makes for itself and shows nobody: as long as one may be left running."""

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def examples(*lines: str) -> str:
    """An epilog that shows uses of a command."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def check_user(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    """A user ID from the command line: any text in UTF-8, not empty."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("a user ID must be text in UTF-8") from None
    if not text:
        raise click.BadParameter("a user ID must not be empty")
    return text


def check_users(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """User IDs from the command line."""
    return tuple(check_user(ctx, param, text) for text in texts)


def check_duration_ms(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    """A time such as 90s, 15m, 12h or 7d, in milliseconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if not match:
        raise click.BadParameter(f"{text!r} is no duration: write 90s, 15m, 12h or 7d")
    return int(match[1]) * _UNITS_MS[match[2]]


def config_option(command: F) -> F:
    """`--config`."""
    return click.option(
        "--config", metavar="FILE", help=f"The service's TOML file (or {config.CONFIG_ENV} in the environment)."
    )(command)


def secret_option(command: F) -> F:
    """`--secret`."""
    return click.option(
        "--secret", metavar="TEXT", help="The service's secret (or ADSUM_SECRET; by default the development one)."
    )(command)


def platform_option(command: F) -> F:
    """`--platform`, required."""
    return click.option(
        "--platform", required=True, metavar="P", help="The platform: its ID, or its name in any case (ios, web, …)."
    )(command)


def ws_options(command: F) -> F:
    """Where and how to connect by WebSocket, and as whom: `--ws`, `--secret`, `--config`."""
    for option in (
        config_option,
        secret_option,
        click.option("--ws", metavar="URL|HOST:PORT", help="The service's WebSocket port (or ADSUM_WS)."),
    ):
        command = option(command)
    return command


def grpc_options(command: F) -> F:
    """Where and how to call: `--grpc`, `--token`, `--secret`, `--config`."""
    for option in (
        config_option,
        secret_option,
        click.option("--token", metavar="T", help="An administrator's token, where the service asks for one."),
        click.option("--grpc", metavar="HOST:PORT", help="The service's gRPC port (or ADSUM_GRPC)."),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


def client_settings(path: str | None, secret: str | None = None) -> Settings:
    """The service's settings as a command that talks to it needs them; raises `ConfigError`.

    A service on a public address must have a secret; whoever only asks it something
    need not know it.
    """
    return config.find({"secret": secret}, os.environ, path, serving=False).settings


def known_platforms(settings: Settings) -> PlatformRegistry:
    """The platforms the service knows."""
    return parse_platforms(settings.platforms)


def find_platform(settings: Settings, text: str) -> Platform:
    """The platform a person named; a usage error if there is none."""
    try:
        return known_platforms(settings).find(text)
    except ArgumentError as error:
        raise click.BadParameter(error.detail, param_hint="--platform") from None


def authenticator(settings: Settings) -> JwtAuthenticator:
    """What signs tokens: with the configured secret, or the development one on this machine."""
    path = secret_file.default_path(os.environ)
    secret = settings.secret or secret_file.load(path)
    if secret is None:
        raise click.ClickException(
            f"no secret to sign a token with: give --secret, ADSUM_SECRET or --config as for the service, or start "
            f"`adsum serve` here without one, which makes {path}"
        )
    return JwtAuthenticator(secret)


def own_token(settings: Settings, user_id: str, platform: Platform) -> str:
    """A token for what this command does itself."""
    return authenticator(settings).issue(user_id, platform.id, OWN_TOKEN_TTL_MS)


def ws_url(settings: Settings, ws: str | None) -> str:
    """Where to connect by WebSocket."""
    if ws is not None and "://" in ws:
        parts = urlsplit(ws)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise click.BadParameter("must be ws:// or wss:// and a host, or HOST:PORT", param_hint="--ws")
        return ws
    return f"ws://{reachable(settings.ws, ws, '--ws')}/"


def grpc_target(settings: Settings, grpc: str | None) -> str:
    """Where to call."""
    return str(reachable(settings.grpc, grpc, "--grpc"))


def rpc_client(settings: Settings, grpc: str | None, token: str | None) -> RpcClient:
    """A client of the gRPC port; made on the loop that uses it."""
    if token is None and settings.grpc_require_admin and settings.admins:
        # Whoever has the service's own settings may ask as its administrator.
        token = own_token(settings, settings.admins[0], next(iter(known_platforms(settings))))
    return RpcClient(grpc_target(settings, grpc), token)


def reachable(configured: Address, given: str | None, flag: str) -> Address:
    """The address to connect to; where a service listens on every address, this machine's own."""
    address = configured
    if given is not None:
        try:
            address = values.address().read(given)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=flag) from None
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 -- replaced, not listened on
    return Address(everywhere.get(address.host, address.host), address.port)
