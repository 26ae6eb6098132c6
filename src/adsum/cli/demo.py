"""`adsum demo`: a service, and on the terminal two users who come and go as a third watches.

Everything is real: WebSocket clients of three users over sockets. The times are
from when a client begins to connect or leave until the watcher has its frame.
"""

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import click

from adsum.adapters.redis.url import parse_store_url
from adsum.adapters.tokens import JwtAuthenticator
from adsum.app.config import load
from adsum.app.options import SettingsCommand, settings_options
from adsum.app.settings import Settings
from adsum.cli import logs
from adsum.cli.options import OWN_TOKEN_TTL_MS, client_settings, examples, known_platforms
from adsum.cli.output import StatusPrinter, padded, say
from adsum.cli.serve import run_service, signing_secret
from adsum.client.connection import Connection, connect
from adsum.client.protocol import Login
from adsum.domain.platforms import Platform
from adsum.wire.frames import Codec
from adsum.wire.protobuf import UserStatus

if TYPE_CHECKING:
    from adsum.app.run import Listening, Service

ALICE, BOB, CAROL = "alice", "bob", "carol"
COLUMNS = 32
PATIENCE_S = 5
PAUSE_S = 0.6
"""Between two steps, so that a person can follow."""

T = TypeVar("T")


@click.command(cls=SettingsCommand, epilog=examples("adsum demo", "adsum demo --once --ws 127.0.0.1:0"))
@click.option("--once", is_flag=True, help="End after the demonstration.")
@settings_options
def demo(config: str | None, *, once: bool, **flags: object) -> None:
    """Run the service and show presence change hands.

    It serves until Ctrl-C.
    """
    # Its own three users need no time to go elsewhere: Ctrl-C ends it at once.
    settings = replace(load(flags, os.environ, config), shutdown_delay_ms=0, drain_ms=0)
    logs.configure(settings, level="warning")
    secret, origin = signing_secret(settings)

    from adsum.app import run  # noqa: PLC0415 -- the whole service, which other commands need not load

    director = _Director(settings, secret, origin, config, once=once)
    run_service(run.serve(settings, secret, director.start))
    if director.failure is not None:
        raise director.failure


class _Director:
    """Runs the demonstration beside the service, and ends the service after it if so asked."""

    def __init__(self, settings: Settings, secret: str, origin: str, config: str | None, *, once: bool) -> None:
        self._settings = settings
        self._secret = secret
        self._origin = origin
        self._config = config
        self._once = once
        self._show: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    def start(self, service: "Service", listening: "Listening") -> None:
        """The service is ready."""

        def ended(show: "asyncio.Task[None]") -> None:
            interrupted = show.cancelled() or service.parts.node.gateway.draining
            self.failure = None if interrupted else show.exception()
            if self._once or self.failure:
                # The service's own way to stop, as an operator would ask for it.
                signal.raise_signal(signal.SIGTERM)

        self._show = asyncio.create_task(self._run(listening))
        self._show.add_done_callback(ended)

    async def _run(self, listening: "Listening") -> None:
        say(f"{click.style('Adsum is up', bold=True)}, {_where(self._settings)}.")
        say(f"  WebSocket  ws://{listening.ws}/")
        say(f"  gRPC       {listening.grpc}")
        say(f"  HTTP       http://{listening.http}/metrics")
        say(f"  secret     {self._origin}")
        say("")
        async with AsyncExitStack() as stack:
            await _Stage(self._settings, self._secret, f"ws://{listening.ws}/", stack).play()
        say("")
        if not self._once:
            self._say_how_to_go_on(listening)

    def _say_how_to_go_on(self, listening: "Listening") -> None:
        known = client_settings(self._config)
        config = f" --config {shlex.quote(self._config)}" if self._config else ""
        ws = config if known.ws == listening.ws else f"{config} --ws {listening.ws}"
        grpc = config if known.grpc == listening.grpc else f"{config} --grpc {listening.grpc}"
        command = _own_name()
        platform = next(iter(known_platforms(self._settings))).name.lower()
        say(click.style("Go on in another terminal:", bold=True))
        if known.secret != self._settings.secret:
            say("  (first set ADSUM_SECRET there to the secret of this service)")
        say(f"  {command} watch alice bob{grpc}")
        say(f"  {command} connect alice --platform {shlex.quote(platform)}{ws}")
        say(f"  {command} status alice bob{grpc}")
        say(f"  {command} online{grpc}")
        say("")
        say("Serving until Ctrl-C.")


