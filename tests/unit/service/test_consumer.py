"""Consuming the feed: one owner a partition, every entry at least once, in order, whoever dies."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from adsum.domain.presence import TimedEdit
from adsum.service.consumer import ConsumerOptions, FeedConsumer
from adsum.service.target import Handed, Owned
from tests.support.world import IOS, WEB, ManualClock, RecordingMeter
from tests.unit.service.node import World

LEASE_MS = 10_000
QUICK = ConsumerOptions(interval_ms=2, handover_ms=60_000)


class Lease:
    """A lease that is what a test says."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.left_ms = LEASE_MS

    def held_for(self, ms: int) -> bool:
        return self.left_ms > ms


class Desk:
    """A target that keeps what it is handed until a test says it is done."""

    def __init__(self) -> None:
        self.handed: list[Handed] = []
        self.room = True
        self.at_once = False
        self.gaps: list[tuple[int, int, int]] = []

    def begin(self, owned: Owned) -> None:
        pass

    def take(self, handed: Handed) -> None:
        self.handed.append(handed)
        if self.at_once:
            handed.done()

    def lost(self, owned: Owned, position: int, version: int) -> None:
        self.gaps.append((owned.partition, position, version))

    def versions(self, partition: int = 0) -> list[int]:
        return [handed.entry.version for handed in self.handed if handed.entry.partition == partition]


class Node:
    """A consumer with its lease and target."""

    def __init__(self, world: World, name: str, options: ConsumerOptions = QUICK) -> None:
        self.lease = Lease(name)
        self.desk = Desk()
        self.meter = RecordingMeter()
        self.consumer = FeedConsumer("webhooks", world.store, self.lease, self.desk, self.meter, options)
        self.unfollow = world.store.follow(self.consumer.on_feed)
        self.world = world

    async def start(self) -> "Node":
        await self.world.truth.grant(self.lease.holder, LEASE_MS)
        await self.consumer.start()
        return self

    async def stop(self, grace_ms: int = 20_000) -> None:
        await self.consumer.stop(grace_ms)
        self.unfollow()

    async def die(self) -> None:
        """End without a word to the store."""
        self.world.store.failing = {"claim", "disown"}
        await self.stop(0)
        self.world.store.failing = set()
        await self.world.truth.release(self.lease.holder, "op")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - any condition at all
            await asyncio.sleep(0.001)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def world(clock: ManualClock) -> World:
    return World(clock, partitions=1)


@pytest.fixture
async def node(world: World) -> AsyncIterator[Node]:
    node = await Node(world, "a").start()
    yield node
    node.desk.room = node.desk.at_once = True
    for handed in node.desk.handed:
        handed.done()
    await node.stop(100)


async def write(world: World, times: int) -> None:
    for _ in range(times):
        mask = (await world.truth.read(["u"]))[0].mask
        await world.truth.write_timed("op", [TimedEdit("u", WEB if mask == IOS else IOS, IOS | WEB)])


def cursor(world: World) -> int:
    """Up to where the store knows it is done: what the next owner is told."""
    return world.truth._roles["webhooks", 0]._cursor


async def test_entries_come_as_they_happen_and_what_is_done_is_kept(world: World, node: Node) -> None:
    await write(world, 3)
    assert node.desk.versions() == [1, 2, 3]
    node.desk.handed[1].done()
    node.desk.handed[0].done()
    await until(lambda: cursor(world) == 2)
    await asyncio.sleep(0.02)
    assert cursor(world) == 2, "the third is not done"


async def test_the_next_owner_goes_on_where_the_dead_one_had_come_to(world: World) -> None:
    first = await Node(world, "a").start()
    await write(world, 4)
    for handed in first.desk.handed[:2]:
        handed.done()
    await until(lambda: cursor(world) == 2)
    second = await Node(world, "b").start()
    await first.die()
    await write(world, 1)
    await until(lambda: len(second.desk.handed) == 3)
    assert second.desk.versions() == [3, 4, 5]
    assert all(handed.owned.good for handed in second.desk.handed)
    assert not any(handed.owned.good for handed in first.desk.handed)
    second.desk.at_once = True
    for handed in second.desk.handed:
        handed.done()
    await second.stop()


async def test_partitions_are_shared_and_each_has_one_owner(clock: ManualClock) -> None:
    """A second node gets its half once what is under way is done; a third its third; the leaver's go to the others."""
    world = World(clock, partitions=12)
    nodes = []
    for name in "abc":
        nodes.append(await Node(world, name).start())
        for node in nodes:
            node.desk.at_once = True
        share = 12 // len(nodes)
        await until(lambda share=share: all(len(node.consumer.owned) == share for node in nodes))  # type: ignore[misc]
        assert sorted(p for node in nodes for p in node.consumer.owned) == list(range(12))
    await nodes.pop().stop()
    await until(lambda: sorted(p for node in nodes for p in node.consumer.owned) == list(range(12)))
    for node in nodes:
        await node.stop()


