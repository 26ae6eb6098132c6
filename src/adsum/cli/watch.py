"""`adsum watch`: the state of some users, then each change, by asking the gRPC port again and again.

OpenIM's wire has no connection that only watches: whoever connects is online. Asking
leaves no trace, and it costs the service little, which knows lately asked users by heart.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

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
from adsum.cli.output import StatusPrinter, note, now_local, now_utc, say, say_json, user_columns
from adsum.client.errors import ClientError, ServerError
from adsum.client.rpc import RpcClient
from adsum.client.state import Lost, Restored, Watchlist
from adsum.domain.errors import InternalError, StoreError
from adsum.wire.protobuf import UserStatus

EVERY_MS = 500


@click.command(epilog=examples("adsum watch alice bob", "adsum watch alice --json | jq -r .status"))
@click.argument("users", metavar="USER...", callback=check_users, nargs=-1, required=True)
@json_option
@grpc_options
def watch(
    users: tuple[str, ...],
    grpc: str | None,
    token: str | None,
    secret: str | None,
    config: str | None,
    *,
    as_json: bool,
) -> None:
    """Print the state of each USER now, then each change, until Ctrl-C.

    It asks twice a second: who comes and leaves again in between is not seen. With --json the loss of the
    service and its return are objects too (lost, restored), otherwise lines on stderr.
    """
    settings = client_settings(config, secret)
    printer = _Printer(StatusPrinter(known_platforms(settings)), user_columns(users), as_json=as_json)

    async def run() -> None:
        async with rpc_client(settings, grpc, token) as client:
            async for event in _events(client, users, settings.max_users_per_call):
                printer.tell(event)

    asyncio.run(run())


async def _events(client: RpcClient, users: Sequence[str], most: int) -> AsyncIterator[UserStatus | Lost | Restored]:
    """The state of each user, then what changes; the first question must be answered."""
    known = Watchlist()
    asked = list(dict.fromkeys(users))
    lost = False
    while True:
        try:
            statuses = [status for part in _parts(asked, most) for status in await client.statuses(part)]
        except ClientError as error:
            if not known.users or not _may_pass(error):
                raise
            if not lost:
                yield Lost(str(error), EVERY_MS)
            lost = True
        else:
            if lost:
                yield Restored()
            lost = False
            for status in known.add(statuses):
                yield status
        await asyncio.sleep(EVERY_MS / 1000)


def _parts(users: list[str], most: int) -> Iterator[list[str]]:
    """The users in as many questions as it takes."""
    return (users[start : start + most] for start in range(0, len(users), most))


def _may_pass(error: ClientError) -> bool:
    """Whether asking again later can help: nobody answered, or the store did not."""
    return not isinstance(error, ServerError) or error.code in {InternalError.code, StoreError.code}


class _Printer:
    """Prints what is heard."""

    def __init__(self, statuses: StatusPrinter, columns: int, *, as_json: bool) -> None:
        self._statuses = statuses
        self._columns = columns
        self._as_json = as_json
        self._told: set[str] = set()

    def tell(self, event: UserStatus | Lost | Restored) -> None:
        """Print an event."""
        match event:
            case UserStatus(user_id=user_id):
                kind = "change" if user_id in self._told else "state"
                self._told.add(user_id)
                if self._as_json:
                    say_json(time=now_utc(), event=kind, **self._statuses.fields(event))
                else:
                    say(f"{now_local()}  {self._statuses.row(event, self._columns)}")
            case Lost(reason=reason):
                self._note("lost", f"connection lost: {reason}; trying again", reason=reason)
            case Restored():
                self._note("restored", "connected again")

    def _note(self, event: str, text: str, **fields: object) -> None:
        if self._as_json:
            say_json(time=now_utc(), event=event, **fields)
        else:
            note(text)
