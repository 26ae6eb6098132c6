"""`adsum import`: takes over who is online from OpenIM's keys in Redis.

It sets them by gRPC, as any caller of the set calls would: so it works with every store,
the service's own checks hold, and what is set ends by itself if nobody sets it again.
"""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from itertools import islice

import click

from adsum.adapters.redis.keyspace import Keyspace, Portion
from adsum.adapters.redis.server import LinkOptions
from adsum.adapters.redis.url import StoreUrl, parse_store_url
from adsum.app.settings import Settings
from adsum.cli.options import client_settings, examples, grpc_options, json_option, known_platforms, rpc_client
from adsum.cli.output import note, say, say_json
from adsum.client.rpc import RpcClient
from adsum.domain.errors import ArgumentError

USERS_A_CALL = 500
PROGRESS_S = 2.0

TOLD = {
    "users": "users online",
    "platforms": "platforms of theirs",
    "expired": "users whose time is over",
    "unknown_platforms": "platforms skipped, whose ID the service does not know",
    "bad_users": "users skipped, whose ID is longer than the service takes",
    "foreign": "keys skipped, which are nobody's presence",
}


def check_source(_ctx: click.Context, _param: click.Parameter, text: str) -> StoreUrl:
    """The URL of a Redis."""
    try:
        return parse_store_url(text)
    except ArgumentError as error:
        raise click.BadParameter(error.detail) from None


@click.command(
    "import",
    epilog=examples(
        "adsum import --from redis://openim-redis:6379 --dry-run",
        "adsum import --from redis+cluster://10.0.0.1,10.0.0.2 --grpc 10.0.1.1:10110",
    ),
)
@click.option(
    "--from", "source", metavar="URL", required=True, callback=check_source, help="OpenIM's Redis, as for --store."
)
@click.option("--dry-run", is_flag=True, help="Only read and count; no service is called.")
@json_option
@grpc_options
def import_(
    source: StoreUrl,
    grpc: str | None,
    token: str | None,
    secret: str | None,
    config: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take over who is online from OpenIM's keys in Redis.

    Reads ONLINE:* there, changes nothing there, and sets the users online in a running service. They stay so for
    as long as any status set by a call, 30 minutes by default, also if they have come back and left meanwhile. It can
    be done again until projection_url is set to that Redis: what is there then is the service's own copy.
    """
    settings = client_settings(config, secret)
    if settings.projection_url and _is_same(source, parse_store_url(settings.projection_url)):
        raise ArgumentError(
            "--from is the Redis of projection_url: what is there is the service's own copy of presence, "
            "and importing it would keep users online who have left. Unset projection_url to import first"
        )

    async def take_over() -> Counter[str]:
        async with AsyncExitStack() as stack:
            keyspace = Keyspace(source, LinkOptions(limit_ms=settings.store_timeout_ms))
            stack.push_async_callback(keyspace.close)
            client = None if dry_run else await stack.enter_async_context(rpc_client(settings, grpc, token))
            return await _import(settings, keyspace, client)

    counts = asyncio.run(take_over())
    if as_json:
        say_json(**{name: counts[name] for name in TOLD}, dryRun=dry_run)
        return
    for name, meaning in TOLD.items():
        if counts[name] or name == "users":
            say(f"{counts[name]:>10,} {meaning}")
    say("nothing was set: this was a dry run" if dry_run else "all are set")


def _is_same(one: StoreUrl, other: StoreUrl) -> bool:
    """Whether two URLs lead to the same database, as far as they show it."""
    return (one.service, one.db) == (other.service, other.db) and not set(one.hosts).isdisjoint(other.hosts)


async def _import(settings: Settings, keyspace: Keyspace, client: RpcClient | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    told_s = time.monotonic()
    async with aclosing(keyspace.portions()) as portions:
        async for portion in portions:
            online = _sift(settings, portion, counts)
            if client is not None:
                await _set(settings, client, online)
            if time.monotonic() - told_s >= PROGRESS_S:
                told_s = time.monotonic()
                note(f"{counts['users']:,} users so far")
    return counts


def _sift(settings: Settings, portion: Portion, counts: Counter[str]) -> dict[str, list[int]]:
    """The users to set; what is not taken over is counted."""
    known = {str(platform.id): platform.id for platform in known_platforms(settings)}
    online: dict[str, list[int]] = {}
    counts["foreign"] += portion.foreign
    for user_id, members in portion.users.items():
        platforms = [known[member] for member in members if member in known]
        counts["unknown_platforms"] += len(members) - len(platforms)
        if not members:
            counts["expired"] += 1
        elif len(user_id.encode()) > settings.max_user_id_bytes:
            counts["bad_users"] += 1
        elif platforms:
            counts["users"] += 1
            counts["platforms"] += len(platforms)
            online[user_id] = platforms
    return online


async def _set(settings: Settings, client: RpcClient, online: dict[str, list[int]]) -> None:
    users = iter(online.items())
    while batch := dict(islice(users, min(USERS_A_CALL, settings.max_users_per_call))):
        await client.set_online(batch)