async def test_a_partition_is_handed_over_once_what_is_under_way_is_done(clock: ManualClock) -> None:
    world = World(clock, partitions=2)
    first = await Node(world, "a").start()
    await world.truth.write_timed("op", [TimedEdit(f"user-{i}", IOS, 0) for i in range(10)])
    second = await Node(world, "b").start()
    await asyncio.sleep(0.05)
    assert len(first.consumer.owned) == 2
    for handed in first.desk.handed:
        assert handed.owned.good
        handed.done()
    await until(lambda: len(second.consumer.owned) == 1)
    assert second.desk.handed == [], "nothing is told twice"
    await first.stop()
    await second.stop()


async def test_a_full_target_is_handed_nothing_until_it_has_room(world: World, node: Node) -> None:
    await write(world, 1)
    node.desk.room = False
    await write(world, 5)
    assert node.desk.versions() == [1]
    assert node.consumer.behind == 1
    await asyncio.sleep(0.02)
    assert node.desk.versions() == [1]
    node.desk.room = True
    node.desk.handed[0].done()
    await until(lambda: node.desk.versions() == [1, 2, 3, 4, 5, 6])
    await write(world, 1)
    assert node.desk.versions()[-1] == 7


async def test_a_lost_entry_is_fetched(world: World, node: Node) -> None:
    """Whether another comes after it, or it was the last of all."""
    world.store.drops = lambda entry: entry.version in {2, 5}
    await write(world, 3)
    await until(lambda: node.desk.versions() == [1, 2, 3])
    await write(world, 2)
    await until(lambda: node.desk.versions() == [1, 2, 3, 4, 5])


async def test_a_store_that_fails_is_asked_again(
    world: World, node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adsum.service.consumer.RETRY_S", 0.001)
    world.store.failing = {"changes_since"}
    world.store.drops = lambda entry: entry.version == 1
    await write(world, 2)
    await until(lambda: world.store.calls["changes_since"] > 3)
    world.store.failing = set()
    await until(lambda: node.desk.versions() == [1, 2])
    assert "fetching changes" in caplog.text


async def test_what_is_no_longer_kept_is_passed_over_and_told(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(clock, partitions=1, history=5)
    node = await Node(world, "a").start()
    await write(world, 1)
    node.desk.room = False
    await write(world, 20)
    node.desk.room = True
    with caplog.at_level(logging.WARNING, "adsum"):
        node.desk.handed[0].done()
        await until(lambda: bool(node.desk.gaps))
    assert node.desk.gaps == [(0, 1, 21)]
    assert node.meter.lost == ["webhooks"]
    assert "no longer kept" in caplog.text
    await write(world, 1)
    await until(lambda: node.desk.versions() == [1, 22])
    node.desk.handed[1].done()
    await node.stop()


async def test_nothing_is_begun_in_the_last_of_a_lease(world: World) -> None:
    """It could arrive after what the next owner does."""
    node = Node(world, "a", ConsumerOptions(interval_ms=2, handover_ms=60_000, margin_ms=500))
    await node.start()
    await write(world, 1)
    found = []
    for left_ms in (LEASE_MS, 501, 500):
        node.lease.left_ms = left_ms
        found.append(node.desk.handed[0].owned.good)
    assert found == [True, True, False]
    await node.stop()


async def test_one_whose_lease_is_not_good_does_nothing(world: World, node: Node) -> None:
    """What it was handed is not its to do; with a good lease it begins again at the cursor."""
    await write(world, 2)
    node.lease.left_ms = 0
    assert not node.desk.handed[0].owned.good
    await write(world, 1)
    assert node.desk.versions() == [1, 2]
    node.lease.left_ms = LEASE_MS
    assert not node.desk.handed[0].owned.good
    await until(lambda: node.desk.versions() == [1, 2, 1, 2, 3])
    assert node.desk.handed[-1].owned.good


async def test_a_new_name_goes_on_with_what_the_old_one_had(world: World, node: Node) -> None:
    await write(world, 1)
    await world.truth.release("a", "op")
    node.lease.holder = "a2"
    await world.truth.grant("a2", LEASE_MS)
    await until(lambda: node.desk.versions() == [1, 1])
    assert [handed.owned.good for handed in node.desk.handed] == [False, True]


async def test_one_that_was_superseded_without_knowing_stops(world: World, node: Node) -> None:
    """The store says so, whatever this node believes of its lease."""
    await write(world, 1)
    await world.truth.release("a", "op")
    await until(lambda: not node.consumer.owned)
    assert not node.desk.handed[0].owned.good


async def test_stopping_waits_until_all_is_done(world: World) -> None:
    """Also what the feed has not brought."""
    node = await Node(world, "a").start()
    world.store.drops = lambda entry: entry.version == 2
    await write(world, 2)
    stopping = asyncio.create_task(node.stop())
    await until(lambda: len(node.desk.handed) == 2)
    node.desk.handed[0].done()
    await asyncio.sleep(0.02)
    assert not stopping.done()
    node.desk.handed[1].done()
    await stopping
    assert cursor(world) == 2
    assert not node.consumer.owned


async def test_stopping_leaves_what_cannot_be_done_to_the_next(world: World, caplog: pytest.LogCaptureFixture) -> None:
    node = await Node(world, "a").start()
    await write(world, 2)
    node.desk.handed[0].done()
    with caplog.at_level(logging.WARNING, "adsum"):
        await node.stop(1)
    assert "not all could be done" in caplog.text
    other = await Node(world, "b").start()
    await until(lambda: other.desk.versions() == [2])
    other.desk.handed[0].done()
    await other.stop()
