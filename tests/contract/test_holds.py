"""What gateways hold, and when it shows."""

import pytest

from adsum.domain.errors import LeaseLost
from adsum.domain.presence import Cause, HoldBatch, HoldState
from adsum.ports import Store
from tests.contract.engine import LEASE_MS, Engine
from tests.contract.follower import Follower
from tests.support.world import ANDROID, IOS, WEB, hold_batch

EVERY_PLATFORM = sum(1 << platform_id for platform_id in range(1, 63))


async def masks(store: Store, *user_ids: str) -> list[int]:
    return [reading.mask for reading in await store.read(user_ids)]


async def test_platforms_are_the_union_over_holders(store: Store, feed: Follower) -> None:
    """A user is online on every platform that some holder holds."""
    for holder in ("a", "b"):
        await store.grant(holder, LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await store.write_holds(hold_batch("b", 1, {"u": IOS | WEB}))
    assert await masks(store, "u") == [IOS | WEB]
    assert await feed.steps("u") == [(0, IOS), (IOS, IOS | WEB)]


async def test_one_platform_on_two_holders_outlives_one_of_them(store: Store, feed: Follower) -> None:
    """Closing one of two connections of the same platform on two gateways is no offline, nor any change."""
    for holder in ("a", "b"):
        await store.grant(holder, LEASE_MS)
        await store.write_holds(hold_batch(holder, 1, {"u": IOS}))
    await store.write_holds(hold_batch("a", 2, {"u": 0}))
    assert await masks(store, "u") == [IOS]
    assert await feed.steps("u") == [(0, IOS)]
    await store.write_holds(hold_batch("b", 2, {"u": 0}))
    assert await masks(store, "u") == [0]
    assert await feed.steps("u") == [(0, IOS), (IOS, 0)]


async def test_a_write_states_what_is_held_not_what_is_added(store: Store, feed: Follower) -> None:
    """A holder's later write replaces its earlier one whole."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS | WEB}))
    await store.write_holds(hold_batch("a", 2, {"u": ANDROID}))
    assert await feed.steps("u") == [(0, IOS | WEB), (IOS | WEB, ANDROID)]


async def test_writing_the_same_again_changes_nothing(store: Store, feed: Follower) -> None:
    """A renewal is no change: no version, no entry."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    versions = await store.versions()
    await store.write_holds(hold_batch("a", 2, {"u": IOS}))
    assert await store.versions() == versions
    assert len(await feed.entries()) == 1


async def test_a_batch_that_comes_twice_counts_once(store: Store) -> None:
    """A duplicated batch does nothing, even when others have written since."""
    await store.grant("a", LEASE_MS)
    first = hold_batch("a", 1, {"u": IOS})
    await store.write_holds(first)
    await store.write_holds(hold_batch("a", 2, {"u": 0}))
    await store.write_holds(first)
    assert await masks(store, "u") == [0]


async def test_a_batch_that_comes_late_is_ignored(store: Store, feed: Follower) -> None:
    """A write that was given up and lands after a newer one of its lane undoes nothing."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 7, {"u": WEB}))
    await store.write_holds(hold_batch("a", 6, {"u": IOS}))
    assert await feed.steps("u") == [(0, WEB)]


async def test_lanes_are_numbered_apart(store: Store) -> None:
    """A lane's sequence says nothing about another lane, nor about another holder's lane."""
    for holder in ("a", "b"):
        await store.grant(holder, LEASE_MS)
    await store.write_holds(hold_batch("a", 9, {"u": IOS}, lane=0))
    await store.write_holds(hold_batch("a", 1, {"u": WEB}, lane=1))
    await store.write_holds(hold_batch("b", 1, {"u": ANDROID}, lane=0))
    assert await masks(store, "u") == [WEB | ANDROID]


async def test_a_holder_without_a_lease_is_refused(store: Store, feed: Follower) -> None:
    """A write of an unknown holder raises LeaseLost and writes nothing."""
    with pytest.raises(LeaseLost):
        await store.write_holds(hold_batch("nobody", 1, {f"u{i}": IOS for i in range(50)}))
    assert await masks(store, "u0", "u49") == [0, 0]
    assert await feed.entries() == []


async def test_a_refused_batch_does_not_use_up_its_number(store: Store) -> None:
    """A batch refused for want of a lease leaves no trace: its lane and number serve once the lease is there."""
    batch = hold_batch("a", 1, {"u": IOS})
    with pytest.raises(LeaseLost):
        await store.write_holds(batch)
    await store.grant("a", LEASE_MS)
    await store.write_holds(batch)
    assert await masks(store, "u") == [IOS]


async def test_one_who_came_and_went_unseen_leaves_nothing(store: Store, feed: Follower) -> None:
    """Writing that a user nobody holds is offline changes nothing."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": 0}))
    assert await feed.entries() == []
    assert (await store.census()).online == 0
    assert (await store.page(0, 10)).users == ()


async def test_an_empty_batch_is_fine(store: Store, feed: Follower) -> None:
    """A batch of no users writes nothing and raises nothing."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {}))
    assert await feed.entries() == []


async def test_a_batch_that_names_a_user_twice_ends_with_the_last(store: Store, feed: Follower) -> None:
    """States are taken in order, and one entry has each user once."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, [("u", IOS), ("u", WEB), ("v", IOS), ("v", 0)]))
    assert await masks(store, "u", "v") == [WEB, 0]
    assert await feed.steps("u") == [(0, WEB)]
    assert await feed.steps("v") == []


async def test_the_operation_and_each_users_cause_are_in_the_feed(store: Store, feed: Follower) -> None:
    """A change tells which write made it, which connection led to it, and whether that was in the background."""
    await store.grant("a", LEASE_MS)
    causes = (Cause("conn-1", background=True), Cause("conn-2"), Cause())
    states = tuple(HoldState(f"u{i}", IOS, cause) for i, cause in enumerate(causes))
    await store.write_holds(HoldBatch("a", 0, 1, "node-17", states))
    for i, cause in enumerate(causes):
        assert [change.cause for change in await feed.changes(f"u{i}")] == [cause]
    assert {entry.op_id for entry in await feed.entries()} == {"node-17"}


async def test_all_platforms_fit(store: Store) -> None:
    """Platform IDs 1 to 62 can all be held at once."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": EVERY_PLATFORM}))
    assert await masks(store, "u") == [EVERY_PLATFORM]
    assert (await store.census()).by_platform == dict.fromkeys(range(1, 63), 1)


async def test_a_big_batch_is_one_entry_a_partition(engine: Engine) -> None:
    """Ten thousand users in one write are all online, by one entry in each partition."""
    store = await engine.open(partitions=4)
    feed = Follower(store)
    await store.grant("a", LEASE_MS)
    users = {f"user-{i}": IOS for i in range(10_000)}
    await store.write_holds(hold_batch("a", 1, users))
    assert sorted(entry.partition for entry in await feed.entries()) == [0, 1, 2, 3]
    assert (await store.census()).online == 10_000
    assert await feed.fold() == users
    await store.write_holds(hold_batch("a", 2, dict.fromkeys(users, 0)))
    assert len(await feed.entries()) == 8
    assert (await store.census()).online == 0
    assert await feed.fold() == {}
