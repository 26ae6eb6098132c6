"""Measures what well-behaved clients notice while others flood the service; writes bench/ATTACKS.md.

make attacks                         all floods
make attacks ARGS="gob pings"        those with these words in their names, printed only
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import grpc.aio

from adsum.proto import user_pb2 as pb
from bench import machine
from bench.attackers import Attackers, Done
from tests.e2e.rpc import METADATA
from tests.support.client import Client, client, metrics
from tests.support.floods import FLOODS
from tests.support.redis import redis_server
from tests.support.service import RunningService, running_service

ATTACKERS = 8
FOR_S = 15.0
CALLS_S, TOGGLES_S, LOOKS_S = 20, 5, 5
MOST_MS, MOST_LIVEZ_MS = 100, 500
LEASE_LOST = "the lease of"
RESULTS = Path(__file__).parent / "ATTACKS.md"

INTRODUCTION = f"""# Under attack

<!-- Written by `make attacks`. -->

What well-behaved clients notice while {ATTACKERS} others flood the service for {FOR_S:.0f} s, each in a process of
its own: it sends as fast as the service takes, reads what is answered, and connects again when it is told to go.
Attackers, victims, the service (one process, Redis engine) and Redis share the machine's cores, so a part of each
figure is waiting for a core.

- *caller*: getUserStatus, {CALLS_S} times a second, on one connection
- *watcher*: from the call that sets a user online or offline, {TOGGLES_S} times a second, to the push on a WebSocket
- *livez*: `GET /livez` on a new connection, {LOOKS_S} times a second
- each in ms: median · 95th percentile · longest; aims: 95 % of calls and pushes within {MOST_MS} ms, livez
  within {MOST_LIVEZ_MS} ms, no lease lost
- *failed*: calls, pushes and probes of the victims that failed
- *leases*: how often the service's lease was lost
- *told to go*: connections of attackers that were closed with a reason
"""


@dataclass
class Seen:
    """What the victims noticed, in milliseconds."""

    calls: list[float] = field(default_factory=list)
    pushes: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    failed: int = 0
    leases_lost: int = 0

    def met(self) -> bool:
        """Whether it is what was aimed at."""
        good = _p95(self.calls) < MOST_MS and _p95(self.pushes) < MOST_MS and max(self.looks) < MOST_LIVEZ_MS
        return good and not self.leases_lost and not self.failed


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1] if len(times) > 1 else float("inf")


def _text(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} · {_p95(times):.1f} · {max(times):.0f}" if times else "none"


Work = Callable[[int], Awaitable[None]]


class Victims:
    """A caller, a watcher, and who asks `/livez`, at one service; `run` has them work for so long."""

    def __init__(self, service: RunningService, channel: grpc.aio.Channel, watcher: Client) -> None:
        self._service = service
        self._watcher = watcher
        self._get = channel.unary_unary(
            "/openim.user.user/getUserStatus", pb.getUserStatusReq.SerializeToString, pb.getUserStatusResp.FromString
        )
        self._set = channel.unary_unary(
            "/openim.user.user/setUserOnlineStatus",
            pb.setUserOnlineStatusReq.SerializeToString,
            pb.setUserOnlineStatusResp.FromString,
        )

    async def run(self, for_s: float) -> Seen:
        """What they notice."""
        seen = Seen()
        lost = sum(LEASE_LOST in line for line in self._service.log)
        ends_s = time.perf_counter() + for_s
        await asyncio.gather(
            self._regularly(CALLS_S, ends_s, seen, seen.calls, self._call),
            self._regularly(TOGGLES_S, ends_s, seen, seen.pushes, self._toggle),
            self._regularly(LOOKS_S, ends_s, seen, seen.looks, self._look),
        )
        seen.leases_lost = sum(LEASE_LOST in line for line in self._service.log) - lost
        return seen

    async def _regularly(self, rate: int, ends_s: float, seen: Seen, times: list[float], work: Work) -> None:
        """Do work at a rate; one that is late is counted from when it should have begun."""
        due_s, number = time.perf_counter(), 0
        while due_s < ends_s:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            try:
                await work(number)
            except (grpc.aio.AioRpcError, aiohttp.ClientError, TimeoutError, AssertionError) as error:
                seen.failed += 1
                print(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
            times.append((time.perf_counter() - due_s) * 1_000)
            due_s, number = due_s + 1 / rate, number + 1

    async def _call(self, number: int) -> None:
        await self._get(pb.getUserStatusReq(userIDs=[f"u{number % 50}"]), metadata=METADATA, timeout=60)

    async def _toggle(self, number: int) -> None:
        online, offline = ([1], []) if number % 2 == 0 else ([], [1])
        edit = pb.userOnlineStatus(userID="toggled", online=online, offline=offline)
        await self._set(pb.setUserOnlineStatusReq(status=[edit]), metadata=METADATA, timeout=60)
        await self._watcher.hears("toggled", *online)

    async def _look(self, _number: int) -> None:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self._service.http}/livez") as response:
            assert response.status == 200


@asynccontextmanager
async def _served() -> AsyncIterator[tuple[RunningService, Victims]]:
    async with (
        redis_server() as redis,
        running_service(f"--store={redis.url}") as service,
        grpc.aio.insecure_channel(service.grpc) as channel,
        client(service, "watcher") as watcher,
    ):
        await watcher.watch("toggled")
        yield service, Victims(service, channel, watcher)


async def _measure(kind: str | None) -> tuple[Seen, Done]:
    async with _served() as (service, victims):
        await victims.run(1)
        if kind is None:
            return await victims.run(FOR_S / 3), Done()
        address = getattr(service, FLOODS[kind].port)
        tokens = {f"attacker {number}": service.token(f"attacker {number}") for number in range(ATTACKERS)}
        attackers = Attackers(kind, address, tokens, FOR_S)
        # Those of the Python processes that start are no part of the attack.
        await asyncio.sleep(2)
        seen = await victims.run(FOR_S - 3)
        done = await asyncio.to_thread(attackers.end)
        await metrics(service)
        return seen, done


def _row(kind: str | None, seen: Seen, done: Done) -> str:
    cells = (
        kind or "none",
        _text(seen.calls),
        _text(seen.pushes),
        _text(seen.looks),
        str(seen.failed),
        str(seen.leases_lost),
        f"{done.sent_bytes / 1e6 / FOR_S:,.2f} MB/s",
        f"{done.connections:,}",
        f"{done.told_to_go:,}",
        "yes" if seen.met() else "**no**",
    )
    return f"| {' | '.join(cells)} |"


HEAD = """
| flood | caller | watcher | livez | failed | leases | taken | connections | told to go | met |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> int:
    """The exit code: 1 if an aim is not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("words", nargs="*", help="only floods with one of these words in their names")
    words = parser.parse_args().words
    kinds = [kind for kind in FLOODS if not words or any(word in kind for word in words)]
    facts = {name: text for name, text in machine.facts("bench/attackers.py").items() if "byte" not in name}
    facts["when"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average at the start {machine.load_average():.2f}"
    lines = [INTRODUCTION, *(f"- {name}: {text}" for name, text in facts.items()), HEAD]
    print(HEAD, flush=True)
    met = True
    for kind in (None, *kinds):
        seen, done = asyncio.run(_measure(kind))
        met = met and seen.met()
        lines.append(_row(kind, seen, done))
        print(lines[-1], flush=True)
    if not words:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
