"""A receiver of webhooks, which can be told to misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.client import PATIENCE_S

GOOD = {"actionCode": 0, "errCode": 0, "errMsg": "", "errDlt": "", "nextCode": 0}


@dataclass(frozen=True)
class Received:
    """One webhook as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    transport: asyncio.Transport | None

    @property
    def command(self) -> str:
        """What it is about."""
        return str(self.body["callbackCommand"])


Behaviour = Callable[[Received], Awaitable[web.StreamResponse]]


async def accept(_received: Received) -> web.StreamResponse:
    """Answer as OpenIM's receivers do."""
    return web.json_response(GOOD)


@dataclass
class Receiver:
    """Webhooks that arrived, in order, whatever they were answered; `behaviour` answers them."""

    url: str = ""
    behaviour: Behaviour = accept
    events: list[Received] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note a webhook, and answer it."""
        assert request.method == "POST"
        received = Received(request.path, dict(request.headers), await request.json(), request.transport)
        self.events.append(received)
        self._arrived.set()
        return await self.behaviour(received)

    def of(self, user_id: str) -> list[Received]:
        """What arrived on one user, in order."""
        return [event for event in self.events if event.body["userID"] == user_id]

    async def events_of(self, user_id: str, count: int) -> list[Received]:
        """Wait until so many arrived on one user; all of them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(user_id)) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.of(user_id)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiving = Receiver()
    app = web.Application()
    app.router.add_route("*", "/hooks/{command}", receiving.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiving.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
        yield receiving
    finally:
        await runner.cleanup()
