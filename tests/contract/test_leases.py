"""Gateways have leases, users have not."""

import pytest

from adsum.domain.errors import LeaseLost
from adsum.ports import Store
from tests.contract.engine import LEASE_MS, Engine
from tests.contract.follower import Follower
from tests.support.world import IOS, WEB, hold_batch


async def online(store: Store) -> int:
    return (await store.census()).online


async def test_a_renewed_lease_lives_on(engine: Engine, store: Store) -> None:
    """Renewal at a third of the lease keeps it for any time."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    for _ in range(20):
        await engine.pass_time(LEASE_MS // 3)
        assert await store.renew("a", LEASE_MS)
        await store.sweep("sweep")
    assert await online(store) == 1
    await store.write_holds(hold_batch("a", 2, {"u": WEB}))


async def test_a_lease_that_ended_cannot_be_renewed(engine: Engine, store: Store) -> None:
    """Renewal says so, swept or not, and so does a write."""
    await store.grant("a", LEASE_MS)
    await engine.pass_time(LEASE_MS)
    assert not await store.renew("a", LEASE_MS)
    with pytest.raises(LeaseLost):
        await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await store.sweep("sweep")
    assert not await store.renew("a", LEASE_MS)
    with pytest.raises(LeaseLost):
        await store.write_holds(hold_batch("a", 1, {"u": IOS}))


async def test_an_unknown_holder_cannot_renew(store: Store) -> None:
    """A store that has forgotten a holder says that its lease is gone, and starts none."""
    assert not await store.renew("nobody", LEASE_MS)
    assert not await store.renew("nobody", LEASE_MS)


async def test_sweeping_an_ended_lease_tells_each_offline_once(engine: Engine) -> None:
    """A crashed gateway's users go offline, each told once; sweeping again tells nothing."""
    store = await engine.open(partitions=4)
    feed = Follower(store)
    await store.grant("a", LEASE_MS)
    users = {f"user-{i}": IOS for i in range(500)}
    await store.write_holds(hold_batch("a", 1, users))
    await engine.pass_time(LEASE_MS)
    await store.sweep("sweep-1")
    await store.sweep("sweep-2")
    assert await online(store) == 0
    for user_id in users:
        assert await feed.steps(user_id) == [(0, IOS), (IOS, 0)]
    assert {entry.op_id for entry in await feed.entries()} == {"op", "sweep-1"}


async def test_sweeping_leaves_the_living_alone(engine: Engine, store: Store, feed: Follower) -> None:
    """Only the ended holder's platforms go: what others hold of the same users stays."""
    await store.grant("dead", LEASE_MS)
    await store.grant("alive", LEASE_MS * 10)
    await store.write_holds(hold_batch("dead", 1, {"u": IOS | WEB, "v": IOS}))
    await store.write_holds(hold_batch("alive", 1, {"u": IOS, "w": WEB}))
    await engine.pass_time(LEASE_MS)
    await store.sweep("sweep")
    assert await feed.fold() == {"u": IOS, "w": WEB}
    assert await feed.steps("u") == [(0, IOS | WEB), (IOS | WEB, IOS)]


async def test_sweeping_early_takes_nothing(engine: Engine, store: Store, feed: Follower) -> None:
    """A lease is good until its end."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await engine.pass_time(LEASE_MS - 500)
    await store.sweep("sweep")
    assert await online(store) == 1
    assert len(await feed.entries()) == 1


async def test_releasing_ends_everything_at_once(store: Store, feed: Follower) -> None:
    """A gateway that gives up its lease takes its users with it, in entries that bear the operation's name."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS, "v": WEB}))
    await store.release("a", "goodbye")
    assert await online(store) == 0
    assert await feed.steps("u") == [(0, IOS), (IOS, 0)]
    assert (await feed.entries())[-1].op_id == "goodbye"
    assert not await store.renew("a", LEASE_MS)
    with pytest.raises(LeaseLost):
        await store.write_holds(hold_batch("a", 2, {"u": IOS}))


async def test_releasing_twice_or_unknown_is_nothing(store: Store, feed: Follower) -> None:
    """There is nothing left to give up the second time."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await store.release("a", "once")
    await store.release("a", "twice")
    await store.release("nobody", "never")
    assert await feed.steps("u") == [(0, IOS), (IOS, 0)]


async def test_a_lease_is_ended_for_a_successor_only_while_that_has_one(
    store: Store, engine: Engine, feed: Follower
) -> None:
    """Else the store may have lost what the successor wrote, and its users would be taken for offline."""
    await store.grant("a-1", LEASE_MS)
    await store.write_holds(hold_batch("a-1", 1, {"u": IOS}))
    with pytest.raises(LeaseLost):
        await store.release("a-1", "early", "a-2")
    assert await feed.steps("u") == [(0, IOS)]
    await store.grant("a-2", LEASE_MS)
    await store.write_holds(hold_batch("a-2", 1, {"u": IOS}))
    await store.release("a-1", "in time", "a-2")
    assert await feed.steps("u") == [(0, IOS)]
    await engine.pass_time(LEASE_MS)
    await store.sweep("sweep")
    assert await feed.steps("u") == [(0, IOS), (IOS, 0)]


async def test_releasing_an_ended_lease_still_ends_its_holds(engine: Engine, store: Store, feed: Follower) -> None:
    """Whoever comes first, the sweep or the holder itself, each offline is told once."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await engine.pass_time(LEASE_MS)
    await store.release("a", "goodbye")
    await store.sweep("sweep")
    assert await feed.steps("u") == [(0, IOS), (IOS, 0)]


async def test_a_new_incarnation_takes_over_without_an_offline(engine: Engine, store: Store, feed: Follower) -> None:
    """Written under a new name before the old one is swept, a user has no change at all."""
    await store.grant("a-1", LEASE_MS)
    await store.write_holds(hold_batch("a-1", 5, {"u": IOS}))
    await engine.pass_time(LEASE_MS)
    await store.grant("a-2", LEASE_MS)
    await store.write_holds(hold_batch("a-2", 6, {"u": IOS}))
    await store.sweep("sweep")
    assert await feed.steps("u") == [(0, IOS)]
    await store.write_holds(hold_batch("a-2", 7, {"u": 0}))
    assert await feed.steps("u") == [(0, IOS), (IOS, 0)]


async def test_a_new_incarnation_may_count_from_one(store: Store) -> None:
    """The lanes of a holder are forgotten with it, and of no concern to another name."""
    await store.grant("a-1", LEASE_MS)
    await store.write_holds(hold_batch("a-1", 100, {"u": IOS}))
    await store.release("a-1", "goodbye")
    await store.grant("a-2", LEASE_MS)
    await store.write_holds(hold_batch("a-2", 1, {"u": WEB}))
    assert [reading.mask for reading in await store.read(["u"])] == [WEB]
