"""`adsum token`: a token for a user, signed as the service expects."""

import click

from adsum.cli.options import (
    authenticator,
    check_duration_ms,
    check_user,
    client_settings,
    config_option,
    examples,
    find_platform,
    platform_option,
    secret_option,
)

_EXAMPLES = examples("adsum token alice --platform ios", "adsum token alice --platform 5 --expires 12h")


@click.command(epilog=_EXAMPLES)
@click.argument("user", callback=check_user)
@platform_option
@click.option(
    "--expires",
    callback=check_duration_ms,
    default="7d",
    metavar="TIME",
    show_default=True,
    help="How long it is good: 90s, 12h, 7d.",
)
@secret_option
@config_option
def token(user: str, platform: str, expires: int, secret: str | None, config: str | None) -> None:
    """Print a token with which USER can connect on one platform."""
    settings = client_settings(config, secret)
    chosen = find_platform(settings, platform)
    click.echo(authenticator(settings).issue(user, chosen.id, expires))
