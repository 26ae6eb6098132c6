"""A connection to the service, on asyncio.

    async with connect("ws://127.0.0.1:10001/", Login("alice", 1, token), reconnect=True) as connection:
        print(await connection.watch(["bob"]))
        async for event in connection:
            print(event)

Invariant: a program that reads hears the newest state of every user it watches,
whatever is lost on the way; after a reconnect the client subscribes again and
tells only what changed.
"""

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from adsum.client.dial import Refused, dial
from adsum.client.errors import ClientError, ServerError, Unreachable
from adsum.client.link import Link
from adsum.client.protocol import ClientProtocol, Kicked, Login, Push, refusal, watch_portions
from adsum.client.state import Closed, Event, Inbox, Lost, Restored, Watchlist
from adsum.core.backoff import backoff_ms
from adsum.core.opids import OpIds
from adsum.domain.errors import DataError
from adsum.wire.messages import Op
from adsum.wire.protobuf import UserStatus, decode_tips, encode_background

HANDSHAKE_S = 10

RETRY_MIN_MS = 1_000
RETRY_MAX_MS = 16_000
"""As OpenIM's Go SDK: 1, 2, 4, 8, 16 s, here each with jitter."""


class Connection:
    """One user's connection on one platform. Made by `connect`; read it from one task only.

    Iterating gives events until the connection has ended for good: after `Kicked`
    or `Closed`, or, with a `ServerError`, when the token is refused.
    """

    def __init__(self, url: str, login: Login, *, reconnect: bool) -> None:
        self._url = url
        self._login = login
        self._reconnects = reconnect
        self._next_operation_id = OpIds(f"client-{secrets.token_hex(6)}")
        self._inbox = Inbox()
        self._watchlist = Watchlist()
        self._news = asyncio.Event()
        self._link: Link | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._ended = False
        self._error: ClientError | None = None

    async def watch(self, user_ids: Iterable[str]) -> list[UserStatus]:
        """Hear of these users from now on; the present state of each, in the order given, each user once.

        Raises `ServerError` if the server refuses, `Unreachable` if there is no
        connection or no answer; some of very many users may be watched then.
        """
        users = list(dict.fromkeys(user_ids))
        states: dict[str, UserStatus] = {}
        for data in watch_portions(users):
            answer = await self._connected().ask(Op.WATCH, data)
            statuses = decode_tips(answer)
            self._watchlist.add(statuses)
            states.update((status.user_id, status) for status in statuses)
        return [states.get(user, UserStatus(user, ())) for user in users]

    async def unwatch(self, user_ids: Iterable[str]) -> None:
        """Hear of these users no longer; raises as `watch` does."""
        users = list(user_ids)
        for data in watch_portions((), users):
            await self._connected().ask(Op.WATCH, data)
        self._watchlist.drop(users)

    async def set_background(self, *, background: bool) -> None:
        """Tell whether the app is in the background, also after reconnects; raises as `watch` does."""
        await self._connected().ask(Op.BACKGROUND, encode_background(self._login.user_id, background=background))
        self._login = replace(self._login, background=background)

    async def logout(self) -> None:
        """Have the server end the connection, and end; raises as `watch` does."""
        link = self._connected()
        self._end()
        await link.ask(Op.LOGOUT)
        await link.gone()

    async def close(self) -> None:
        """End; harmless if it has ended."""
        self._end()
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while (event := self._inbox.take()) is None:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return event

    # Connecting

    async def open(self) -> None:
        """Connect for the first time; raises `ServerError` or `Unreachable`."""
        self._link = await self._dial()

    async def _dial(self) -> Link:
        loop = asyncio.get_running_loop()
        protocol = ClientProtocol(self._login, self._next_operation_id, round(loop.time() * 1000))
        link = Link(self, protocol, loop)
        separator = "&" if "?" in self._url else "?"
        url = f"{self._url}{separator}{self._login.query(self._next_operation_id())}"
        try:
            await dial(link, url, HANDSHAKE_S)
        except Refused as error:
            raise refusal(error.body) or Unreachable(f"no such service there: {error}") from None
        except TimeoutError:
            raise Unreachable(f"{self._url} did not answer within {HANDSHAKE_S} s") from None
        except OSError as error:
            # asyncio puts its own text over the system's in these.
            system = os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else error.strerror
            raise Unreachable(f"{self._url} cannot be reached: {system or error}") from None
        except ValueError:
            # Its text may have a part of the URL, where the token is.
            raise Unreachable(f"{self._url} is not a WebSocket URL") from None
        if not link.alive:
            raise Unreachable(f"{self._url} closed the connection during the handshake")
        return link

    def _connected(self) -> Link:
        if self._link is None or self._ended:
            raise Unreachable("there is no connection at present")
        return self._link

    async def _reconnect(self, wait_ms: int) -> None:
        attempt = 1
        while True:
            await asyncio.sleep(wait_ms / 1000)
            try:
                await self._restore()
            except (ClientError, DataError) as error:
                if isinstance(error, ServerError) and error.final:
                    self._end(error)
                    return
                attempt += 1
                wait_ms = backoff_ms(attempt, RETRY_MIN_MS, RETRY_MAX_MS, random.random())
                self._tell(Lost(str(error), wait_ms))
            else:
                return

    async def _restore(self) -> None:
        link = await self._dial()
        try:
            for data in watch_portions(self._watchlist.users):
                for status in self._watchlist.add(decode_tips(await link.ask(Op.WATCH, data))):
                    self._tell(status)
            link.check_alive()
        except BaseException:
            link.abort()
            raise
        self._link = link
        self._tell(Restored())

    # From the link

    def pushed(self, push: Push) -> None:
        """Users changed."""
        for status in self._watchlist.news(push.statuses):
            self._tell(status)

    def kicked(self) -> None:
        """Another login ended this one."""
        if not self._ended:
            self._tell(Kicked())
            self._end()

    def lost(self, link: Link, code: int, reason: str) -> None:
        """A link has ended."""
        if self._ended or link is not self._link:
            return
        self._link = None
        if not self._reconnects:
            self._tell(Closed(code, reason))
            self._end()
            return
        wait_ms = backoff_ms(1, RETRY_MIN_MS, RETRY_MAX_MS, random.random())
        self._tell(Lost(reason, wait_ms))
        self._retrying = asyncio.create_task(self._reconnect(wait_ms), name="reconnect")

    def _tell(self, event: Event) -> None:
        if not self._inbox.put(event):
            self._end(ClientError("the program does not read the connection's events: too many are waiting"))
            if self._link is not None:
                self._link.abort()
        self._news.set()

    def _end(self, error: ClientError | None = None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
        self._news.set()


@asynccontextmanager
async def connect(url: str, login: Login, *, reconnect: bool = False) -> AsyncIterator[Connection]:
    """A connection while the block lasts; `url` is `ws://HOST:PORT/` or `wss://…`.

    With `reconnect`, a lost connection is made anew until the token is refused or
    another login ends it. The first try is never repeated: it raises `ServerError`
    or `Unreachable`.
    """
    connection = Connection(url, login, reconnect=reconnect)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()
