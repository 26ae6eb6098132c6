"""The relay: the feed whole and in order, whatever gets lost on the way."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adsum.domain.errors import StoreError
from adsum.domain.presence import FeedEntry, TimedEdit
from adsum.service.relay import Relay
from tests.support.faulty import FaultyStore
from tests.support.waiting import turns, until
from tests.support.world import IOS, WEB, ManualClock, RecordingMeter, fold
from tests.unit.service.node import World


class Follow:
    """A relay and what it passed on."""

    def __init__(self, store: FaultyStore, look_interval_ms: int = 3_600_000, grace_ms: int = 0) -> None:
        self.store = store
        self.meter = RecordingMeter()
        self.heard: list[FeedEntry] = []
        self.also_heard: list[FeedEntry] = []
        self.resynced: list[int] = []
        self.relay = Relay(
            store,
            [self.heard.append, self.also_heard.append],
            self.resync,
            self.meter,
            look_interval_ms,
            grace_ms=grace_ms,
        )

    async def resync(self, partition: int, *, restarted: bool) -> None:  # noqa: ARG002 - the relay's protocol
        self.resynced.append(partition)
        await self.store.read(["u"])

    def versions(self, partition: int = 0) -> list[int]:
        return [entry.version for entry in self.heard if entry.partition == partition]


@pytest.fixture
def world() -> World:
    return World(ManualClock(), partitions=1, history=8)


@pytest_asyncio.fixture
async def follow(world: World) -> AsyncIterator[Follow]:
    follow = Follow(world.store)
    await follow.relay.start()
    yield follow
    await follow.relay.stop()


async def write(world: World, times: int = 1) -> None:
    """Make so many entries."""
    for _ in range(times):
        mask = WEB if (await world.truth.read(["u"]))[0].mask == IOS else IOS
        await world.truth.write_timed("op", [TimedEdit("u", mask, IOS | WEB)])


async def test_entries_pass_on_at_once_to_every_listener(world: World, follow: Follow) -> None:
    """What arrives in order is heard before the write that made it returns."""
    await write(world, 5)
    assert follow.heard == follow.also_heard == world.entries
    assert follow.relay.behind == 0
    assert follow.meter.gaps == 0


async def test_a_listener_that_fails_costs_the_others_nothing(world: World) -> None:
    """They hear all, the write that made the entry succeeds, and what the failed one keeps is read anew."""
    follow = Follow(world.store)

    def fail(_entry: FeedEntry) -> None:
        raise RuntimeError("a defect")

    follow.relay = Relay(world.store, [fail, follow.heard.append], follow.resync, follow.meter)
    await follow.relay.start()
    await write(world, 2)
    assert follow.heard == world.entries
    await until(lambda: follow.resynced == [0, 0])
    await follow.relay.stop()


async def test_only_what_comes_after_the_start_is_told(world: World) -> None:
    """A relay begins with the present, not with history."""
    await write(world, 3)
    follow = Follow(world.store)
    await follow.relay.start()
    await write(world)
    assert follow.versions() == [4]
    await follow.relay.stop()


@pytest.mark.parametrize("answered_before", [True, False])
async def test_entries_that_come_while_it_starts_are_not_lost(world: World, *, answered_before: bool) -> None:
    """Between the following and the versions it starts from, nothing falls through and nothing is told twice."""
    await write(world, 2)
    follow = Follow(world.store)
    held = world.store.hold("versions")
    starting = asyncio.create_task(follow.relay.start())
    await held.arrived.wait()
    if answered_before:
        await held.perform()
        await write(world, 2)
    else:
        await write(world, 2)
        await held.perform()
    held.answer()
    await starting
    await write(world)
    assert follow.versions() == ([3, 4, 5] if answered_before else [5])
    await follow.relay.stop()


async def test_a_hole_is_filled_from_the_store(world: World, follow: Follow) -> None:
    """Lost entries are fetched, in order, each once, and the feed goes on."""
    world.store.drops = lambda entry: entry.version in {2, 3, 6}
    await write(world, 5)
    await until(lambda: not follow.relay.behind)
    await write(world, 3)
    await until(lambda: not follow.relay.behind)
    assert follow.heard == follow.also_heard == world.entries
    assert follow.meter.gaps == 2
    assert follow.resynced == []


async def test_what_arrives_during_a_catch_up_is_told_once(world: World, follow: Follow) -> None:
    """Entries that come live while the hole is being filled are in what was fetched, or are fetched next."""
    world.store.drops = lambda entry: entry.version == 1
    before, after = world.store.hold("changes_since"), world.store.hold("changes_since")
    await write(world, 2)
    await before.arrived.wait()
    await write(world)
    await before.perform()
    await write(world)
    before.answer()
    await after.arrived.wait()
    assert follow.versions() == [1, 2, 3]
    assert follow.relay.behind == 1
    after.answer()
    await until(lambda: not follow.relay.behind)
    assert follow.versions() == [1, 2, 3, 4]


async def test_late_and_doubled_entries_are_ignored(world: World, follow: Follow) -> None:
    """An entry that was fetched and then arrives is old news."""
    world.store.feed_held = True
    await write(world)
    world.store.feed_held = False
    await write(world, 2)
    await until(lambda: not follow.relay.behind)
    world.store.deliver_feed()
    await write(world)
    assert follow.heard == world.entries


@pytest.mark.parametrize("fault", ["failing", "losing", "broken"])
async def test_a_catch_up_goes_on_until_the_store_answers(world: World, follow: Follow, fault: str) -> None:
    """While the store fails, the feed is behind and says so; then it is whole."""
    getattr(world.store, fault).add("changes_since")
    world.store.drops = lambda entry: entry.version == 1
    await write(world, 2)
    await until(lambda: world.store.calls["changes_since"] > 3)
    assert follow.relay.behind == 1
    assert follow.heard == []
    await write(world)
    getattr(world.store, fault).clear()
    await until(lambda: not follow.relay.behind)
    assert follow.heard == world.entries


async def test_what_is_no_longer_kept_is_read_anew(world: World, follow: Follow) -> None:
    """With the missing entries trimmed, the partition is read anew, and the feed goes on after it."""
    world.store.drops = lambda entry: entry.version < 20
    await write(world, 20)
    await until(lambda: not follow.relay.behind)
    assert follow.resynced == [0]
    await write(world, 2)
    assert follow.versions() == [21, 22]


@pytest_asyncio.fixture
async def patient(world: World) -> AsyncIterator[Follow]:
    """A follower that gives others an hour to write again what the store has lost."""
    follow = Follow(world.store, grace_ms=3_600_000)
    await follow.relay.start()
    yield follow
    await follow.relay.stop()


async def test_what_was_only_trimmed_is_read_anew_at_once(world: World, patient: Follow) -> None:
    """Nobody has anything to write again where the store has lost nothing."""
    world.store.drops = lambda entry: entry.version < 20
    await write(world, 20)
    await until(lambda: not patient.relay.behind)
    assert patient.resynced == [0]


async def waits(world: World, patient: Follow) -> None:
    """Wait for the follower to have found out that it must wait."""
    asked = world.store.calls["versions"]
    await until(lambda: world.store.calls["versions"] > asked + 1)
    await turns()
    assert patient.relay.behind == 1
    assert patient.resynced == []


async def test_after_a_loss_others_have_the_time_to_write_again(world: World, patient: Follow) -> None:
    """Before that those not yet written would be taken for offline."""
    patient.relay._lost()
    world.store.drops = lambda entry: entry.version < 20
    await write(world, 20)
    await waits(world, patient)


async def test_while_the_feed_is_interrupted_a_loss_may_still_be_told(world: World, patient: Follow) -> None:
    """Who listens to no server can't know that it is another one."""
    world.store.session = 0
    world.store.drops = lambda entry: entry.version < 20
    await write(world, 20)
    await waits(world, patient)


