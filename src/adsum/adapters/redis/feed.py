"""Hears the entries that scripts publish, from every server that has partitions.

What gets lost between (a connection, a server, a subscription) is not made up for
here: versions show it to the follower, who catches up.
"""

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from adsum.adapters.redis.codec import read_message
from adsum.adapters.redis.scripts import keys_of
from adsum.adapters.redis.shards import Servers
from adsum.domain.errors import StoreError
from adsum.ports import FeedListener

log = logging.getLogger(__name__)

PING_S = 5.0
RETRY_S = 0.2
CHANNEL = 6


class FeedReader:
    """One connection a server, subscribed to its partitions' channels."""

    def __init__(self, servers: Servers, prefix: str, partitions: int) -> None:
        self._servers = servers
        self._channels = {keys_of(prefix, p)[CHANNEL].encode(): p for p in range(partitions)}
        self._followers: dict[object, tuple[FeedListener, Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    def follow(self, listener: FeedListener, interrupted: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called with every entry, `interrupted` after each loss of a server."""
        key = object()
        self._followers[key] = (listener, interrupted)

        def unfollow() -> None:
            self._followers.pop(key, None)

        return unfollow

    async def start(self) -> None:
        """Subscribe; raises `StoreError` if that cannot be done now."""
        subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(subscribed), name="feed")
        await subscribed

    async def stop(self) -> None:
        """Listen no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self, first: "asyncio.Future[None]") -> None:
        while True:
            reason = ""
            try:
                await self._listen(lambda: self._subscribed(first))
            except* (RedisError, OSError, StoreError, TimeoutError) as errors:
                reason = repr(errors.exceptions[0])
            if not first.done():
                first.set_exception(StoreError(f"the store's feed cannot be followed: {reason}"))
                return
            log.warning("the feed is interrupted, subscribing again: %s", reason)
            await asyncio.sleep(RETRY_S)
            await self._servers.refresh()

    def _subscribed(self, first: "asyncio.Future[None]") -> None:
        if not first.done():
            first.set_result(None)
            return
        log.info("the feed is whole again")
        for _, interrupted in tuple(self._followers.values()):
            interrupted()

    async def _listen(self, subscribed: Callable[[], None]) -> None:
        """Hear every server until one is lost; `subscribed` is called once all are heard."""
        places = await self._servers.of(list(self._channels.values()))
        by_client: dict[Redis, list[bytes]] = {}
        for channel, partition in self._channels.items():
            by_client.setdefault(places[partition], []).append(channel)
        waiting = len(by_client)

        def one_ready() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                subscribed()

        async with asyncio.TaskGroup() as group:
            for client, channels in by_client.items():
                group.create_task(self._hear(client, channels, one_ready))

    async def _hear(self, client: Redis, channels: list[bytes], ready: Callable[[], None]) -> None:
        pubsub = client.pubsub()
        try:
            # One at a time: on a cluster, the channels of one command must share a slot.
            for channel in channels:
                await pubsub.ssubscribe(channel)
            ready()
            quiet = False
            while True:
                message = await pubsub.get_message(timeout=PING_S)
                if message is None:
                    if quiet:
                        raise TimeoutError("the feed's connection does not answer")
                    quiet = True
                    await pubsub.ping()
                    continue
                quiet = False
                if message["type"] == "smessage":
                    self._deliver(message["channel"], message["data"])
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _deliver(self, channel: bytes, data: bytes) -> None:
        entry = read_message(self._channels[channel], data)
        for listener, _ in tuple(self._followers.values()):
            listener(entry)
