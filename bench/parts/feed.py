"""What the feed costs: to hear, to publish, on the wire; and what nodes and watches cost beside it.

These are the unit costs that `bench.capacity` needs and no other part measures. Entries are written
by scripts, as gateways write them, one at a time (apart) or many at once (together): what comes
together shares trips through the kernel, so a busy system pays less for each.

- `feed.node.*`: a service that hears entries of so many changes of users whom nobody watches.
- `feed.publish.*`: Redis, with one entry of one change and so many subscribers.
- `feed.wire.*`: bytes that a subscriber is sent for an entry of so many changes.
- `feed.upkeep.*`: Redis, for what an idle node asks in a second, with so many leases in the store.
- `feed.watch.*`: memory of a node for the first watch of a user there, and for each further one.
"""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from time import perf_counter, process_time

from adsum.adapters.redis.feed import CHANNEL
from adsum.adapters.redis.scripts import keys_of
from adsum.adapters.redis.store import RedisStore
from adsum.core.known import KnownTable, Subscriber
from bench import machine, reference
from bench.entries import FIRST_USER, HOUR_MS, MOST_CHANGES, PARTITIONS, PREFIX, PROCESS, writer
from bench.record import Phase, Record
from bench.service import started
from tests.support.redis import RedisServer, eventually, redis_server

CHANGES = (1, 10, MOST_CHANGES)
"""In an entry."""

SUBSCRIBERS = (1, 4, 16, 64)
QUICK_SUBSCRIBERS = (1, 16)
LEASES = (1, 64, 512)
QUICK_LEASES = (1, 64)

RENEWED_EACH = 5
"""A node looks at versions and sweeps once a second, and renews its lease each 5 s."""

WATCHERS = 100
WATCHED = 200

ROUNDS = 10

END = b"the end of what was published"


async def measure(record: Record) -> None:
    """Measure all of it."""
    async with record.step("feed.node", 60), started("redis") as target, writer(target.redis) as entries:
        assert target.redis is not None
        pids = machine.family(target.service.process.pid)
        meter = Meter(pids, target.redis.pid)
        await meter.rest()
        with machine.pinned(machine.cores_of_others(1)):
            for changes in CHANGES:
                for manner, write in (("apart", entries.apart), ("together", entries.together)):
                    phase = await meter.work(partial(write, changes, lasting_s(record)))
                    record.cost(f"feed.node.{manner}.{changes}", "entry", phase, target.load_cores)
    async with record.step("feed.publish", 60):
        for subscribers in QUICK_SUBSCRIBERS if record.quick else SUBSCRIBERS:
            await measure_publishing(record, subscribers)
    async with record.step("feed.wire", 30):
        await measure_wire(record)
    async with record.step("feed.upkeep", 60):
        await measure_upkeep(record)
    async with record.step("feed.watch", 30):
        measure_watches(record)


def lasting_s(record: Record) -> float:
    """How long entries are written for one figure."""
    return 0.6 if record.quick else 1.5


async def measure_publishing(record: Record, subscribers: int) -> None:
    """With so many subscribers, of which the writer is one."""
    async with redis_server() as redis, writer(redis) as entries, tapped(redis, subscribers - 1):
        meter = Meter([], redis.pid)
        for manner, write in (("apart", entries.apart), ("together", entries.together)):
            phase = await meter.work(partial(write, 1, lasting_s(record)))
            record.cost(f"feed.publish.{manner}.{subscribers}", "entry", phase, len(machine.cores()))


async def measure_wire(record: Record) -> None:
    """By a subscriber that only counts."""
    async with redis_server() as redis, writer(redis) as entries, tapped(redis, 1) as (tap,):
        before = await heard_until(redis, tap)
        marker = await heard_until(redis, tap) - before
        for changes in CHANGES:
            before = await heard_until(redis, tap)
            for _ in range(ROUNDS):
                await entries.round(changes)
            heard = await heard_until(redis, tap) - before - marker
            record.figure(f"feed.wire.{changes}.bytes", heard / (ROUNDS * PARTITIONS), "B")


async def heard_until(redis: RedisServer, tap: "Tap") -> int:
    """How many bytes a subscriber has heard when it has heard all that was published before this."""
    ended = tap.wait()
    await redis.run("SPUBLISH", channels()[0], END.decode())
    await ended
    return tap.bytes


async def measure_upkeep(record: Record) -> None:
    """What nodes ask of Redis whether anything happens or not."""
    async with redis_server() as redis, writer(redis) as entries:
        meter, leases = Meter([], redis.pid), 1
        for wanted in QUICK_LEASES if record.quick else LEASES:
            while leases < wanted:
                leases += 1
                await entries.store.grant(f"{PROCESS}-{leases}", HOUR_MS)
            phase = await meter.work(partial(live, entries.store, lasting_s(record)))
            record.cost(f"feed.upkeep.{wanted}", "node-second", phase, len(machine.cores()))