async def test_an_entry_after_an_older_version_than_the_one_seen_is_of_another_past(
    world: World, patient: Follow
) -> None:
    """The store was emptied, say, and was written to again: it need not have been interrupted for that."""
    await write(world, 3)
    world.store.drops = lambda _: True
    await write(world, 20)
    patient.relay._arrived(FeedEntry(0, 0, 23, "op", ()))
    await waits(world, patient)


async def test_the_versions_are_asked_for_all_partitions_at_once() -> None:
    """However many must be read anew at the same moment."""
    world = World(ManualClock(), partitions=64)
    follow = Follow(world.store)
    await follow.relay.start()
    asked = world.store.calls["versions"]
    follow.relay.read_lost(dict.fromkeys(range(64), 1))
    await until(lambda: sorted(follow.resynced) == list(range(64)))
    assert world.store.calls["versions"] - asked <= 4
    await follow.relay.stop()


async def test_versions_that_cannot_be_had_are_asked_for_again(world: World, follow: Follow) -> None:
    world.store.failing.add("versions")
    asked = world.store.calls["versions"]
    follow.relay.read_lost({0: 1})
    await until(lambda: world.store.calls["versions"] > asked + 2)
    assert follow.resynced == []
    world.store.failing.clear()
    await until(lambda: follow.resynced == [0])


