"""Hears the entries that scripts publish, from every server that has partitions.

What gets lost between (a connection, a subscription) is not made up for here:
versions show it to the follower, who catches up. But a server that is not the same as
before may have forgotten writes that it acknowledged: that is told.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any

from adsum.adapters.redis.codec import read_message
from adsum.adapters.redis.link import Command, Link
from adsum.adapters.redis.scripts import keys_of
from adsum.adapters.redis.server import Server
from adsum.adapters.redis.servers import Servers
from adsum.domain.errors import StoreError
from adsum.domain.presence import FeedEntry
from adsum.ports import FeedListener
from adsum.service.each import each
from adsum.service.forever import forever

log = logging.getLogger(__name__)

PING_S = 5.0
RETRY_S = 0.2
CHANNEL = 2

PROBE = "return 1"
"""A script that does nothing."""

SAFE_POLICY = b"noeviction"
"""The `maxmemory-policy` of a server that forgets nothing by itself."""

Past = tuple[bytes, ...]
"""What tells one server, and one history of its data, from another."""


class FeedReader:
    """One connection a server, subscribed to its partitions' channels."""

    def __init__(self, servers: Servers, prefix: str, partitions: int) -> None:
        self._servers = servers
        self._channels = {keys_of(prefix, p)[CHANNEL].encode(): p for p in range(partitions)}
        self._followers: tuple[tuple[FeedListener, Callable[[], None]], ...] = ()
        self._pasts: dict[int, Past] = {}
        self._links: list[Link] = []
        self._task: asyncio.Task[None] | None = None
        self._sessions = 0
        self._subscribed = False
        self.caution = ""
        """That a server may forget users, by its own word; empty if none may."""
        self.on_one_server = False
        """Whether a server has all partitions, and takes scripts for several of them."""

    @property
    def session(self) -> int:
        """Which subscription this is; 0 while there is none."""
        return self._sessions if self._subscribed else 0

    def follow(self, listener: FeedListener, interrupted: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called with every entry, `interrupted` when a partition has, or may have, another past."""
        follower = (listener, interrupted)
        self._followers = (*self._followers, follower)

        def unfollow() -> None:
            self._followers = tuple(other for other in self._followers if other is not follower)

        return unfollow

    async def start(self) -> None:
        """Subscribe; raises `StoreError` if that cannot be done now."""
        self._links = await self._subscribe()
        self._task = asyncio.create_task(forever("following the feed", self._step), name="feed")

    async def stop(self) -> None:
        """Listen no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _step(self) -> None:
        """Listen until the subscription is lost, having made one if there is none."""
        if not self._subscribed:
            self._links = await self._subscribe_again()
            log.info("the feed is whole again")
        try:
            reason = await self._watch(self._links)
        finally:
            self._subscribed = False
            await _close(self._links)
        log.warning("the feed is interrupted: %s", reason)

    async def _subscribe_again(self) -> list[Link]:
        while True:
            # Spread, so that many nodes do not come at once.
            await asyncio.sleep(RETRY_S * (0.5 + random.random()))
            with contextlib.suppress(StoreError):
                await self._servers.refresh()
                return await self._subscribe()

    async def _subscribe(self) -> list[Link]:
        """Have every partition's channel confirmed by its server; raises `StoreError`."""
        places = await self._servers.of(self._channels.values())
        by_server: dict[Server, list[bytes]] = {}
        for channel, partition in self._channels.items():
            by_server.setdefault(places[partition], []).append(channel)
        links: list[Link] = []
        pasts: dict[int, Past] = {}
        policies: set[str] = set()
        may_share = False
        try:
            for server, channels in by_server.items():
                link = await server.listen(self._heard)
                links.append(link)
                told = await _info_of(link)
                past = told[b"run_id"], told[b"master_replid"]
                policies.add(told.get(b"maxmemory_policy", SAFE_POLICY).decode())
                # Only now: a connection that has subscribed takes no other commands.
                may_share = len(by_server) == 1 and await self._takes_all(link)
                # One at a time: on a cluster, the channels of one command must share a slot.
                await link.must(*(("SSUBSCRIBE", channel) for channel in channels))
                pasts.update(dict.fromkeys((self._channels[channel] for channel in channels), past))
        except BaseException:
            await _close(links)
            raise
        self._compare(pasts)
        self._warn(policies - {SAFE_POLICY.decode()})
        self.on_one_server = may_share
        self._sessions += 1
        self._subscribed = True
        return links

    async def _takes_all(self, link: Link) -> bool:
        # It is tried, because behind a proxy a cluster may look like one server.
        load: Command = ("SCRIPT", "LOAD", PROBE)
        sha, *_ = await link.must(load)
        (answer,) = await link.run([("EVALSHA", sha, len(self._channels), *self._channels)])
        return bool(answer == 1)

    def _compare(self, pasts: dict[int, Past]) -> None:
        before, self._pasts = self._pasts, pasts
        if before and before != pasts:
            log.warning("the store may have forgotten writes: all is written again")
            each("hearing that the feed was interrupted", self._followers, lambda follower: follower[1]())

    def _warn(self, policies: set[str]) -> None:
        """Say so, once, if servers may evict keys."""
        before, self.caution = self.caution, ""
        if policies:
            names = ", ".join(sorted(policies))
            self.caution = (
                f"maxmemory-policy is {names}: users may be forgotten for lack of memory; set it to noeviction"
            )
        if self.caution and self.caution != before:
            log.warning("the store's %s", self.caution)

    async def _watch(self, links: list[Link]) -> str:
        """Wait until one connection is lost; the reason."""
        while True:
            lost, _ = await asyncio.wait([link.lost for link in links], timeout=PING_S, return_when="FIRST_COMPLETED")
            if lost:
                return next(link.ended for link in links if link.lost in lost)
            try:
                for link in links:
                    await link.must(("PING",))
            except StoreError as error:
                return error.detail

    def _heard(self, message: list[Any]) -> None:
        kind, channel, data = message
        if kind != b"smessage":
            # Its partition is with another server from now on: all is subscribed anew.
            raise StoreError(f"the channel {channel.decode()} has moved")
        if not self._followers:
            return
        for entry in read_message(data):
            self._tell(entry)

    def _tell(self, entry: FeedEntry) -> None:
        each("taking over an entry of the feed", self._followers, lambda follower: follower[0](entry))


async def _info_of(link: Link) -> dict[bytes, bytes]:
    """What a server tells of itself: its `maxmemory_policy`, and its past.

    That is the process, and the data's history: a new one begins when a replica takes over or copies another's data.
    """
    (text,) = await link.must(("INFO", "server", "replication", "memory"))
    return dict(line.split(b":", 1) for line in text.split(b"\r\n") if b":" in line)


async def _close(links: list[Link]) -> None:
    for link in links:
        link.close()
        await link.lost
