"""`adsum connect`: a connection that stays, and prints what it hears."""

import asyncio

import click

from adsum.cli.options import (
    check_user,
    client_settings,
    examples,
    find_platform,
    json_option,
    known_platforms,
    own_token,
    platform_option,
    ws_options,
    ws_url,
)
from adsum.cli.output import StatusPrinter, now_local, now_utc, say, say_json, shown, user_columns
from adsum.client import connection as client
from adsum.client.protocol import Kicked, Login
from adsum.client.state import Closed, Event, Lost, Restored
from adsum.domain.platforms import Platform
from adsum.wire.frames import Codec
from adsum.wire.protobuf import UserStatus

KICKED = "another login ended this connection"


@click.command(epilog=examples("adsum connect alice --platform ios", "adsum connect alice --platform web --codec js"))
@click.argument("user", callback=check_user)
@platform_option
@click.option("--background", is_flag=True, help="Connect as an app in the background.")
@click.option(
    "--codec", type=click.Choice(("go", "js")), default="go", show_default=True, help="How frames are written."
)
@click.option("--gzip/--no-gzip", default=True, show_default=True, help="Whether frames are compressed.")
@click.option("--token", metavar="T", help="A token; by default one is made with the secret.")
@json_option
@ws_options
def connect(
    user: str,
    platform: str,
    codec: str,
    token: str | None,
    ws: str | None,
    secret: str | None,
    config: str | None,
    *,
    background: bool,
    gzip: bool,
    as_json: bool,
) -> None:
    """Hold a connection of USER until Ctrl-C, and print what it hears.

    A lost connection is made anew, unless another login ended it.
    """
    settings = client_settings(config, secret)
    chosen = find_platform(settings, platform)
    token = token or own_token(settings, user, chosen)
    login = Login(user, chosen.id, token, background, Codec("js" if codec == "js" else "go", gzip=gzip))
    listener = _Listener(StatusPrinter(known_platforms(settings)), as_json=as_json)
    asyncio.run(_hold(ws_url(settings, ws), login, listener, chosen))


async def _hold(url: str, login: Login, listener: "_Listener", platform: Platform) -> None:
    async with client.connect(url, login, reconnect=True) as connection:
        listener.connected(login, platform)
        async for event in connection:
            listener.hear(event)
    raise click.ClickException(KICKED)


class _Listener:
    """Prints what a connection hears."""

    def __init__(self, printer: StatusPrinter, *, as_json: bool) -> None:
        self._printer = printer
        self._as_json = as_json

    def connected(self, login: Login, platform: Platform) -> None:
        """The first connection is made."""
        text = f"{shown(login.user_id)} is connected on {platform.name}"
        self._tell("connected", text, userID=login.user_id, platformID=platform.id)

    def hear(self, event: Event) -> None:
        """Print an event."""
        match event:
            case UserStatus():
                row = self._printer.row(event, user_columns((event.user_id,)))
                self._tell("change", row, **self._printer.fields(event))
            case Lost():
                wait = f"trying again in {event.retry_ms / 1000:.1f} s"
                self._tell("lost", f"connection lost: {event.reason}; {wait}", reason=event.reason)
            case Restored():
                self._tell("restored", "connected again")
            case Kicked():
                self._tell("kicked", "kicked by another login")
            case Closed():
                self._tell("closed", f"closed: {event.reason}", code=event.code, reason=event.reason)

    def _tell(self, event: str, text: str, **fields: object) -> None:
        if self._as_json:
            say_json(time=now_utc(), event=event, **fields)
        else:
            say(f"{now_local()}  {text}")
