"""The keys of presence in OpenIM's form, read without disturbing them.

The keys `ONLINE:<user ID>` are scanned on every master. For taking over what OpenIM left,
the platform IDs are read that are good by that server's clock. Memory is that of one
portion of keys.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from adsum.adapters.redis.link import Refused
from adsum.adapters.redis.server import LinkOptions, Server
from adsum.adapters.redis.servers import Servers, servers_of
from adsum.adapters.redis.url import StoreUrl
from adsum.domain.errors import StoreError

PREFIX = "ONLINE:"
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
        async with aclosing(scanned(self._servers)) as portions:
            async for server, keys in portions:
                yield await _read(server, keys)

    async def close(self) -> None:
        """Close every connection."""
        await self._servers.close()


async def scanned(servers: Servers) -> AsyncGenerator[tuple[Server, list[bytes]], None]:
    """All keys of users, a portion of one server at a time; some may come twice. Raises `StoreError`."""
    for server in await servers.all():
        cursor = 0
        while True:
            link = await server.link()
            ((following, keys),) = await link.must(("SCAN", cursor, "MATCH", f"{PREFIX}*", "COUNT", KEYS_A_SCAN))
            yield server, keys
            cursor = int(following)
            if not cursor:
                break


def user_of(key: bytes) -> str:
    """The user a key is of; empty if it can be nobody's."""
    try:
        return key.decode().removeprefix(PREFIX)
    except UnicodeDecodeError:
        return ""


async def _read(server: Server, keys: list[bytes]) -> Portion:
    link = await server.link()
    ((now_s, _),) = await link.must(("TIME",))
    answers = await link.run([("ZRANGEBYSCORE", key, now_s, "+inf") for key in keys])
    users: dict[str, list[str]] = {}
    foreign = 0
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, Refused) and not str(answer).startswith("WRONGTYPE"):
            raise StoreError(f"{link.name}: {answer}")
        user_id = user_of(key)
        if isinstance(answer, Refused) or not user_id:
            foreign += 1
        else:
            users[user_id] = [platform.decode(errors="replace") for platform in answer]
    return Portion(users, foreign)