async def live(store: RedisStore, lasting_s: float) -> int:
    """Do what a node does, without its pauses; how many seconds of its life were done."""
    end_s = perf_counter() + lasting_s
    for second in count(1):
        await store.versions()
        await store.sweep(f"{PROCESS}-{second}")
        if second % RENEWED_EACH == 0:
            await store.renew(PROCESS, HOUR_MS)
            if perf_counter() >= end_s:
                return second
    raise AssertionError


def measure_watches(record: Record) -> None:
    """Of the table that says who watches whom, with the IDs and the encoded states in it."""
    watches = WATCHERS * WATCHED
    first_bytes = table_bytes(watches) / watches
    record.figure("feed.watch.first.bytes", first_bytes, "B")
    further_bytes = table_bytes(WATCHED) - WATCHED * first_bytes
    record.figure("feed.watch.further.bytes", further_bytes / (watches - WATCHED), "B")


def table_bytes(universe: int) -> int:
    """Bytes of a table in which each of the watchers watches its share of so many users, one after another."""
    table = KnownTable(PARTITIONS, 0)
    watchers = [Subscriber(str(number)) for number in range(WATCHERS)]
    tracemalloc.start()
    try:
        for number, watcher in enumerate(watchers):
            # Each request has its IDs as texts of its own.
            ids = [str(FIRST_USER + (number * WATCHED + at) % universe) for at in range(WATCHED)]
            table.watch(watcher, ids)
            del ids
        for user in table.watched():
            user.learn(2, 1)
            assert user.elem
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


class Tap(asyncio.Protocol):
    """A subscriber that does nothing but count bytes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended: asyncio.Future[None] | None = None

    def wait(self) -> asyncio.Future[None]:
        """Done when it hears `END` the next time."""
        self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def data_received(self, data: bytes) -> None:
        """Count; asyncio calls this."""
        self.bytes += len(data)
        if END in data and self._ended and not self._ended.done():
            self._ended.set_result(None)


@asynccontextmanager
async def tapped(redis: RedisServer, how_many: int) -> AsyncIterator[list[Tap]]:
    """So many subscribers to all of the feed, all subscribed."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        taps: list[Tap] = []
        for _ in range(how_many):
            transport, tap = await loop.create_connection(Tap, "127.0.0.1", redis.port)
            stack.callback(transport.abort)
            taps.append(tap)
            for channel in channels():
                transport.write(b"*2\r\n$10\r\nSSUBSCRIBE\r\n" + resp(channel.encode()))
        if taps:
            # The writer's store is subscribed too.
            await eventually(partial(_subscribed, redis, how_many + 1))
        yield taps


async def _subscribed(redis: RedisServer, subscribers: int) -> bool:
    return bool((await redis.run("PUBSUB", "SHARDNUMSUB", channels()[-1]))[1] == subscribers)


def channels() -> list[str]:
    """Of all partitions."""
    return [keys_of(PREFIX, partition)[CHANNEL] for partition in range(PARTITIONS)]


def resp(text: bytes) -> bytes:
    """A text as Redis sends it."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


class Meter:
    """CPU time of a service's processes, of Redis and of this process, less what the first two use at rest."""

    def __init__(self, service: list[int], redis: int) -> None:
        self._service, self._redis = service, [redis]
        self._service_at_rest = self._redis_at_rest = 0.0

    async def rest(self) -> None:
        """Look at what they use while nothing is asked of them."""
        phase = await self.work(resting)
        self._service_at_rest = phase.service_cpu_s / phase.took_s
        self._redis_at_rest = phase.redis_cpu_s / phase.took_s

    async def work(self, work: Callable[[], Awaitable[int]]) -> Phase:
        """What it takes to do so many units of work."""
        before_us = reference.measure()
        start, own = perf_counter(), process_time()
        service, redis = machine.cpu_s(self._service), machine.cpu_s(self._redis)
        units = await work()
        if self._service:
            await self._settled()
        took_s = perf_counter() - start
        service = machine.cpu_s(self._service) - service - took_s * self._service_at_rest
        redis = machine.cpu_s(self._redis) - redis - took_s * self._redis_at_rest
        own = process_time() - own
        around_us = (before_us + reference.measure()) / 2
        return Phase(units, took_s, max(service, 0), max(redis, 0), own, 0, around_us)

    async def _settled(self) -> None:
        """Wait until the service has done what it was sent."""
        used = -1.0
        while (now := machine.cpu_s(self._service)) > used + 0.02:
            used = now
            await asyncio.sleep(0.2)


async def resting() -> int:
    """Do nothing for a while."""
    await asyncio.sleep(2)
    return 1