async def test_reading_anew_loses_nothing_that_happens_meanwhile(world: World, follow: Follow) -> None:
    """Entries made while the partition is read anew are told after it."""
    world.store.drops = lambda entry: entry.version < 20
    held = world.store.hold("read")
    await write(world, 20)
    await held.arrived.wait()
    await write(world, 2)
    held.answer()
    await until(lambda: not follow.relay.behind)
    assert follow.resynced == [0]
    assert follow.versions() == [21, 22]


async def test_reading_anew_is_tried_again(world: World, follow: Follow) -> None:
    """A store that fails during it is asked until it answers."""
    world.store.failing.add("read")
    world.store.drops = lambda entry: entry.version < 20
    await write(world, 20)
    await until(lambda: len(follow.resynced) > 3)
    assert follow.relay.behind == 1
    world.store.failing.clear()
    await until(lambda: not follow.relay.behind)
    await write(world)
    assert follow.versions() == [21]


async def test_a_feed_that_runs_ahead_of_the_store_does_not_spin(world: World, follow: Follow) -> None:
    """Told of an entry that the store asked does not have yet, the relay waits for it without hogging the loop."""
    world.store.drops = lambda _: True
    follow.relay._arrived(FeedEntry(0, 1, 2, "op", ()))
    await turns()
    assert world.store.calls["changes_since"] <= 2
    await write(world, 2)
    await until(lambda: not follow.relay.behind)
    assert follow.versions() == [1, 2]


async def test_partitions_are_caught_up_apart() -> None:
    """One partition's hole holds no other back."""
    world = World(ManualClock(), partitions=8)
    follow = Follow(world.store)
    await follow.relay.start()
    await world.truth.write_timed("op", [TimedEdit("first", IOS, 0)])
    behind = world.entries[0].partition
    world.store.drops = lambda entry: entry.partition == behind and entry.version == 2
    held = world.store.hold("changes_since")
    for i in range(40):
        await world.truth.write_timed("op", [TimedEdit(f"u{i}", IOS, 0)])
    await held.arrived.wait()
    assert follow.relay.behind == 1
    others = [entry for entry in world.entries if entry.partition != behind]
    assert [entry for entry in follow.heard if entry.partition != behind] == others
    held.answer()
    await until(lambda: not follow.relay.behind)
    assert fold(follow.heard) == await world.masks()
    await follow.relay.stop()


async def test_online_and_offline_are_counted_once_each(world: World, follow: Follow) -> None:
    """A change of platforms is neither; the same entry told twice is counted once."""
    world.store.drops = lambda entry: entry.version == 2
    for online, offline in ((IOS, 0), (WEB, IOS), (0, WEB)):
        await world.truth.write_timed("op", [TimedEdit("u", online, offline)])
    await until(lambda: not follow.relay.behind)
    assert (follow.meter.online, follow.meter.offline) == (1, 1)


async def test_a_stopped_relay_is_silent(world: World) -> None:
    """It hears no more, and gives up the catch-up under way."""
    follow = Follow(world.store)
    await follow.relay.start()
    world.store.drops = lambda entry: entry.version == 1
    held = world.store.hold("changes_since")
    await write(world, 2)
    await held.arrived.wait()
    await follow.relay.stop()
    await write(world)
    assert follow.heard == []
    assert not follow.relay._tasks


async def test_a_store_that_fails_at_the_start_is_told_to_whoever_starts(world: World) -> None:
    """Starting raises; stopping after that is quiet."""
    follow = Follow(world.store)
    world.store.failing.add("versions")
    with pytest.raises(StoreError):
        await follow.relay.start()
    await follow.relay.stop()


