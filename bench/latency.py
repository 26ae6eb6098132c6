"""From a client's connect (its handshake sent) or disconnect to its watchers' receipt, on an idle service.

Client and service are two processes over loopback. The time from connect spans the
whole way: TCP and WebSocket handshake, token check, registration, the write to the
store, the feed, the push, the watcher's decoding.
"""

import asyncio
from statistics import median, quantiles
from time import perf_counter

from tests.support.crowd import Member
from tests.support.service import RunningService, running_service

ROUNDS = 300
WATCHERS = (1, 100)


async def main() -> None:
    """Measure and print."""
    async with running_service() as service:
        print(f"\nconnect or disconnect to the last watcher's receipt, embedded store, {ROUNDS} rounds, ms")
        print(f"{'watchers':>9} {'':>11} {'median':>8} {'p99':>8} {'most':>8}")
        for count in WATCHERS:
            came, went = await measure(service, count)
            for name, times in (("connect", came), ("disconnect", went)):
                p99 = quantiles(times, n=100)[98]
                print(f"{count:>9} {name:>11} {median(times):>8.2f} {p99:>8.2f} {max(times):>8.2f}")


async def measure(service: RunningService, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds until the last of `count` watchers has heard: of connects, of disconnects."""
    subject = f"subject-{count}"
    told = asyncio.Event()
    watchers = [Member(f"watcher-{count}-{number}") for number in range(count)]
    expected: tuple[int, ...] = ()

    def check() -> None:
        if all(watcher.heard.get(subject) == expected for watcher in watchers):
            told.set()

    for watcher in watchers:
        await watcher.connect(service.url(watcher.user_id, 5))
        watcher.watch([subject])
        watcher.on_change = check
    await told.wait()

    url, came, went = service.url(subject), [], []
    for _ in range(ROUNDS):
        told.clear()
        expected = (1,)
        start = perf_counter()
        member = await Member(subject).connect(url)
        await told.wait()
        came.append((perf_counter() - start) * 1000)
        told.clear()
        expected = ()
        start = perf_counter()
        member.drop()
        await told.wait()
        went.append((perf_counter() - start) * 1000)
        await asyncio.sleep(0.002)
    for watcher in watchers:
        watcher.drop()
    return came, went
