"""The copy of presence: every state gets there, walks keep and mend it, and nothing older replaces newer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import pytest

from adsum.domain.errors import StoreError
from adsum.domain.presence import Status, TimedEdit
from adsum.service.consumer import ConsumerOptions, FeedConsumer
from adsum.service.projection import Projector, ProjectorOptions
from tests.support.world import IOS, WEB, ManualClock, RecordingMeter
from tests.unit.service.node import World

OPTIONS = ProjectorOptions(retry_min_ms=1, retry_max_ms=2)


class Copy:
    """A projection that keeps what is written; while `away` nothing is, while the gate is closed writes wait."""

    def __init__(self) -> None:
        self.users_online: dict[str, int] = {}
        self.writes: list[list[Status]] = []
        self.away = False
        self.defects = 0
        """How many writes fail as no projection may."""
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, statuses: Sequence[Status]) -> None:
        self.writes.append(list(statuses))
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.away:
            raise StoreError("away")
        if self.defects:
            self.defects -= 1
            raise RuntimeError("a defect")
        for user_id, mask in statuses:
            self.users_online[user_id] = mask

    async def users(self) -> AsyncGenerator[list[str], None]:
        if self.away:
            raise StoreError("away")
        for user_id in list(self.users_online):
            yield [user_id]

    async def close(self) -> None:
        self.closed = True

    def online(self) -> dict[str, int]:
        return {user_id: mask for user_id, mask in self.users_online.items() if mask}


class GoodLease:
    """A lease that is good."""

    holder = "a"
    held = True

    def held_for(self, _ms: int) -> bool:
        return self.held


class Node:
    """A projector, with the consumer that feeds it."""

    def __init__(self, world: World, clock: ManualClock, options: ProjectorOptions = OPTIONS) -> None:
        self.world = world
        self.copy = Copy()
        self.lease = GoodLease()
        meter = RecordingMeter()
        self.projector = Projector(world.store, self.copy, clock, meter, options, lambda: 0.5)
        quick = ConsumerOptions(interval_ms=2)
        self.consumer = FeedConsumer("projection", world.store, self.lease, self.projector, meter, quick)
        self.unfollow = world.store.follow(self.consumer.on_feed)

    async def start(self) -> None:
        await self.world.truth.grant("a", 1_000_000)
        self.projector.start()
        await self.consumer.start()

    async def stop(self) -> None:
        await self.consumer.stop(20_000)
        await self.projector.stop()
        assert self.copy.closed


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def world(clock: ManualClock) -> World:
    return World(clock)


@pytest.fixture
async def node(world: World, clock: ManualClock) -> AsyncIterator[Node]:
    node = Node(world, clock)
    await node.start()
    await until(lambda: world.store.calls["page_of"] >= world.truth.partitions)
    yield node
    node.copy.away = False
    node.copy.gate.set()
    await node.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - any condition at all
            await asyncio.sleep(0.001)


async def write(world: World, *states: tuple[str, int]) -> None:
    await world.truth.write_timed("op", [TimedEdit(user_id, mask, IOS | WEB) for user_id, mask in states])


async def test_changes_are_copied(world: World, node: Node) -> None:
    await write(world, ("u", IOS), ("v", WEB))
    await until(lambda: node.copy.online() == {"u": IOS, "v": WEB})
    await write(world, ("u", IOS | WEB), ("v", 0))
    await until(lambda: node.copy.online() == {"u": IOS | WEB})
    await until(lambda: node.projector.waiting == 0)
    assert node.projector.lag_ms == 0


async def test_users_who_are_online_already_are_copied(world: World, clock: ManualClock) -> None:
    """A new role begins at the present version: who came before it is found by walking."""
    await write(world, *((f"user-{i}", IOS) for i in range(2_500)))
    node = Node(world, clock)
    await node.start()
    await until(lambda: len(node.copy.online()) == 2_500)
    await node.stop()


async def test_changes_of_a_user_are_merged_while_a_write_is_under_way(world: World, node: Node) -> None:
    node.copy.gate.clear()
    await write(world, ("first", IOS))
    await until(lambda: len(node.copy.writes) == 1)
    clocked = node.projector.lag_ms
    for mask in (IOS, WEB, 0, IOS | WEB):
        await write(world, ("u", mask))
    assert node.projector.waiting == 2
    node.copy.gate.set()
    await until(lambda: node.copy.online() == {"first": IOS, "u": IOS | WEB})
    assert node.copy.writes[1:] == [[Status("u", IOS | WEB)]]
    assert clocked == 0


async def test_nothing_is_done_before_it_is_written(world: World, node: Node) -> None:
    """So another node writes what this one could not."""
    node.copy.away = True
    await write(world, ("u", IOS))
    await until(lambda: node.projector.trouble == "away")
    cursors = [state._cursor for state in world.truth._roles.values()]
    assert cursors == [0, 0, 0, 0]
    node.copy.away = False
    await until(lambda: node.copy.online() == {"u": IOS})
    await until(lambda: sorted(state._cursor for state in world.truth._roles.values()) == [0, 0, 0, 1])
    assert node.projector.trouble == ""


async def test_a_copy_that_was_away_gets_the_newest_state_and_is_walked(world: World, node: Node) -> None:
    """It may have come back without what it had."""
    await write(world, ("before", IOS))
    await until(lambda: node.copy.online() == {"before": IOS})
    node.copy.away = True
    for mask in (IOS, 0, WEB):
        await write(world, ("u", mask))
        await until(lambda: node.projector.trouble != "")
    node.copy.users_online.clear()
    node.copy.away = False
    await until(lambda: node.copy.online() == {"before": IOS, "u": WEB})


async def test_each_partition_is_walked_again_in_time(world: World, node: Node, clock: ManualClock) -> None:
    """What nobody changes would expire otherwise; what was lost meanwhile is mended."""
    await write(world, ("u", IOS), ("v", WEB))
    await until(lambda: node.projector.waiting == 0)
    node.copy.users_online.clear()
    clock.advance(OPTIONS.renew_ms)
    node.projector._walk.set()
    await until(lambda: node.copy.online() == {"u": IOS, "v": WEB})


async def test_what_is_read_never_replaces_what_the_feed_told_since(
    world: World, node: Node, clock: ManualClock
) -> None:
    await write(world, ("u", IOS))
    await until(lambda: node.copy.online() == {"u": IOS})
    pages = [world.store.hold("page_of") for _ in range(world.truth.partitions)]
    clock.advance(OPTIONS.renew_ms)
    node.projector._walk.set()
    for page in pages:
        await page.perform()
        if page is pages[0]:
            await write(world, ("u", 0))
            await until(lambda: node.copy.online() == {})
        page.answer()
    await until(lambda: world.store.calls["page_of"] == 2 * world.truth.partitions)
    await asyncio.sleep(0.02)
    assert node.copy.online() == {}


async def test_a_full_one_takes_no_more_and_loses_nothing(world: World, clock: ManualClock) -> None:
    node = Node(world, clock, ProjectorOptions(most_waiting=10))
    await node.start()
    await until(lambda: world.store.calls["page_of"] == world.truth.partitions)
    node.copy.gate.clear()
    for i in range(300):
        await write(world, (f"user-{i}", IOS))
    await asyncio.sleep(0.01)
    assert node.projector.waiting <= 21
    node.copy.gate.set()
    await until(lambda: len(node.copy.online()) == 300)
    await node.stop()


async def test_one_that_lost_its_lease_writes_nothing(world: World, node: Node) -> None:
    """Another node may have written something newer."""
    node.copy.away = True
    await write(world, ("u", IOS))
    await until(lambda: node.projector.trouble != "")
    node.lease.held = False
    node.copy.away = False
    await until(lambda: node.projector.waiting == 0)
    assert node.copy.online() == {}
    node.lease.held = True
    await until(lambda: node.copy.online() == {"u": IOS})


async def test_a_defect_loses_nothing(world: World, node: Node) -> None:
    """What was to be written is tried again, as after any other failure."""
    node.copy.defects = 2
    await write(world, ("u", IOS))
    await until(lambda: node.copy.online() == {"u": IOS})
    await until(lambda: sorted(state._cursor for state in world.truth._roles.values()) == [0, 0, 0, 1])
    assert node.projector.trouble == ""


async def test_what_an_ownership_left_waiting_is_no_reason_to_skip_a_user(clock: ManualClock) -> None:
    """Who owns the partition anew reads the user too, or nobody would write them."""
    world = World(clock, partitions=1)
    await write(world, ("u", IOS))
    node = Node(world, clock)
    node.copy.gate.clear()
    await node.start()
    await until(lambda: len(node.copy.writes) == 1)
    clock.advance(OPTIONS.renew_ms)
    node.projector._walk.set()
    await until(lambda: "u" in node.projector._waiting.states)
    former = node.projector._waiting.states["u"].owned
    node.lease.held = False
    assert not former.good
    node.lease.held = True
    await until(lambda: node.projector._waiting.states["u"].owned.good)
    node.copy.gate.set()
    await until(lambda: len(node.copy.writes) == 2)
    assert node.copy.writes[1] == [Status("u", IOS)]
    await node.stop()


async def test_changes_that_are_no_longer_kept_are_read_anew(clock: ManualClock) -> None:
    world = World(clock, partitions=1, history=5)
    node = Node(world, clock, ProjectorOptions(most_waiting=1))
    await node.start()
    node.copy.gate.clear()
    for i in range(50):
        await write(world, (f"user-{i}", IOS))
    node.copy.gate.set()
    await until(lambda: len(node.copy.online()) == 50)
    await node.stop()


async def test_who_went_unseen_is_removed(clock: ManualClock) -> None:
    """Whoever is in the copy and not in the store, when a partition begins or has lost changes."""
    world = World(clock, partitions=2, history=5)
    node = Node(world, clock, ProjectorOptions(most_waiting=1))
    node.copy.users_online = {f"gone-{i}": IOS for i in range(20)}
    await write(world, ("here", IOS))
    await node.start()
    await until(lambda: node.copy.online() == {"here": IOS})
    node.copy.gate.clear()
    await write(world, ("first", IOS))
    await write(world, *((f"user-{i}", IOS) for i in range(50)))
    for i in range(50):
        await write(world, (f"user-{i}", 0))
    node.copy.gate.set()
    await until(lambda: node.projector.waiting == 0 and node.consumer.behind == 0)
    await until(lambda: node.copy.online() == {"here": IOS, "first": IOS})
    await node.stop()


async def test_who_went_unseen_is_removed_who_was_still_on_the_way_into_the_copy(clock: ManualClock) -> None:
    """What was read or told earlier gets there after the copy was looked at."""
    world = World(clock, partitions=1, history=5)
    await write(world, ("u", IOS))
    node = Node(world, clock)
    node.copy.gate.clear()
    await node.start()
    await until(lambda: node.copy.writes == [[Status("u", IOS)]])
    node.unfollow()
    await write(world, ("u", 0))
    for mask in (IOS, 0) * 5:
        await write(world, ("v", mask))
    # Changes were lost, so the partition is compared, then walked.
    await until(lambda: world.store.calls["page_of"] == 2)
    node.copy.gate.set()
    await until(lambda: node.projector.waiting == 0)
    assert node.copy.online() == {}
    await node.stop()