@pytest_asyncio.fixture
async def looking(world: World) -> AsyncIterator[Follow]:
    """A follower that looks at the versions all the time."""
    follow = Follow(world.store, look_interval_ms=1)
    await follow.relay.start()
    yield follow
    await follow.relay.stop()


async def test_a_last_entry_that_is_lost_is_noticed(world: World, looking: Follow) -> None:
    """An entry lost with no other to follow it is found out all the same: the versions show it."""
    world.store.drops = lambda _: True
    await write(world)
    await until(lambda: looking.heard == world.entries)


async def test_a_store_that_came_back_empty_is_followed_from_its_start(world: World, looking: Follow) -> None:
    """After the store forgot everything it is read anew, and its entries are heard although their versions are low."""
    await write(world, 5)
    emptied = World(ManualClock(), partitions=1)
    world.store._store = emptied.truth
    emptied.truth.follow(looking.relay._arrived)
    await emptied.truth.write_timed("op", [TimedEdit("u", IOS, 0)])
    await until(lambda: bool(looking.resynced) and not looking.relay.behind)
    await emptied.truth.write_timed("op", [TimedEdit("u", WEB, 0)])
    await until(lambda: looking.heard[-1] == emptied.entries[-1])


async def test_a_feed_is_sound_from_its_start_on(world: World) -> None:
    """Before it, there is no telling."""
    follow = Follow(world.store)
    assert follow.relay.sound() is None
    await follow.relay.start()
    cursor = follow.relay.sound()
    assert cursor is not None
    await write(world)
    assert cursor.version(0) == 1
    assert follow.relay.sound() is cursor
    await follow.relay.stop()


async def test_a_lost_connection_puts_all_in_doubt_until_looked_at(world: World) -> None:
    """While it is lost, and when it is found again: entries may have been lost in between."""
    follow = Follow(world.store, look_interval_ms=5)
    await follow.relay.start()
    world.store.session = 0
    await looked(world)
    assert follow.relay.sound() is None
    held = world.store.hold("versions")
    await held.arrived.wait()
    world.store.session = 2
    assert follow.relay.sound() is None
    held.answer()
    await until(follow.relay.sound)
    await follow.relay.stop()


async def looked(world: World) -> None:
    """Wait for a look to be over."""
    seen = world.store.calls["versions"]
    await until(lambda: world.store.calls["versions"] > seen + 1)


async def test_a_look_from_before_the_connection_was_found_again_ends_no_doubt(world: World) -> None:
    """It says nothing of entries that got lost after it."""
    follow = Follow(world.store, look_interval_ms=5)
    await follow.relay.start()
    held = world.store.hold("versions")
    await held.perform()
    world.store.session = 2
    after = world.store.hold("versions")
    held.answer()
    await after.arrived.wait()
    assert follow.relay.sound() is None
    after.answer()
    await until(follow.relay.sound)
    await follow.relay.stop()


async def test_without_looks_the_feed_is_in_doubt(world: World) -> None:
    """While the store does not answer, nobody knows what it has."""
    follow = Follow(world.store, look_interval_ms=5)
    await follow.relay.start()
    world.store.failing.add("versions")
    await until(lambda: follow.relay.sound() is None)
    world.store.failing.clear()
    await until(follow.relay.sound)
    await follow.relay.stop()


async def test_an_entry_seen_and_not_heard_is_a_doubt(world: World) -> None:
    """From the look that sees it on, until it is caught up with."""
    follow = Follow(world.store, look_interval_ms=5)
    await follow.relay.start()
    world.store.drops = lambda _: True
    changes = world.store.hold("changes_since")
    await write(world)
    cursor = follow.relay._cursor
    assert cursor is not None
    await until(lambda: cursor.doubtful)
    await changes.arrived.wait()
    assert cursor.doubtful == {0}
    changes.answer()
    await until(lambda: not cursor.doubtful)
    assert follow.versions() == [1]
    await follow.relay.stop()


async def test_losses_in_quick_succession_are_read_anew_once(world: World) -> None:
    """A store that restarts faster than the grace has one reading pending a partition, not one for each restart."""
    follow = Follow(world.store, grace_ms=30)
    await follow.relay.start()
    for _ in range(20):
        follow.relay.read_lost({0: 5})
        await turns()
    await until(lambda: bool(follow.resynced))
    await follow.relay.stop()
    assert follow.resynced == [0]
    assert world.store.calls["read"] == 1
