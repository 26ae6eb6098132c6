"""`adsum connect` and `adsum watch`: connections that stay, and print what they hear."""

import asyncio
import secrets
from collections.abc import Callable

import click

from adsum.app.settings import Settings
from adsum.cli.options import (
    check_user,
    check_users,
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
from adsum.cli.output import StatusPrinter, note, now_local, now_utc, say, say_json, shown, user_columns
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


@click.command(epilog=examples("adsum watch alice bob", "adsum watch alice --json | jq -r .status"))
@click.argument("users", metavar="USER...", callback=check_users, nargs=-1, required=True)
@click.option("--as", "as_user", metavar="USER", help="Who watches; by default a user made up for it.")
@click.option("--platform", metavar="P", help="The platform to watch from; by default Admin if there is one.")
@json_option
@ws_options
def watch(
    users: tuple[str, ...],
    as_user: str | None,
    platform: str | None,
    ws: str | None,
    secret: str | None,
    config: str | None,
    *,
    as_json: bool,
) -> None:
    """Print the state of each USER now, then each change, until Ctrl-C.

    The watching user is online too while it lasts.
    """
    settings = client_settings(config, secret)
    chosen = find_platform(settings, platform) if platform else _technical_platform(settings)
    watcher = as_user or f"adsum-watch-{secrets.token_hex(4)}"
    login = Login(watcher, chosen.id, own_token(settings, watcher, chosen))
    columns = user_columns(users)
    printer = StatusPrinter(known_platforms(settings))

    def tell(status: UserStatus, event: str) -> None:
        if as_json:
            say_json(time=now_utc(), event=event, **printer.fields(status))
        else:
            say(f"{now_local()}  {printer.row(status, columns)}")

    asyncio.run(_watch(ws_url(settings, ws), login, users, tell))


async def _watch(url: str, login: Login, users: tuple[str, ...], tell: Callable[[UserStatus, str], None]) -> None:
    async with client.connect(url, login, reconnect=True) as connection:
        for status in await connection.watch(users):
            tell(status, "state")
        async for event in connection:
            match event:
                case UserStatus():
                    tell(event, "change")
                case Lost():
                    note(f"connection lost: {event.reason}; trying again in {event.retry_ms / 1000:.1f} s")
                case Restored():
                    note("connected again")
    raise click.ClickException(KICKED)


def _technical_platform(settings: Settings) -> Platform:
    platforms = list(known_platforms(settings))
    return next((platform for platform in platforms if platform.name == "Admin"), platforms[0])


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