class _Stage:
    """Three users, and what happens to them."""

    def __init__(self, settings: Settings, secret: str, url: str, stack: AsyncExitStack) -> None:
        registry = known_platforms(settings)
        self._url = url
        self._stack = stack
        self._authenticator = JwtAuthenticator(secret)
        self._printer = StatusPrinter(registry)
        self._platforms = _three_of(list(registry))
        self._heard: asyncio.Queue[tuple[UserStatus, float]] = asyncio.Queue()
        self._pause_s = PAUSE_S if sys.stdout.isatty() else 0

    async def play(self) -> None:
        """The demonstration."""
        phone, web, desk = self._platforms
        carol = await self._join(CAROL, web, Codec("go", gzip=True))
        states = await carol.watch((ALICE, BOB))
        say("carol watches: " + ", ".join(self._words(status) for status in states))
        say("")
        say(click.style(f"  {padded('what happens', COLUMNS)}{padded('what carol hears', COLUMNS)}after", bold=True))
        ears = asyncio.create_task(self._listen(carol))
        self._stack.callback(ears.cancel)
        on_phone = await self._come(ALICE, phone, Codec("go", gzip=True))
        on_web = await self._come(BOB, web, Codec("js", gzip=False))
        on_desk = await self._come(ALICE, desk, Codec("go", gzip=False))
        await self._step(f"alice leaves {phone.name}", on_phone.close())
        await self._step(f"bob leaves {web.name}", on_web.close())
        await self._step(f"alice leaves {desk.name}", on_desk.close())

    async def _join(self, user: str, platform: Platform, codec: Codec) -> Connection:
        token = self._authenticator.issue(user, platform.id, OWN_TOKEN_TTL_MS)
        login = Login(user, platform.id, token, codec=codec)
        return await self._stack.enter_async_context(connect(self._url, login))

    async def _listen(self, carol: Connection) -> None:
        async for event in carol:
            if isinstance(event, UserStatus):
                self._heard.put_nowait((event, perf_counter()))

    async def _come(self, user: str, platform: Platform, codec: Codec) -> Connection:
        return await self._step(f"{user} connects on {platform.name}", self._join(user, platform, codec))

    async def _step(self, text: str, action: Awaitable[T]) -> T:
        """Do something, and say what carol heard of it and how long that took."""
        await asyncio.sleep(self._pause_s)
        started = perf_counter()
        done = await action
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, heard = await self._heard.get()
            words, after = self._words(status), f"{(heard - started) * 1000:.1f} ms"
        except TimeoutError:
            # Somebody else may hold the same platform: a client left from an earlier service, for one.
            words, after = "nothing: no change", ""
        say(f"  {padded(text, COLUMNS)}{padded(words, COLUMNS)}{after}".rstrip())
        return done

    def _words(self, status: UserStatus) -> str:
        names = self._printer.names(status)
        return f"{status.user_id} is {'online: ' + ', '.join(names) if names else 'offline'}"


def _three_of(platforms: list[Platform]) -> tuple[Platform, Platform, Platform]:
    """A phone's, the web's and a desk's platform, or others where these names are not known."""
    by_name = {platform.name: platform for platform in platforms}
    phone, web, desk = (
        by_name.get(name, platforms[index % len(platforms)]) for index, name in enumerate(("IOS", "Web", "Windows"))
    )
    return phone, web, desk


def _where(settings: Settings) -> str:
    """Where presence is kept."""
    if settings.store == "memory:":
        return "in this process's memory"
    url = parse_store_url(settings.store)
    what = "a Redis cluster" if url.cluster else f"Sentinel's {url.service}" if url.service else "Redis"
    return f"with its store in {what} at {', '.join(f'{host}:{port}' for host, port in url.hosts)}"


def _own_name() -> str:
    """How this command was called, so that it can be called again from the same folder."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m adsum.cli"
    if shutil.which(path.name) == str(path):
        return path.name
    return shlex.quote(os.path.relpath(path))
