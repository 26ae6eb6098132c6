"""`adsum status` and `adsum online`: questions to the gRPC port."""

import asyncio
from collections.abc import AsyncIterator

import click

from adsum.cli.options import (
    check_users,
    client_settings,
    examples,
    grpc_options,
    json_option,
    known_platforms,
    rpc_client,
)
from adsum.cli.output import StatusPrinter, say, say_json
from adsum.client.rpc import RpcClient
from adsum.wire.protobuf import UserStatus


@click.command(epilog=examples("adsum status alice bob", "adsum status --json alice | jq .platforms"))
@click.argument("users", metavar="USER...", callback=check_users, nargs=-1, required=True)
@json_option
@grpc_options
def status(
    users: tuple[str, ...],
    grpc: str | None,
    token: str | None,
    secret: str | None,
    config: str | None,
    *,
    as_json: bool,
) -> None:
    """Print whether each USER is online, and on which platforms."""
    settings = client_settings(config, secret)
    printer = StatusPrinter(known_platforms(settings))

    async def ask() -> list[UserStatus]:
        async with rpc_client(settings, grpc, token) as client:
            return await client.statuses(users)

    statuses = asyncio.run(ask())
    if not as_json:
        printer.table(statuses)
        return
    for user in statuses:
        say_json(**printer.fields(user))


@click.command(epilog=examples("adsum online", "adsum online --count", "adsum online --json | jq -r .userID"))
@click.option("--count", is_flag=True, help="Print only how many there are.")
@json_option
@grpc_options
def online(
    grpc: str | None, token: str | None, secret: str | None, config: str | None, *, count: bool, as_json: bool
) -> None:
    """Print everybody who is online."""
    settings = client_settings(config, secret)
    printer = StatusPrinter(known_platforms(settings))

    async def walk() -> int:
        found = 0
        async with rpc_client(settings, grpc, token) as client:
            async for page in _each_once(client):
                if not count:
                    _print_page(printer, page, first=not found, as_json=as_json)
                found += len(page)
        return found

    found = asyncio.run(walk())
    if count:
        say_json(online=found) if as_json else say(str(found))
    elif not found and not as_json:
        say("nobody is online")


async def _each_once(client: RpcClient) -> AsyncIterator[list[UserStatus]]:
    """The pages of the listing without the users that came before."""
    seen: set[str] = set()
    async for page in client.online():
        fresh = {user.user_id: user for user in page if user.user_id not in seen}
        seen.update(fresh)
        if fresh:
            yield list(fresh.values())


def _print_page(printer: StatusPrinter, page: list[UserStatus], *, first: bool, as_json: bool) -> None:
    if not as_json:
        printer.table(page, heading=first)
        return
    for user in page:
        say_json(**printer.fields(user))
