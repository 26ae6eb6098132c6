"""Presence in Redis as OpenIM's own services read it.

The key `ONLINE:<user ID>` is a sorted set, member platform ID, score the unix time in
seconds until which it is good; the key itself lives as long. The channel
`online_change` carries `<platform>:<platform>:…:<user ID>`, only the user ID for a user
who is offline.
"""

from binascii import crc_hqx
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from adsum.adapters.redis.keyspace import PREFIX, scanned, user_of
from adsum.adapters.redis.scripts import SLOTS, script
from adsum.adapters.redis.server import LinkOptions
from adsum.adapters.redis.servers import servers_of
from adsum.adapters.redis.trips import Call, Trips
from adsum.adapters.redis.url import StoreUrl
from adsum.domain.platforms import ids_of
from adsum.domain.presence import Status

GOOD_FOR_S = 1_800
"""As in OpenIM."""


class RedisProjection:
    """A `Projection` in one server, one that Sentinel names, or a cluster."""

    def __init__(self, url: StoreUrl, links: LinkOptions) -> None:
        # Without partitions: the place of a call is the slot of its key.
        self._servers = servers_of(url, links, int)
        self._trips = Trips(self._servers, "", links.limit_s)

    async def write(self, statuses: Sequence[Status]) -> None:
        """Make the keys of these users, some hundreds, say what their platforms are; raises `StoreError`."""
        await self._trips.run([_call(status) for status in statuses])

    async def users(self) -> AsyncGenerator[list[str], None]:
        """Everybody there is a key of, a portion at a time; some may come twice. Raises `StoreError`."""
        async with aclosing(scanned(self._servers)) as portions:
            async for _, keys in portions:
                yield [user_id for key in keys if (user_id := user_of(key))]

    async def close(self) -> None:
        """Close every connection."""
        await self._servers.close()


def slot_of_key(key: str) -> int:
    """The cluster slot of any key: the CRC-16 of what is in its first braces, or of all of it if they are empty."""
    start = key.find("{")
    stop = key.find("}", start + 1)
    tag = key[start + 1 : stop] if start >= 0 and stop > start + 1 else key
    return crc_hqx(tag.encode(), 0) % SLOTS


def _call(status: Status) -> Call:
    key = PREFIX + status.user_id
    args = (GOOD_FOR_S, status.user_id, *ids_of(status.mask))
    return Call(slot_of_key(key), script("project"), args, keys=(key,))
