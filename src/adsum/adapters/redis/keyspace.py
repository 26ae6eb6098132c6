"""Presence as OpenIM left it in Redis, read without disturbing it: for taking it over.

The keys `ONLINE:<user ID>` are scanned on every master; of each the platform IDs that are
good by that server's clock are read. Memory is that of one portion of keys.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from adsum.adapters.redis.link import Refused
from adsum.adapters.redis.projection import PREFIX
from adsum.adapters.redis.server import LinkOptions, Server
from adsum.adapters.redis.servers import servers_of
from adsum.adapters.redis.url import StoreUrl
from adsum.domain.errors import StoreError

KEYS_A_SCAN = 1_000


@dataclass(frozen=True, slots=True)
class Portion:
    """A part of the keys: users with their platform IDs as written there, and how many keys are something else."""

    users: dict[str, list[str]] = field(default_factory=dict)
    foreign: int = 0


class Keyspace:
    """OpenIM's keys in one server, one that Sentinel names, or a cluster."""

    def __init__(self, url: StoreUrl, links: LinkOptions) -> None:
        self._servers = servers_of(url, links)

    async def portions(self) -> AsyncGenerator[Portion, None]:
        """All there is; a user may come twice. A user without a good platform has none. Raises `StoreError`."""
        for server in await self._servers.all():
            cursor = 0
            while True:
                link = await server.link()
                scan = ("SCAN", cursor, "MATCH", f"{PREFIX}*", "COUNT", KEYS_A_SCAN)
                (time_s, _), (following, keys) = await link.must(("TIME",), scan)
                yield await _read(server, keys, int(time_s))
                cursor = int(following)
                if not cursor:
                    break

    async def close(self) -> None:
        """Close every connection."""
        await self._servers.close()


async def _read(server: Server, keys: list[bytes], now_s: int) -> Portion:
    link = await server.link()
    answers = await link.run([("ZRANGEBYSCORE", key, now_s, "+inf") for key in keys])
    users: dict[str, list[str]] = {}
    foreign = 0
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, Refused) and not str(answer).startswith("WRONGTYPE"):
            raise StoreError(f"{link.name}: {answer}")
        try:
            user_id = key.decode().removeprefix(PREFIX)
        except UnicodeDecodeError:
            foreign += 1
            continue
        if isinstance(answer, Refused) or not user_id:
            foreign += 1
        else:
            users[user_id] = [platform.decode(errors="replace") for platform in answer]
    return Portion(users, foreign)
