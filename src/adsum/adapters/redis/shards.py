"""Which server has which partition, and trips to the servers.

Invariant: `Trips.run` sends what goes to one server in one trip, in order, and
answers every call or raises `StoreError` within its time limit.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from adsum.adapters.redis.scripts import Script, keys_of
from adsum.adapters.redis.url import StoreUrl
from adsum.domain.errors import LeaseLost, StoreError

log = logging.getLogger(__name__)

ELSEWHERE = ("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MASTERDOWN", "LOADING", "UNBLOCKED")
"""Answers that say that a partition is, or will soon be, with another server."""


@dataclass(frozen=True, slots=True)
class Call:
    """A script for one partition, or with a name instead a plain command on one of its keys (an index)."""

    partition: int
    script: Script | str
    args: tuple[Any, ...] = ()
    key: int = 0


class Servers(Protocol):
    """The servers of one store."""

    async def of(self, partitions: Sequence[int]) -> dict[int, "Redis"]:
        """The client of each partition's server."""
        ...

    async def refresh(self) -> None:
        """Find out anew who has what."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


def _options(url: StoreUrl, timeout_s: float) -> dict[str, Any]:
    """Options of every connection: no hidden retry, no wait longer than the limit."""
    return {
        "username": url.username,
        "password": url.password,
        "ssl": url.tls,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }


class SingleServer:
    """One server, or the master that Sentinel names."""

    def __init__(self, url: StoreUrl, timeout_s: float) -> None:
        options = _options(url, timeout_s)
        if url.service:
            sentinel = Sentinel(list(url.hosts), sentinel_kwargs={"socket_timeout": timeout_s})  # type: ignore[no-untyped-call]
            self._client = sentinel.master_for(url.service, db=url.db, **options)
        else:
            host, port = url.hosts[0]
            self._client = Redis(host=host, port=port, db=url.db, **options)

    async def of(self, partitions: Sequence[int]) -> dict[int, "Redis"]:
        """The same client for all."""
        return dict.fromkeys(partitions, self._client)

    async def refresh(self) -> None:
        """Nothing to do: a new connection finds the server by itself, by Sentinel too."""

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


class ClusterServers:
    """The masters of a cluster."""

    def __init__(self, url: StoreUrl, timeout_s: float, prefix: str) -> None:
        self._url = url
        self._options = _options(url, timeout_s)
        self._prefix = prefix
        self._cluster: RedisCluster | None = None
        self._clients: dict[str, Redis] = {}
        self._places: dict[int, Redis] = {}

    async def of(self, partitions: Sequence[int]) -> dict[int, "Redis"]:
        """The client of the master that has each partition's slot."""
        if self._cluster is None:
            await self._discover()
        for partition in partitions:
            if partition not in self._places:
                self._places[partition] = self._place(partition)
        return self._places

    async def refresh(self) -> None:
        """Ask the cluster anew."""
        self._places.clear()
        if self._cluster is not None:
            cluster, self._cluster = self._cluster, None
            await cluster.aclose()

    async def close(self) -> None:
        """Close every connection."""
        await self.refresh()
        for client in self._clients.values():
            await client.aclose()

    async def _discover(self) -> None:
        failure: Exception | None = None
        for host, port in self._url.hosts:
            cluster = RedisCluster(host=host, port=port, **self._options)
            try:
                self._cluster = await cluster.initialize()
            except (RedisError, OSError) as error:
                failure = error
                await cluster.aclose()
            else:
                return
        raise StoreError(f"no node of the cluster answers: {failure}")

    def _place(self, partition: int) -> Redis:
        assert self._cluster is not None
        node = self._cluster.get_node_from_key(keys_of(self._prefix, partition)[0])
        if node is None:
            raise StoreError(f"no master of the cluster has partition {partition}")
        name = f"{node.host}:{node.port}"
        if name not in self._clients:
            self._clients[name] = Redis(host=node.host, port=int(node.port), **self._options)
        return self._clients[name]


class Trips:
    """Runs calls, each server's in one trip."""

    def __init__(self, servers: Servers, prefix: str, timeout_s: float) -> None:
        self._servers = servers
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._keys: dict[int, tuple[str, ...]] = {}

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """The answer of each call. Raises `LeaseLost`, `StoreError`.

        A call that found its partition elsewhere goes there once; every call may be
        repeated without harm.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._run(calls)
                moved = [i for i, answer in enumerate(answers) if _is_elsewhere(answer)]
                if moved:
                    await self._servers.refresh()
                    again = await self._run([calls[i] for i in moved])
                    for i, answer in zip(moved, again, strict=True):
                        answers[i] = answer
        except TimeoutError:
            raise StoreError(f"the store did not answer within {self._timeout_s:g} s") from None
        except (RedisError, OSError) as error:
            raise StoreError(f"the store cannot be used: {_short(error)}") from None
        for answer in answers:
            if isinstance(answer, Exception):
                raise _as_ours(answer)
        return answers

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        places = await self._servers.of([call.partition for call in calls])
        trips: dict[Redis, list[int]] = {}
        for i, call in enumerate(calls):
            trips.setdefault(places[call.partition], []).append(i)
        answers: list[Any] = [None] * len(calls)

        async def trip(client: Redis, indexes: list[int]) -> None:
            found = await self._trip(client, [calls[i] for i in indexes])
            for i, answer in zip(indexes, found, strict=True):
                answers[i] = answer

        if len(trips) == 1:
            await trip(*next(iter(trips.items())))
        else:
            await asyncio.gather(*(trip(client, indexes) for client, indexes in trips.items()))
        return answers

    async def _trip(self, client: Redis, calls: Sequence[Call]) -> list[Any]:
        try:
            answers = await self._send(client, calls)
            unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if unknown:
                for script in {calls[i].script for i in unknown}:
                    assert isinstance(script, Script)
                    await client.script_load(script.text)
                again = await self._send(client, [calls[i] for i in unknown])
                for i, answer in zip(unknown, again, strict=True):
                    answers[i] = answer
        except (RedisError, OSError) as error:
            # The others' trips go on: their outcome is known, and this one's is not.
            return [error] * len(calls)
        return answers

    async def _send(self, client: Redis, calls: Sequence[Call]) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for call in calls:
            keys = self._keys_of(call.partition)
            if isinstance(call.script, Script):
                pipeline.execute_command("EVALSHA", call.script.sha, len(keys), *keys, *call.args)
            else:
                pipeline.execute_command(call.script, keys[call.key], *call.args)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    def _keys_of(self, partition: int) -> tuple[str, ...]:
        keys = self._keys.get(partition)
        if keys is None:
            keys = self._keys[partition] = keys_of(self._prefix, partition)
        return keys


def _is_elsewhere(answer: object) -> bool:
    if isinstance(answer, ResponseError):
        return str(answer).startswith(ELSEWHERE) or type(answer).__name__.startswith(("Moved", "Ask", "ReadOnly"))
    return isinstance(answer, RedisError | OSError) and not isinstance(answer, ResponseError)


def _as_ours(error: Exception) -> StoreError:
    if "LEASELOST" in str(error):
        return LeaseLost("the lease of this holder has ended")
    return StoreError(f"the store failed: {_short(error)}")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
