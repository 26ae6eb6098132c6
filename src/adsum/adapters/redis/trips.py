"""Trips to the servers: what goes to one server goes together.

Invariant: `Trips.run` sends the calls for one server in one trip, in order, and
answers every call or raises `StoreError` within its time limit.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple

from adsum.adapters.redis.link import Command, Overloaded, Refused, pack_parts
from adsum.adapters.redis.scripts import Script, keys_of
from adsum.adapters.redis.server import Server
from adsum.adapters.redis.servers import Servers
from adsum.domain.errors import LeaseLost, StoreError

ELSEWHERE = ("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MASTERDOWN", "LOADING", "NOREPLICAS")
"""Answers that say that a partition is, or will soon be, with another server."""

MAX_TEXT = 200


class Call(NamedTuple):
    """A script for one partition, or with a name instead a plain command on one of its keys (an index).

    With `keys` of its own it is for these instead.
    """

    partition: int
    script: Script | str
    args: tuple[Any, ...] = ()
    key: int = 0
    keys: tuple[str, ...] = ()


class Lookup(NamedTuple):
    """What one of a partition's keys (an index), a hash, has under these names: so many that packing them counts."""

    partition: int
    key: int
    names: Sequence[bytes]


class Trips:
    """Runs calls, each server's in one trip, all within `limit_s`."""

    def __init__(self, servers: Servers, prefix: str, limit_s: float) -> None:
        self._servers = servers
        self._prefix = prefix
        self._limit_s = limit_s
        self._keys: dict[int, tuple[str, ...]] = {}

    async def run(self, calls: Sequence[Call | Lookup]) -> list[Any]:
        """The answer of each call. Raises `LeaseLost`, `StoreError` if any failed."""
        answers = await self.ask(calls)
        for answer in answers:
            if isinstance(answer, StoreError):
                raise answer
        return answers

    async def ask(self, calls: Sequence[Call | Lookup]) -> list[Any]:
        """The answer of each call, a `StoreError` for one that failed or was not answered in time.

        A call that found its partition elsewhere, or whose connection was lost, goes once
        more: every call may be repeated without harm. What one server does is no other's loss.
        """
        if not calls:
            return []
        started = monotonic()
        answers = await self._ask_at_once(calls)
        if answers is not None and not any(isinstance(answer, Exception) for answer in answers):
            return answers
        first = answers is None
        if answers is None:
            answers = [StoreError(f"the store did not answer within {self._limit_s:g} s")] * len(calls)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limit_s - (monotonic() - started)):
                if first:
                    await self._run(calls, range(len(calls)), answers)
                failed = [i for i, answer in enumerate(answers) if _is_to_go_again(answer)]
                if any(_may_be_elsewhere(answers[i]) for i in failed):
                    with contextlib.suppress(StoreError):
                        await self._servers.refresh()
                if failed:
                    await self._run(calls, failed, answers)
        return list(map(as_ours, answers))

    async def _ask_at_once(self, calls: Sequence[Call | Lookup]) -> list[Any] | None:
        """The answers of the one connection that leads to all partitions, None if there is no such now.

        Nearly every trip is of this kind, and needs no time limit but the connection's own.
        """
        link = self._servers.link
        if link is None:
            return None
        try:
            return await link.run([self._command(call) for call in calls])
        except StoreError as error:
            return [error] * len(calls)

    async def _run(self, calls: Sequence[Call | Lookup], which: Sequence[int], answers: list[Any]) -> None:
        """Note the answers of those calls, each server's as soon as they are there."""
        try:
            places = await self._servers.of({calls[i].partition for i in which})
        except StoreError as error:
            for i in which:
                answers[i] = error
            return
        trips: dict[Server, list[int]] = {}
        for i in which:
            trips.setdefault(places[calls[i].partition], []).append(i)

        async def trip(server: Server, indexes: list[int]) -> None:
            found = await self._trip(server, [calls[i] for i in indexes])
            for i, answer in zip(indexes, found, strict=True):
                answers[i] = answer

        if len(trips) == 1:
            await trip(*next(iter(trips.items())))
        else:
            await asyncio.gather(*(trip(server, indexes) for server, indexes in trips.items()))

    async def _trip(self, server: Server, calls: Sequence[Call | Lookup]) -> list[Any]:
        commands = [self._command(call) for call in calls]
        try:
            link = await server.link()
            answers = await link.run(commands)
            unknown = [i for i, answer in enumerate(answers) if _is_refused(answer, "NOSCRIPT")]
            if unknown:
                texts = {
                    call.script.text
                    for i in unknown
                    if isinstance(call := calls[i], Call) and isinstance(call.script, Script)
                }
                loading: list[Command] = [("SCRIPT", "LOAD", text) for text in texts]
                again = await link.run([*loading, *(commands[i] for i in unknown)])
                for i, answer in zip(unknown, again[len(loading) :], strict=True):
                    answers[i] = answer
        except StoreError as error:
            # The other servers' trips go on: their outcome is known, and this one's is not.
            return [error] * len(calls)
        return answers

    def _command(self, call: Call | Lookup) -> Command:
        if isinstance(call, Lookup):
            head = _lookup_head(self._prefix, call.partition, call.key)
            return b"*%d\r\n%b%b" % (2 + len(call.names), head, pack_parts(call.names))
        keys = call.keys or self._keys.get(call.partition)
        if keys is None:
            keys = self._keys[call.partition] = keys_of(self._prefix, call.partition)
        if isinstance(call.script, Script):
            return ("EVALSHA", call.script.sha, len(keys), *keys, *call.args)
        return (call.script, keys[call.key], *call.args)


@lru_cache(maxsize=4_096)
def _lookup_head(prefix: str, partition: int, key: int) -> bytes:
    return pack_parts([b"HMGET", keys_of(prefix, partition)[key].encode()])


def _is_refused(answer: object, *codes: str) -> bool:
    return isinstance(answer, Refused) and str(answer).startswith(codes)


def _may_be_elsewhere(answer: object) -> bool:
    # A connection with too much on it is the right one, and to be asked for less.
    lost = isinstance(answer, StoreError) and not isinstance(answer, Overloaded)
    return lost or _is_refused(answer, *ELSEWHERE)


def _is_to_go_again(answer: object) -> bool:
    return _may_be_elsewhere(answer) or _is_refused(answer, "NOSCRIPT")


def as_ours(answer: Any) -> Any:  # noqa: ANN401 - as Redis answers
    """An answer, and for one that is refused the `StoreError` that says so."""
    if not isinstance(answer, Refused):
        return answer
    if _is_refused(answer, "LEASELOST"):
        return LeaseLost("the lease of this holder has ended")
    return StoreError(f"the store refused: {str(answer)[:MAX_TEXT]}")
